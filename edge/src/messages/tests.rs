//! Members as they are: what they say, in order, and what is done for each word.

use longspan_proto::{
    ids::{Room, RoomName, SessionId, Tenant},
    time::Time,
    wire::{
        envelope::{Class, Envelope},
        room::{Answer, Request},
    },
};
use longspan_relay::roomlog::Snapshot;
use serde_json::{Value, json};

use super::{
    leaving::Leaving,
    member::{Action, Limits, Member},
    view::{self, Log, View},
    wire::{self, Encoding},
};
use crate::grants::Grants;

const SESSION: SessionId = SessionId([0xab; 16]);
const LOG: Log = Log { group: 9, era: 1 };

fn room() -> RoomName {
    RoomName {
        tenant: Tenant::default_tenant(),
        room: Room::new("math").unwrap(),
    }
}

/// A member whose room has `seq` messages.
struct World {
    now: Time,
    member: Member,
    view: View,
}

impl World {
    fn new(limits: Limits, grants: Grants) -> World {
        let now = Time::ZERO + std::time::Duration::from_secs(100);
        let mut view = View::new(view::Limits::default());
        view.load(LOG, Snapshot::default());
        World {
            now,
            member: Member::new(now, limits, room(), "anna".into(), grants),
            view,
        }
    }

    fn joined(limits: Limits, grants: Grants) -> World {
        let mut world = World::new(limits, grants);
        world.say(json!({ "t": "hello", "session": "ab".repeat(16) }));
        assert_eq!(world.pull()[0]["t"], "welcome");
        world
    }

    fn say(&mut self, word: Value) -> Vec<Value> {
        let said = wire::decode(Encoding::Json, word.to_string().as_bytes());
        told(self.member.receive(self.now, said))
    }

    fn publish(&mut self, n: u64) -> Vec<Value> {
        self.say(json!({ "t": "pub", "n": n, "class": "log", "topic": "chat", "body": n }))
    }

    fn answer(&mut self, answer: Answer) -> Vec<Value> {
        told(self.member.answer(answer))
    }

    fn ack(&mut self, n: u64) {
        let session = SESSION;
        self.answer(Answer::Acked { session, n, seq: n });
    }

    fn pull(&mut self) -> Vec<Value> {
        told(self.member.pull(self.now, &self.view))
    }
}

/// Actions as text: what the member reads, and what the leader is asked.
fn told(actions: Vec<Action>) -> Vec<Value> {
    let mut told = Vec::new();
    for action in actions {
        match action {
            Action::Send(message) => {
                told.push(serde_json::from_slice(&message.write(Encoding::Json)).unwrap());
            }
            Action::Deliver(batch) => {
                let written = wire::batch(Encoding::Json, &batch.events, batch.skipped);
                told.push(serde_json::from_slice(&written).unwrap());
            }
            Action::Ask { lead, request } => {
                told.extend(lead.iter().map(asked));
                told.push(asked(&request));
            }
            Action::Close { code, slug, .. } => told.push(json!({ "close": code, "slug": slug })),
            Action::Ping => told.push(json!("ping")),
            Action::CountGap => {}
        }
    }
    told
}

fn asked(request: &Request) -> Value {
    match request {
        Request::Publish(message) => json!({ "publish": message.n }),
        Request::PassOver { first, last, .. } => json!({ "pass": [first, last] }),
        Request::Ask { .. } => json!("ask"),
        other => panic!("no member asks {other:?}"),
    }
}

fn slugs(told: &[Value]) -> Vec<(&str, u64, u64)> {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    told.iter()
        .map(|said| {
            let slug = said["error"].as_str().or(said["slug"].as_str());
            (slug.unwrap(), number(&said["n"]), number(&said["limit"]))
        })
        .collect()
}

fn passed_on(first: u64, last: u64, n: u64) -> Vec<Value> {
    vec![json!({ "pass": [first, last] }), json!({ "publish": n })]
}

#[test]
fn what_a_token_forbids_is_refused_here_and_its_number_may_be_left_out_or_used_again() {
    let claim = json!({ "publish": [{ "topic": "chat", "class": ["log"] }, { "topic": "hand", "keys": ["hand/$member"] }] });
    let grants = Grants::read(claim, "anna").unwrap();
    let mut world = World::joined(Limits::default(), grants);
    let state = |n, topic: &str, key: &str| json!({ "t": "pub", "n": n, "class": "state", "topic": topic, "key": key, "body": 1 });
    let said = world.say(state(1, "board", "b"));
    assert_eq!(slugs(&said), [("forbidden_topic", 1, 0)]);
    let said = world.say(state(2, "chat", "b"));
    assert_eq!(slugs(&said), [("forbidden_class", 2, 0)]);
    let said = world.say(state(3, "hand", "hand/ben"));
    assert_eq!(slugs(&said), [("forbidden_key", 3, 0)]);
    let said = world.say(state(4, "hand", "presence/anna"));
    assert_eq!(slugs(&said), [("forbidden_key", 4, 0)]);
    // Two is used again; three is used again after it; four is left out.
    assert_eq!(world.say(state(2, "hand", "hand/anna")), passed_on(1, 1, 2));
    assert_eq!(world.publish(3), [json!({ "publish": 3 })]);
    assert_eq!(world.publish(5), passed_on(4, 4, 5));
    assert_eq!(world.publish(6), [json!({ "publish": 6 })]);
}

#[test]
fn too_many_a_second_are_refused_with_the_rate_and_none_is_lost() {
    let limits = Limits {
        rate: 10,
        burst: 3,
        ..Limits::default()
    };
    let mut world = World::joined(limits, Grants::All);
    for n in 1..=3 {
        assert_eq!(world.publish(n), [json!({ "publish": n })]);
    }
    let said = world.publish(4);
    assert_eq!(slugs(&said), [("rate_limited", 4, 10)]);
    assert_eq!(
        said[0]["message"],
        "at most 3 messages at once and 10 a second"
    );
    assert_eq!(slugs(&world.publish(5)), [("rate_limited", 5, 10)]);
    world.now = world.now + std::time::Duration::from_millis(100);
    assert_eq!(world.publish(4), [json!({ "publish": 4 })]);
    world.now = world.now + std::time::Duration::from_millis(100);
    assert_eq!(world.publish(6), passed_on(5, 5, 6));
}

#[test]
fn what_the_room_cannot_take_now_is_as_if_it_had_not_been_said() {
    let mut world = World::joined(Limits::default(), Grants::All);
    let wrong = json!({ "t": "pub", "n": 1, "class": "loud", "topic": "chat" });
    assert_eq!(slugs(&world.say(wrong)), [("wrong_class", 1, 0)]);
    assert_eq!(world.publish(2), passed_on(1, 1, 2));
    // Neither of the two was taken.
    let said = told(world.member.room_too_fast(2, 1_000));
    assert_eq!(slugs(&said), [("room_rate_limited", 2, 1_000)]);
    assert_eq!(world.publish(3), passed_on(1, 2, 3));
    let said = told(world.member.busy(3, 4_096));
    assert_eq!(slugs(&said), [("busy", 3, 4_096)]);
    assert_eq!(world.publish(2), passed_on(1, 1, 2));
    assert_eq!(world.publish(3), [json!({ "publish": 3 })]);
}

#[test]
fn unanswered_messages_are_bounded() {
    let limits = Limits {
        unanswered: 2,
        ..Limits::default()
    };
    let mut world = World::joined(limits, Grants::All);
    world.publish(1);
    world.publish(2);
    assert_eq!(slugs(&world.publish(3)), [("too_many_unanswered", 3, 2)]);
    world.ack(1);
    assert_eq!(world.publish(3), [json!({ "publish": 3 })]);
}

#[test]
fn whoever_is_wrong_all_the_time_is_sent_away() {
    let limits = Limits {
        errors: 2,
        ..Limits::default()
    };
    let mut world = World::joined(limits, Grants::Nothing);
    for n in 1..=2 {
        assert_eq!(slugs(&world.publish(n)), [("forbidden", n, 0)]);
    }
    let said = world.publish(3);
    assert_eq!(slugs(&said)[1].0, "too_many_errors");
    assert_eq!(said[1]["close"], 1008);
}

#[test]
fn a_member_that_resumes_is_told_its_number_first_and_one_from_the_future_everything() {
    for (resume, ahead) in [(3, false), (4, true)] {
        let mut world = World::new(Limits::default(), Grants::All);
        let history = (1..=3).map(|seq| message(seq, None)).collect();
        let snapshot = Snapshot {
            seq: 3,
            history,
            ..Snapshot::default()
        };
        world.view.load(LOG, snapshot);
        let hello = json!({ "t": "hello", "session": "ab".repeat(16), "resume": { "seq": resume, "log": "group-9-1" } });
        assert_eq!(world.say(hello), [json!("ask")]);
        assert!(world.pull().is_empty());
        world.answer(Answer::Held {
            session: SESSION,
            n: 17,
        });
        if ahead {
            assert!(
                world.pull().is_empty(),
                "this edge may be slower than the last"
            );
            world.now = world.now + Limits::default().join;
        }
        let mut said = world.pull();
        if ahead {
            assert_eq!(slugs(&said[..1]), [("resume_ahead", 0, 3)]);
            said.remove(0);
        }
        assert_eq!(
            (&said[0]["t"], &said[0]["n"]),
            (&json!("welcome"), &json!(17))
        );
        let next = world.pull();
        match ahead {
            false => assert!(next.is_empty()),
            true => assert_eq!(
                (&next[0]["t"], &next[0]["to"], &next[1]["t"]),
                (&json!("gap"), &json!(3), &json!("state"))
            ),
        }
        assert_eq!(world.publish(18), [json!({ "publish": 18 })]);
    }
}

#[test]
fn a_member_that_cannot_keep_up_is_told_the_gap_and_the_state_and_then_sent_away() {
    let mut world = World::joined(Limits::default(), Grants::All);
    let mut seq = 0;
    for round in 0..=Limits::default().gaps {
        for _ in 0..=view::Limits::default().messages {
            seq += 1;
            world.view.apply(message(seq, Some("k")));
        }
        let said = world.pull();
        if round == Limits::default().gaps {
            assert_eq!(said, [json!({ "close": 1008, "slug": "too_slow" })]);
            return;
        }
        assert_eq!(
            (&said[0]["t"], &said[0]["to"]),
            (&json!("gap"), &json!(seq))
        );
        let state = &said[1]["state"];
        assert_eq!(state["k"]["revision"], seq, "only the newest of the key");
        assert!(world.pull().is_empty());
    }
}

#[test]
fn a_member_is_told_where_to_go() {
    let mut world = World::new(Limits::default(), Grants::All);
    let leaving = Leaving::Told {
        deadline: std::time::Duration::from_millis(2_500),
        alternatives: vec!["http://b".into(), "http://c".into()],
    };
    let said = told(world.member.goaway(&leaving));
    let want =
        json!({ "t": "goaway", "deadline_ms": 2_500, "alternatives": ["http://b", "http://c"] });
    assert_eq!(said, [want]);
    let said = told(world.member.goaway(&Leaving::Over));
    assert_eq!(said, [json!({ "close": 1001, "slug": "going_away" })]);
}

#[test]
fn silence_is_asked_about_and_ended() {
    let mut world = World::new(Limits::default(), Grants::All);
    let later = |world: &mut World, seconds| {
        world.now = world.now + std::time::Duration::from_secs(seconds);
        told(world.member.tick(world.now))
    };
    assert!(later(&mut world, 9).is_empty());
    assert_eq!(later(&mut world, 1)[0]["slug"], "hello_timeout");
    let mut world = World::joined(Limits::default(), Grants::All);
    assert_eq!(later(&mut world, 20), [json!("ping")]);
    world.member.alive(world.now);
    assert!(later(&mut world, 19).is_empty());
    assert_eq!(later(&mut world, 1), [json!("ping")]);
    assert_eq!(later(&mut world, 40)[0]["slug"], "idle");
}

fn message(seq: u64, key: Option<&str>) -> Envelope {
    Envelope {
        room: room(),
        session: SessionId([1; 16]),
        n: seq,
        class: if key.is_some() {
            Class::State
        } else {
            Class::Log
        },
        topic: "t".into(),
        key: key.map(str::to_owned),
        expected: None,
        revision: if key.is_some() { seq } else { 0 },
        from: "ben".into(),
        recipient: None,
        at: 0,
        seq,
        body: bytes::Bytes::from_static(b"\x01"),
    }
}
