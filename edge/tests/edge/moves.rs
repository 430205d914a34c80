//! A room goes from one placement group to another and back while its members talk, with no controller:
//! the groups carry it out, and tell the edges where it went.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use longspan_edge::Limits;
use longspan_proto::control::move_status::Stage;
use serde_json::{Value, json};

use super::{
    backbone::eventually,
    client::{claims, sign},
    logs::{GROUP, JSON, Logs, Member, OTHER},
};

/// Messages that a member may have unanswered: an edge takes more.
const WINDOW: u64 = 20;

/// Waits for a move's end.
async fn moved(logs: &Logs, word: u64) {
    eventually("the move is over", || {
        let moves = logs.moves();
        let of_it = moves.iter().filter(|said| said.word == word);
        for said in of_it.clone() {
            assert!(said.stage() != Stage::Back, "it was taken back: {said:?}");
        }
        of_it.clone().any(|said| said.stage() == Stage::Gone)
    })
    .await;
}

/// Says numbers until it is told to stop, and checks what it hears: acks in order, one total order
/// without a hole or a gap. What it heard: by place, who said which number.
async fn talk(
    mut member: Member,
    who: &str,
    mut seq: u64,
    all_acked: Arc<AtomicU64>,
    stop: tokio::sync::watch::Receiver<bool>,
) -> (BTreeMap<u64, (String, u64)>, u64) {
    let (mut said, mut acked) = (0, 0);
    let mut heard: BTreeMap<u64, (String, u64)> = BTreeMap::new();
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(25));
    loop {
        let stopped = *stop.borrow();
        let last = u64::saturating_sub(said, u64::from(said % 3 == 0));
        if stopped && acked == said && heard.values().any(|h| *h == (who.to_owned(), last)) {
            return (heard, said);
        }
        tokio::select! {
            _ = pace.tick(), if !stopped && said - acked < WINDOW => {
                said += 1;
                member.publish(said, if said % 3 == 0 { "ephemeral" } else { "log" }).await;
            }
            word = member.next() => {
                let events = match word["t"].as_str().unwrap() {
                    "ack" => {
                        acked += 1;
                        all_acked.fetch_add(1, Ordering::Relaxed);
                        assert_eq!(word["n"], acked, "acks come in order");
                        continue;
                    }
                    "ev" => vec![word],
                    "evs" => word["evs"].as_array().unwrap().clone(),
                    _ => panic!("neither ack nor message: {word}"),
                };
                for event in events.iter().filter(|event| !event["seq"].is_null()) {
                    seq += 1;
                    assert_eq!(event["seq"], seq, "no hole, nothing twice");
                    if event["topic"] == "chat" {
                        let from = event["from"].as_str().unwrap().to_owned();
                        heard.insert(seq, (from, event["body"].as_u64().unwrap()));
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_talk_on_while_their_room_is_moved_to_and_fro() {
    let logs = Logs::of(&[GROUP, OTHER], 2, false, Limits::default()).await;
    let names = ["anna", "ben", "carl"];
    let tokens = names.map(|name| sign(&claims(name)));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let acked = Arc::new(AtomicU64::new(0));
    let mut talking = Vec::new();
    for (edge, token) in tokens.iter().enumerate().take(2) {
        let (member, welcome) = logs.join_at(edge, edge as u8 + 1, Some(token), JSON).await;
        let seq = welcome["seq"].as_u64().unwrap();
        assert_eq!(welcome["log"], "group-9-1");
        talking.push(tokio::spawn(talk(
            member,
            names[edge],
            seq,
            acked.clone(),
            stopped.clone(),
        )));
    }
    let (mut from, mut to) = (GROUP, OTHER);
    for word in 1..=3 {
        let before = acked.load(Ordering::Relaxed);
        eventually("they talk on", || {
            acked.load(Ordering::Relaxed) >= before + 40
        })
        .await;
        logs.move_room(word, from, to);
        moved(&logs, word).await;
        std::mem::swap(&mut from, &mut to);
    }
    // It is in the other group; whoever comes now is sent there, and is told of the same log.
    let (mut carl, welcome) = logs.join_at(0, 3, Some(&tokens[2]), JSON).await;
    assert_eq!(welcome["log"], "group-9-1");
    carl.send(json!({ "t": "pub", "n": 1, "class": "log", "topic": "chat", "body": 0 }))
        .await;
    assert_eq!(carl.answer().await["t"], "ack");
    stop.send_replace(true);
    let mut ends = Vec::new();
    for task in talking {
        ends.push(task.await.expect("a member heard everything"));
    }
    // Both heard one order, and each message of the other once.
    let ((anna, annas), (ben, bens)) = (&ends[0], &ends[1]);
    let both = anna.keys().filter(|seq| ben.contains_key(seq));
    assert!(both.clone().count() > 50, "they talked while it moved");
    for seq in both {
        assert_eq!(anna[seq], ben[seq]);
    }
    for (heard, said, of) in [(anna, annas, "anna"), (ben, bens, "ben")] {
        let own = heard
            .values()
            .filter(|(from, _)| from == of)
            .map(|(_, n)| *n);
        let own: Vec<u64> = own.collect();
        let wanted: Vec<u64> = (1..=*said).filter(|n| n % 3 != 0).collect();
        assert_eq!(own, wanted, "{of}'s ordered messages, each once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_resumes_after_a_move_goes_on_and_a_state_is_as_it_was() {
    let mut limits = Limits::default();
    limits.messages.presence = false;
    let logs = Logs::of(&[GROUP, OTHER], 2, true, limits).await;
    let mut member = logs.join(1).await;
    for n in 1..=5 {
        member
            .send(json!({ "t": "pub", "n": n, "class": "state", "topic": "board", "key": format!("k{n}"), "body": n }))
            .await;
        assert_eq!(member.answer().await["seq"], n);
    }
    let mut seen = 0;
    while seen < 3 {
        seen = member.event(|event| event["seq"].is_u64()).await["seq"]
            .as_u64()
            .unwrap();
    }
    drop(member);
    logs.move_room(1, GROUP, OTHER);
    moved(&logs, 1).await;

    // At the other edge, which was never in the room, with a place of before.
    let session = "01".repeat(16);
    let hello =
        json!({ "t": "hello", "session": session, "resume": { "seq": 3, "log": "group-9-1" } });
    let mut member = logs.connect(1, None, JSON).await;
    member.send(hello).await;
    let welcome = logs.welcome(1, &mut member).await;
    assert_eq!(
        (&welcome["n"], &welcome["log"]),
        (&json!(5), &json!("group-9-1"))
    );
    for seq in 4..=5 {
        let event = member.event(|_| true).await;
        assert_eq!((&event["seq"], &event["body"]), (&json!(seq), &json!(seq)));
    }
    // What was taken before the move is answered as before; what is new goes on.
    member
        .send(json!({ "t": "pub", "n": 5, "class": "state", "topic": "board", "key": "k5", "body": 5 }))
        .await;
    assert_eq!(member.answer().await["seq"], 5);
    member
        .send(json!({ "t": "pub", "n": 6, "class": "state", "topic": "board", "key": "k1", "if": 1, "body": 6 }))
        .await;
    assert_eq!(
        member.answer().await["seq"],
        6,
        "the revision is the one of before"
    );
    let (_late, welcome) = logs.join_at(0, 2, None, JSON).await;
    let body = |key: &str| welcome["state"][key]["body"].clone();
    let all: Vec<Value> = ["k1", "k2", "k5"].map(body).to_vec();
    assert_eq!(all, [json!(6), json!(2), json!(5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_to_a_group_that_nobody_leads_is_taken_back_and_nobody_notices() {
    let mut limits = Limits::default();
    limits.messages.presence = false;
    let logs = Logs::of(&[GROUP], 1, true, limits).await;
    let mut member = logs.join(1).await;
    member.publish(1, "log").await;
    assert_eq!(member.answer().await["seq"], 1);
    logs.move_room(1, GROUP, OTHER);
    // The room is open while the other group is looked for.
    let mut n = 1;
    while !logs.moves().iter().any(|said| said.stage() == Stage::Back) {
        n += 1;
        member.publish(n, "log").await;
        assert_eq!(member.answer().await["seq"], n);
        tokio::time::sleep(super::backbone::POLL).await;
    }
    let why = logs
        .moves()
        .into_iter()
        .map(|said| said.why)
        .find(|why| !why.is_empty());
    let why = why.expect("the leader says why");
    assert!(why.contains("has no part in group 10"), "{why}");
    member.publish(n + 1, "log").await;
    assert_eq!(member.answer().await["seq"], n + 1);
}
