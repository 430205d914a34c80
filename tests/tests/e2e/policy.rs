//! An operator says how much of a room's order is kept: what members who come back are given, also when
//! the relay that led is dead.

use std::time::Duration;

use serde_json::{Value, json};

use super::{backbone::Backbone, messages::Member, process::eventually};

const PATIENCE: Duration = Duration::from_secs(30);
const KEPT: u64 = 10;

/// Whoever says numbers in the room.
struct Talker {
    member: Member,
    said: u64,
}

impl Talker {
    async fn join(http: &str) -> Talker {
        let member = eventually("a place in the room", PATIENCE, async || {
            Member::join(http, "talk", &"0a".repeat(16)).await
        });
        Talker {
            member: member.await,
            said: 0,
        }
    }

    /// Says so many numbers, one after the other; the place of the last.
    async fn say(&mut self, count: u64) -> u64 {
        let mut place = 0;
        for _ in 0..count {
            self.said += 1;
            place = self.say_one(self.said).await;
        }
        place
    }

    async fn say_one(&mut self, n: u64) -> u64 {
        let word = json!({ "t": "pub", "n": n, "class": "log", "topic": "chat", "body": n });
        self.member.send(word.clone()).await;
        loop {
            let told = self.member.next().await.expect("the edge stays");
            match told["t"].as_str() {
                Some("ack") => {
                    assert_eq!(told["n"], n);
                    return told["seq"].as_u64().expect("a place");
                }
                // While the next leader is looked for.
                Some("err") if told["error"] == "unavailable" => {
                    self.member.send(word.clone()).await;
                }
                Some("ev" | "evs") => {}
                _ => panic!("unexpected: {told}"),
            }
        }
    }
}

/// Somebody comes back to an edge, having seen the room up to `seq`.
async fn come_back(http: &str, log: &Value, seq: u64) -> Member {
    let session = format!("{seq:032x}");
    let back = eventually("a place in the room", PATIENCE, async || {
        let mut member = Member::connect(http, "talk").await?;
        let resume = json!({ "seq": seq, "log": log });
        let hello = json!({ "t": "hello", "session": session, "resume": resume });
        member.send(hello).await;
        let welcome = member.next().await?;
        (welcome["t"] == "welcome").then_some((member, welcome))
    });
    let (member, welcome) = back.await;
    assert_eq!(welcome["seq"], seq, "{welcome}");
    member
}

/// The numbers a member hears, up to this one; nothing else is told.
async fn hears_up_to(member: &mut Member, last: u64) -> Vec<u64> {
    let mut heard = Vec::new();
    while heard.last() != Some(&last) {
        let told = member.next().await.expect("the edge stays");
        let events = match told["t"].as_str() {
            Some("ev") => vec![told],
            Some("evs") => told["evs"].as_array().expect("evs").clone(),
            _ => panic!("unexpected: {told}"),
        };
        let numbers = events.iter().map(|event| event["body"].as_u64());
        heard.extend(numbers.map(|number| number.expect("a number")));
    }
    heard
}

/// Whoever comes back from `seq` is told one gap up to `newest` at least and the state, and goes on from
/// there: it hears what is said next.
async fn is_told_a_gap(http: &str, talker: &mut Talker, seq: u64, newest: u64) {
    let log = talker.member.welcome["log"].clone();
    let mut back = come_back(http, &log, seq).await;
    let gap = back.next().await.expect("the edge stays");
    assert_eq!((&gap["t"], &gap["from"]), (&json!("gap"), &json!(seq + 1)));
    assert!(gap["to"].as_u64() >= Some(newest), "{gap}, {newest}");
    loop {
        let state = back.next().await.expect("the edge stays");
        assert_eq!(state["t"], "state", "{state}");
        if state["more"] == false {
            break;
        }
    }
    talker.say(1).await;
    assert_eq!(hears_up_to(&mut back, talker.said).await, [talker.said]);
}

/// The room's policy, once it is as it should be.
async fn policy(backbone: &Backbone, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let told = eventually(what, PATIENCE, async || {
        let policy = backbone.api("/api/v1/rooms/talk/policy").await;
        is_so(&policy).then_some(policy)
    });
    told.await
}

async fn leader(backbone: &Backbone) -> Option<String> {
    let room = backbone.api("/api/v1/rooms/talk").await;
    room["placement"]["leader"].as_str().map(str::to_owned)
}

fn json_of((code, told, errors): (i32, String, String)) -> Value {
    assert_eq!(code, 0, "{errors}");
    serde_json::from_str(&told).unwrap_or_else(|e| panic!("{e}: {told}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_is_given_what_the_policy_keeps_also_when_the_leader_is_dead() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "cn-beijing,hk,sg"]);
    let set = |args: &[&str]| {
        let all = ["room", "policy", "talk", "-o", "json", "--reason", "exams"];
        backbone.run(&[&all, args].concat())
    };
    // Nobody is in the room yet.
    let asked = json_of(set(&["--messages", &KEPT.to_string()]));
    assert_eq!(asked["state"], "not_open", "{asked:#}");

    let mut talker = Talker::join(&backbone.region("hk").http).await;
    let early = talker.say(5).await;
    let newest = talker.say(45).await;
    let holds = |policy: &Value| policy["state"] == "holds";
    let now = policy(&backbone, "the policy holds", holds).await;
    assert_eq!(now["holds"]["messages"], KEPT, "{now:#}");
    assert_eq!(now["holds"]["bytes"], now["most"]["bytes"], "{now:#}");

    // At the edge that has all fifty, and at one that has to ask the leader.
    for region in ["hk", "sg"] {
        let http = backbone.region(region).http;
        is_told_a_gap(&http, &mut talker, early, newest).await;
    }
    // Whoever missed no more than is kept misses nothing. Presence has places too.
    let log = talker.member.welcome["log"].clone();
    let seen = talker.say(KEPT).await;
    talker.say(3).await;
    let mut back = come_back(&backbone.region("hk").http, &log, seen).await;
    let last = talker.said;
    assert_eq!(
        hears_up_to(&mut back, last).await,
        [last - 2, last - 1, last]
    );
    drop(back);

    let led = eventually("a leader", PATIENCE, async || leader(&backbone).await).await;
    let (code, _, errors) = backbone.run(&["lab", "node", "kill", &led]);
    assert_eq!(code, 0, "{errors}");
    let newest = talker.say(1).await;
    eventually("another leader", PATIENCE, async || {
        leader(&backbone).await.filter(|now| *now != led)
    })
    .await;
    let now = policy(&backbone, "it still holds", holds).await;
    assert_eq!(now["holds"]["messages"], KEPT, "{now:#}");
    for region in ["hk", "cn-beijing"] {
        let http = backbone.region(region).http;
        is_told_a_gap(&http, &mut talker, early, newest).await;
    }

    // More than a group keeps is cut, and said.
    let asked = json_of(set(&["--messages", "5000"]));
    assert_eq!(asked["state"], "clamped", "{asked:#}");
    assert_eq!(
        (&asked["holds"]["messages"], &asked["most"]["messages"]),
        (&json!(1_024), &json!(1_024))
    );
    let (code, told, _) = backbone.run(&["room", "policy", "talk"]);
    assert!(code == 0 && told.contains("5000"), "{told}");

    // Back to what the group gives: more than ten are kept again.
    let asked = json_of(set(&["--reset"]));
    assert!(
        asked["state"] == "holds" || asked["state"] == "default",
        "{asked:#}"
    );
    let before = talker.say(1).await;
    talker.say(2 * KEPT).await;
    let mut back = come_back(&backbone.region("hk").http, &log, before).await;
    let heard = hears_up_to(&mut back, talker.said).await;
    assert_eq!(heard.len() as u64, 2 * KEPT);

    for (args, code, why) in [
        (&["room", "policy", "nowhere"][..], 3, "there is no room"),
        (
            &["room", "policy", "talk", "--messages", "1"],
            2,
            "--reason",
        ),
        (
            &[
                "room",
                "policy",
                "talk",
                "--bytes",
                "99999999G",
                "--reason",
                "x",
            ],
            2,
            "9007199254740991",
        ),
    ] {
        let (got, _, told) = backbone.run(args);
        assert_eq!(got, code, "{args:?}: {told}");
        assert!(told.contains(why), "{args:?}: {told}");
    }
    let audit = backbone.run(&["audit", "ls"]).1;
    assert!(
        audit.contains("room_policy_set") && audit.contains("room_policy_reset"),
        "{audit}"
    );
}
