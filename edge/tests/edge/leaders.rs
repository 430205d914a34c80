//! Members of a room whose log three relays keep, across the death of the one that leads: nothing
//! is lost, repeated or out of order, and no controller is asked.

use tokio::time::timeout;

use super::{
    backbone::PATIENCE,
    logs::{Logs, Member, Told},
};

/// Messages of each member.
const EACH: u64 = 60;
/// Which of them are ephemeral.
const EPHEMERAL: u64 = 10;

/// Publishes `EACH` messages, a few at a time, and hears until everything of everybody is there.
async fn talk(mut member: Member, total: usize) -> Told {
    let mut told = Told::default();
    let mut sent = 0;
    let talking = async {
        while told.acked.len() < EACH as usize || told.seen.len() < total {
            while sent < EACH && sent < told.acked.len() as u64 + 4 {
                sent += 1;
                let class = match sent.is_multiple_of(EPHEMERAL) {
                    true => "ephemeral",
                    false => "log",
                };
                member.publish(sent, class).await;
            }
            let word = member.next().await;
            told.take(&word);
        }
    };
    if timeout(PATIENCE, talking).await.is_err() {
        panic!(
            "{} acked, {} of {total} seen",
            told.acked.len(),
            told.seen.len()
        );
    }
    told
}

fn check(told: &[Told]) {
    let first = &told[0].seen;
    assert!(
        first
            .iter()
            .map(|(seq, ..)| *seq)
            .eq(1..=first.len() as u64),
        "in order, once, without a hole"
    );
    for told in told {
        assert_eq!(told.seen, *first, "everybody hears the same");
        // A message that is seen in the log is acked then: an ephemeral one before it may be answered later.
        let mut numbers: Vec<u64> = told.acked.iter().map(|(n, _)| *n).collect();
        numbers.sort_unstable();
        assert!(
            numbers.iter().copied().eq(1..=EACH),
            "each once: {numbers:?}"
        );
        for (n, seq) in &told.acked {
            match n.is_multiple_of(EPHEMERAL) {
                true => assert_eq!(*seq, 0),
                false => assert_eq!(first[*seq as usize - 1].2, *n, "what was acked is there"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_notice_nothing_of_a_leader_s_death() {
    let mut logs = Logs::new().await;
    let ordered = EACH - EACH / EPHEMERAL;
    // All are there before the first word.
    let mut members = Vec::new();
    for session in 1..=3 {
        members.push(logs.join(session).await);
    }
    let talk = |member| tokio::spawn(talk(member, 3 * ordered as usize));
    let talking: Vec<_> = members.into_iter().map(talk).collect();
    let leader = logs.leader().await;
    logs.relays[leader].kill();
    let mut told = Vec::new();
    for talking in talking {
        told.push(talking.await.unwrap());
    }
    check(&told);
    // One more dies once the first is back: the log goes on from its disk.
    logs.relays[leader].start().await;
    logs.tell_world();
    let next = logs.leader().await;
    let mut late = logs.join(9).await;
    logs.relays[next].kill();
    late.publish(1, "log").await;
    // Its own message may come back before its ack.
    let mut told = Told::default();
    while told.acked.is_empty() {
        told.take(&timeout(PATIENCE, late.next()).await.expect("an answer"));
    }
    assert_eq!(told.acked, [(1, 3 * ordered + 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_members_are_told_and_with_one_they_go_on() {
    let mut logs = Logs::new().await;
    let mut member = logs.join(1).await;
    member.publish(1, "log").await;
    let mut told = Told::default();
    while told.acked.is_empty() || told.seen.is_empty() {
        told.take(&timeout(PATIENCE, member.next()).await.expect("a word"));
    }
    let leader = logs.leader().await;
    let other = (leader + 1) % 3;
    logs.relays[leader].kill();
    logs.relays[other].kill();
    member.publish(2, "log").await;
    let word = timeout(PATIENCE, member.next()).await.expect("an answer");
    assert_eq!(
        (word["error"].as_str(), word["n"].as_u64()),
        (Some("unavailable"), Some(2))
    );
    logs.relays[other].start().await;
    logs.tell_world();
    // The same number again, as the answer asked for.
    member.publish(2, "log").await;
    let mut told = Told::default();
    while told.acked.is_empty() || told.seen.is_empty() {
        told.take(&timeout(PATIENCE, member.next()).await.expect("a word"));
    }
    assert_eq!(told.acked, [(2, 2)]);
    assert_eq!((told.seen[0].0, told.seen[0].2), (2, 2));
}
