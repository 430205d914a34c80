//! What a member says wrong is answered by name and costs the room nothing: the connection stays,
//! or, where its frames make no sense any more, is told why before it is closed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use super::{backbone::Backbone, http, messages::Member, process::eventually};

const BOUND: Duration = Duration::from_secs(30);

/// A message for the log, with other fields instead.
fn publish(n: u64, fields: Value) -> Value {
    let mut message = json!({ "t": "pub", "n": n, "class": "log", "topic": "chat", "body": n });
    for (name, value) in fields.as_object().expect("fields") {
        message[name] = value.clone();
    }
    message
}

async fn join(backbone: &Backbone, region: &str, session: &str) -> Member {
    let http = backbone.region(region).http;
    eventually("a place in the room", BOUND, async || {
        Member::join(&http, "talk", &session.repeat(16)).await
    })
    .await
}

/// The next message that is not an event of the room.
async fn answer(member: &mut Member) -> Value {
    loop {
        let said = member.next().await.expect("the connection stays");
        if !said["t"].as_str().is_some_and(|t| t.starts_with("ev")) {
            return said;
        }
    }
}

/// Says `message`, and expects to be refused: the slug, words of the reason, n and limit.
async fn refused(
    member: &mut Member,
    message: Message,
    slug: &str,
    why: &str,
    n: Option<u64>,
    limit: Option<u64>,
) {
    member.try_send(message).await.expect("the edge listens");
    let said = answer(member).await;
    assert_eq!(
        (&said["t"], &said["error"]),
        (&"err".into(), &slug.into()),
        "{said}"
    );
    assert!(
        said["message"].as_str().is_some_and(|m| m.contains(why)),
        "{why}: {said}"
    );
    assert_eq!(
        (said["n"].as_u64(), said["limit"].as_u64()),
        (n, limit),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_named_with_its_limit_and_the_connection_stays() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "hk,sg"]);
    let mut listener = join(&backbone, "hk", "0a").await;
    let mut member = join(&backbone, "sg", "0b").await;
    let text = |value: Value| Message::text(value.to_string());
    let long = |len: usize| "x".repeat(len);
    let (n1, n2) = (Some(1), Some(2));

    // What the edge refuses itself. Whatever had a number is passed over, so 2 follows 1.
    let cases = [
        (
            Message::text("not json"),
            "invalid",
            "not an object in JSON",
            None,
            None,
        ),
        (Message::text("{\"t\":"), "invalid", "EOF", None, None),
        (
            text(json!([1])),
            "invalid",
            "not an object in JSON",
            None,
            None,
        ),
        (
            text(json!({ "t": "sing" })),
            "unknown_type",
            "\"sing\"; hello, pub and ping",
            None,
            None,
        ),
        (
            text(json!({ "t": "hello", "session": "0b" })),
            "invalid_session",
            "32 hexadecimal",
            None,
            None,
        ),
        (
            text(json!({ "t": "hello", "session": long(32) })),
            "invalid_session",
            "32 hexadecimal",
            None,
            None,
        ),
        (
            text(json!({ "t": "hello", "session": "0b".repeat(16) })),
            "hello_again",
            "once",
            None,
            None,
        ),
        (
            Message::binary(vec![0xa0]),
            "wrong_frame",
            "binary frame",
            None,
            None,
        ),
        (
            text(publish(1, json!({ "class": "loud" }))),
            "wrong_class",
            "\"loud\"; log, state",
            n1,
            None,
        ),
        (
            text(publish(1, json!({ "class": "state" }))),
            "wrong_class",
            "needs a key",
            n1,
            None,
        ),
        (
            text(publish(1, json!({ "colour": "red" }))),
            "invalid",
            "`colour`",
            n1,
            None,
        ),
        (
            text(publish(1, json!({ "topic": long(65) }))),
            "too_long",
            "topic has 65 bytes",
            n1,
            Some(64),
        ),
        (
            text(publish(1, json!({ "body": long(16_382) }))),
            "too_long",
            "16385 bytes",
            n1,
            Some(16_384),
        ),
        (
            text(publish(1, json!({ "body": long(200_000) }))),
            "too_long",
            "the message",
            n1,
            Some(102_400),
        ),
        (
            text(publish(1 << 53, json!({}))),
            "invalid",
            "9007199254740991",
            None,
            Some((1 << 53) - 1),
        ),
    ];
    for (message, slug, why, n, limit) in cases {
        refused(&mut member, message, slug, why, n, limit).await;
    }
    // What the room's home refuses, two nodes on.
    let jumped = text(publish(7, json!({})));
    refused(
        &mut member,
        jumped,
        "n_jumped",
        "next one expected is 2",
        Some(7),
        n2,
    )
    .await;
    let conflict = publish(2, json!({ "class": "state", "key": "k", "if": 5 }));
    refused(
        &mut member,
        text(conflict),
        "conflict",
        "revision 0, not 5",
        n2,
        Some(0),
    )
    .await;

    // The connection and the session are as good as before, and nobody heard of it.
    member.send(json!({ "t": "ping" })).await;
    assert_eq!(answer(&mut member).await["t"], "pong");
    member.send(publish(3, json!({ "body": "fine" }))).await;
    let ack = answer(&mut member).await;
    assert_eq!((&ack["t"], &ack["n"]), (&"ack".into(), &3.into()), "{ack}");
    let heard = listener.next().await.expect("the connection stays");
    assert_eq!(
        (&heard["t"], &heard["body"]),
        (&"ev".into(), &"fine".into()),
        "{heard}"
    );
    assert_eq!(heard["seq"], ack["seq"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_beginning_is_answered_and_a_right_one_still_possible() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "hk,sg"]);
    join(&backbone, "hk", "0a").await;
    let http = backbone.region("sg").http;
    let mut member = Member::connect(&http, "talk").await.expect("connected");
    let text = |value: Value| Message::text(value.to_string());
    for (message, slug, why) in [
        (publish(1, json!({})), "not_joined", "say hello"),
        (
            json!({ "t": "hello" }),
            "invalid",
            "missing field `session`",
        ),
        (
            json!({ "t": "hello", "session": 7 }),
            "invalid",
            "expected a string",
        ),
        (
            json!({ "t": "hello", "session": "no" }),
            "invalid_session",
            "32 hexadecimal",
        ),
        (
            json!({ "t": "hello", "session": "0b".repeat(16), "resume": 3 }),
            "invalid",
            "expected struct",
        ),
        (
            json!({ "t": "hello", "session": "0b".repeat(16), "room": "x" }),
            "invalid",
            "`room`",
        ),
    ] {
        refused(&mut member, text(message), slug, why, None, None).await;
    }
    member
        .send(json!({ "t": "hello", "session": "0b".repeat(16) }))
        .await;
    let welcome = member.next().await.expect("the connection stays");
    assert_eq!(welcome["t"], "welcome", "{welcome}");
    member.send(publish(1, json!({}))).await;
    assert_eq!(answer(&mut member).await["t"], "ack");

    // Before there is a WebSocket: plain HTTP, and a subprotocol that nobody speaks.
    let plain = http::get(&format!("{http}/rooms/talk/messages")).await;
    let plain = plain.expect("an answer");
    assert!((400..500).contains(&plain.status), "{}", plain.status);
    assert_eq!(plain.json()["error"], "not_a_websocket");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_frames_are_told_before_the_close() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "hk,sg"]);
    let mut listener = join(&backbone, "hk", "0a").await;
    let text = |payload: Vec<u8>| Frame::message(payload, OpCode::Data(Data::Text), true);
    let mut reserved = text(b"{}".to_vec());
    reserved.header_mut().rsv1 = true;
    let mut split_ping = Frame::ping(vec![]);
    split_ping.header_mut().is_final = false;
    let mut half = text(b"{\"t\":".to_vec());
    half.header_mut().is_final = false;

    // RFC 6455 §7.4.1: 1009 too big, 1007 not UTF-8, 1002 anything else.
    for (session, frames, why, limit, code) in [
        (
            "10",
            vec![text(vec![b'x'; (1 << 20) + 1])],
            "1048577 > 1048576",
            Some(1 << 20),
            1009,
        ),
        (
            "11",
            vec![text(b"{\"t\":\"\xff\"}".to_vec())],
            "UTF-8",
            None,
            1007,
        ),
        ("12", vec![reserved], "eserved bits", None, 1002),
        ("13", vec![split_ping], "control frame", None, 1002),
        ("14", vec![half.clone(), half], "more fragments", None, 1002),
    ] {
        let mut member = join(&backbone, "sg", session).await;
        for frame in frames {
            // The edge may have closed before it took all of it.
            let _ = member.try_send(Message::Frame(frame)).await;
        }
        let said = answer(&mut member).await;
        assert_eq!(
            (&said["t"], &said["error"]),
            (&"err".into(), &"invalid_frame".into()),
            "{said}"
        );
        let told = said["message"].as_str().unwrap_or_default();
        assert!(
            told.to_lowercase().contains(&why.to_lowercase()),
            "{why}: {said}"
        );
        assert_eq!(said["limit"].as_u64(), limit, "{said}");
        assert_eq!(
            member.next_or_close().await,
            Err(Some(code)),
            "{why}: one reason, then the close"
        );
    }

    // A member who does nothing but wrong is sent away, and told so.
    let mut member = join(&backbone, "sg", "15").await;
    let mut refusals = 0;
    let last = loop {
        if refusals <= 1_000 {
            let _ = member.try_send(Message::text("wrong")).await;
        }
        let said = answer(&mut member).await;
        assert_eq!(said["t"], "err", "{said}");
        if said["error"] != "invalid" {
            break said;
        }
        refusals += 1;
    };
    assert_eq!(
        (refusals, &last["error"]),
        (1_001, &"too_many_errors".into()),
        "{last}"
    );
    assert!(
        last["message"].as_str().is_some_and(|m| m.contains("1000")),
        "{last}"
    );
    assert_eq!(member.next_or_close().await, Err(Some(1008)));

    // The room goes on as if nothing had been.
    let mut member = join(&backbone, "sg", "16").await;
    member.send(publish(1, json!({ "body": "fine" }))).await;
    let ack = answer(&mut member).await;
    assert_eq!(ack["t"], "ack");
    let heard = listener.next().await.expect("the connection stays");
    assert_eq!(
        (&heard["seq"], &heard["body"]),
        (&ack["seq"], &"fine".into()),
        "{heard}"
    );
}
