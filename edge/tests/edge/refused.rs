//! What a member says wrong, over a WebSocket in both encodings: each is named with its limit, the
//! connection stays, and nobody else notices.

use longspan_edge::Limits;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{
    backbone::POLL,
    logs::{CBOR, JSON, Logs, Member},
};

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.messages.presence = false;
    limits
}

fn publish(n: u64, fields: Value) -> Value {
    let mut message = json!({ "t": "pub", "n": n, "class": "log", "topic": "chat", "body": n });
    for (name, value) in fields.as_object().unwrap() {
        message[name] = value.clone();
    }
    message
}

/// The slug, the number and the limit of the refusal that is the answer.
async fn refusal(member: &mut Member) -> (String, Option<u64>, Option<u64>) {
    let said = member.answer().await;
    assert_eq!(said["t"], "err", "{said}");
    assert!(said["message"].as_str().unwrap().len() > 10, "{said}");
    let slug = said["error"].as_str().unwrap().to_owned();
    (slug, said["n"].as_u64(), said["limit"].as_u64())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_named_with_its_limit_in_both_encodings() {
    let logs = Logs::with(1, true, limits()).await;
    let mut listener = logs.join(9).await;
    let long = |len: usize| "x".repeat(len);
    let state = |key: &str| json!({ "class": "state", "key": key });
    for (session, protocol) in [(1, JSON), (2, CBOR)] {
        let (mut member, _) = logs.join_at(0, session, None, protocol).await;
        let (n1, n2) = (Some(1), Some(2));
        for (message, slug, n, limit) in [
            (json!([1]), "invalid", None, None),
            (json!({ "t": "sing" }), "unknown_type", None, None),
            (
                publish(1, json!({ "class": "loud" })),
                "wrong_class",
                n1,
                None,
            ),
            (
                publish(1, json!({ "class": "state" })),
                "wrong_class",
                n1,
                None,
            ),
            (publish(1, json!({ "key": "k" })), "wrong_class", n1, None),
            (publish(1, json!({ "if": 3 })), "wrong_class", n1, None),
            (publish(1, json!({ "colour": "red" })), "invalid", n1, None),
            (publish(1, json!({ "topic": 7 })), "invalid", n1, None),
            (
                publish(1, json!({ "topic": long(65) })),
                "too_long",
                n1,
                Some(64),
            ),
            (publish(1, state(&long(129))), "too_long", n1, Some(128)),
            (
                publish(1, json!({ "body": long(16_382) })),
                "too_long",
                n1,
                Some(16_384),
            ),
            (
                publish(1, json!({ "body": long(200_000) })),
                "too_long",
                n1,
                Some(102_400),
            ),
            (
                publish(1, json!({ "topic": "presence" })),
                "forbidden_topic",
                n1,
                None,
            ),
            (publish(1, state("presence/me")), "forbidden_key", n1, None),
            (
                publish(1 << 53, json!({})),
                "invalid",
                None,
                Some((1 << 53) - 1),
            ),
            // The room's: an n that jumps, a stale compare-and-set.
            (publish(7, json!({})), "n_jumped", Some(7), n2),
            (
                publish(2, json!({ "class": "state", "key": "k", "if": 5 })),
                "conflict",
                n2,
                Some(0),
            ),
        ] {
            member.send(message.clone()).await;
            assert_eq!(
                refusal(&mut member).await,
                (slug.to_owned(), n, limit),
                "{message}"
            );
        }
        let words = json!({ "words": session });
        member.send(publish(3, json!({ "body": words }))).await;
        assert_eq!(member.answer().await["n"], 3);
        // An n that goes back: its answer is not known any more; one that was another message.
        member.send(publish(1, json!({}))).await;
        assert_eq!(
            refusal(&mut member).await,
            ("n_went_back".into(), n1, Some(3))
        );
        member.send(publish(3, json!({ "body": "other" }))).await;
        assert_eq!(
            refusal(&mut member).await,
            ("n_reused".into(), Some(3), None)
        );
        member.send(json!({ "t": "ping" })).await;
        assert_eq!(member.answer().await["t"], "pong");
        // All that the others heard.
        assert_eq!(listener.event(|_| true).await["body"], words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_text_is_refused_and_in_cbor_the_connection_stays() {
    let logs = Logs::with(1, true, limits()).await;
    let (mut member, _) = logs.join_at(0, 1, None, CBOR).await;
    // {"t": "pub", "n": 1, "class": "log", "topic": a text of one byte that is no UTF-8}
    let mut message = b"\xa4\x61t\x63pub\x61n\x01\x65class\x63log\x65topic\x61".to_vec();
    message.push(0xff);
    member.send_raw(Message::binary(message)).await;
    assert_eq!(refusal(&mut member).await.0, "invalid");
    for (protocol, wrong) in [
        (CBOR, Message::text("{\"t\":\"ping\"}")),
        (JSON, Message::binary(b"\xa1\x61t\x64ping".to_vec())),
    ] {
        let (mut member, _) = logs.join_at(0, 2, None, protocol).await;
        member.send_raw(wrong).await;
        assert_eq!(refusal(&mut member).await.0, "wrong_frame");
        member.publish(1, "log").await;
        assert_eq!(member.answer().await["t"], "ack");
    }
    member.publish(1, "log").await;
    assert_eq!(member.answer().await["t"], "ack");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_from_the_future_is_told_and_gets_the_state() {
    let logs = Logs::with(1, true, limits()).await;
    let mut writer = logs.join(9).await;
    writer
        .send(publish(
            1,
            json!({ "class": "state", "key": "page", "body": 4 }),
        ))
        .await;
    assert_eq!(writer.answer().await["seq"], 1);
    for (session, protocol) in [(1, JSON), (2, CBOR)] {
        let mut member = logs.connect(0, None, protocol).await;
        let hello = json!({ "t": "hello", "session": format!("{session:02x}").repeat(16), "resume": { "seq": 99 } });
        member.send(hello).await;
        assert_eq!(
            refusal(&mut member).await,
            ("resume_ahead".into(), None, Some(1))
        );
        assert_eq!(member.answer().await["t"], "welcome");
        let gap = member.answer().await;
        assert_eq!((&gap["t"], &gap["to"]), (&json!("gap"), &json!(1)), "{gap}");
        assert_eq!(member.answer().await["state"]["page"]["body"], 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_writes_ten_thousand_keys_fills_its_own_share() {
    const KEYS: u64 = 10_000;
    let mut limits = limits();
    limits.messages.room_rate = 1_000_000;
    limits.messages.room_burst = 1_000_000;
    limits.messages.member.rate = 1_000_000;
    limits.messages.member.burst = 1_000_000;
    limits.messages.member.errors = 1_000_000;
    let logs = Logs::with(1, true, limits).await;
    let mut flood = logs.join(1).await;
    let key = |n: u64, key: String| publish(n, json!({ "class": "state", "key": key }));
    let (mut sent, mut answered, mut acked, mut refused) = (0, 0, 0, 0);
    while answered < KEYS {
        while sent < KEYS && sent < answered + 100 {
            sent += 1;
            flood.send(key(sent, format!("k{sent}"))).await;
        }
        let said = flood.answer().await;
        answered += 1;
        if said["t"] == "ack" {
            acked += 1;
            continue;
        }
        refused += 1;
        assert_eq!(
            (&said["error"], &said["limit"]),
            (&json!("member_full"), &json!(2_000)),
            "{said}"
        );
    }
    assert_eq!((acked, refused), (2_000, 8_000));
    let mut other = logs.join(2).await;
    other.send(key(1, "mine".into())).await;
    // The rest of the state comes first.
    let answer = loop {
        let said = other.answer().await;
        if said["t"] != "state" {
            break said;
        }
    };
    assert_eq!(answer["t"], "ack", "{answer}");
}

/// Publishes `burst` messages, one that is too many, and this one again until it is taken.
async fn one_too_many(limits: Limits, burst: u64, slug: &str) {
    let logs = Logs::with(1, true, limits).await;
    let mut member = logs.join(1).await;
    for n in 1..=burst + 1 {
        member.publish(n, "log").await;
    }
    let mut acked = Vec::new();
    while !acked.contains(&(burst + 1)) {
        let said = member.answer().await;
        let n = said["n"].as_u64().unwrap();
        if said["t"] == "ack" {
            acked.push(n);
            continue;
        }
        let told = (&said["error"], &said["limit"], n);
        assert_eq!(told, (&json!(slug), &json!(1), burst + 1), "{said}");
        tokio::time::sleep(POLL).await;
        member.publish(n, "log").await;
    }
    let mut want: Vec<u64> = (1..=burst + 1).collect();
    acked.sort_unstable();
    assert_eq!(acked, want, "each once");
    for n in want.drain(..) {
        let event = member.event(|_| true).await;
        assert_eq!((&event["seq"], &event["body"]), (&json!(n), &json!(n)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_members_rate_is_told_and_nothing_is_lost() {
    let mut limits = limits();
    limits.messages.member.rate = 1;
    limits.messages.member.burst = 3;
    one_too_many(limits, 3, "rate_limited").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rooms_rate_is_told_and_nothing_is_lost() {
    let mut limits = limits();
    limits.messages.room_rate = 1;
    limits.messages.room_burst = 3;
    one_too_many(limits, 3, "room_rate_limited").await;
}
