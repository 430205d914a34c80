//! What a token allows its bearer to say in a room, over a WebSocket, in both encodings.

use longspan_edge::Limits;
use serde_json::{Value, json};

use super::{
    client::{claims, sign},
    logs::{CBOR, JSON, Logs, Member},
};

async fn refused(member: &mut Member, message: Value, slug: &str, why: &[&str]) {
    let n = message["n"].clone();
    member.send(message).await;
    let said = member.answer().await;
    assert_eq!((&said["error"], &said["n"]), (&json!(slug), &n), "{said}");
    let told = said["message"].as_str().unwrap_or_default();
    assert!(why.iter().all(|word| told.contains(word)), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pupil_may_say_what_its_token_says_and_stays_when_it_says_more() {
    let logs = Logs::with(1, false, Limits::default()).await;
    let mut pupil = claims("anna");
    pupil["messages"] = json!({ "publish": [
        { "topic": "chat", "class": ["log"] },
        { "topic": "hand", "class": ["state"], "keys": ["hand/$member"] },
    ]});
    let pupil = sign(&pupil);
    let (mut teacher, _) = logs
        .join_at(0, 9, Some(&sign(&claims("ms-lee"))), JSON)
        .await;
    for (session, protocol) in [(1, JSON), (2, CBOR)] {
        let (mut anna, welcome) = logs.join_at(0, session, Some(&pupil), protocol).await;
        assert_eq!(welcome["member"], "anna");
        let state = |n: u64, topic: &str, key: &str| json!({ "t": "pub", "n": n, "class": "state", "topic": topic, "key": key, "body": true });
        let board = state(1, "board", "board/1");
        refused(
            &mut anna,
            board,
            "forbidden_topic",
            &["\"board\"", "chat, hand"],
        )
        .await;
        let chat = state(2, "chat", "hand/anna");
        refused(
            &mut anna,
            chat,
            "forbidden_class",
            &["class state", "allowed: log"],
        )
        .await;
        let ben = state(3, "hand", "hand/ben");
        refused(&mut anna, ben, "forbidden_key", &["hand/ben", "hand/anna"]).await;
        let presence = state(4, "presence", "presence/ben");
        refused(&mut anna, presence, "forbidden_topic", &["reserved"]).await;

        // The four were passed over: the fifth is the next.
        anna.send(state(5, "hand", "hand/anna")).await;
        let ack = anna.answer().await;
        assert_eq!((&ack["t"], &ack["n"]), (&json!("ack"), &json!(5)), "{ack}");
        let hand = teacher.event(|event| event["topic"] == "hand").await;
        assert_eq!(
            (&hand["key"], &hand["from"]),
            (&json!("hand/anna"), &json!("anna"))
        );
    }
    // Without the claim everything may be said but what edges say.
    let lower = json!({ "t": "pub", "n": 1, "class": "state", "topic": "hand", "key": "hand/anna", "body": null });
    teacher.send(lower).await;
    assert_eq!(teacher.answer().await["t"], "ack");
    let forged = json!({ "t": "pub", "n": 2, "class": "state", "topic": "x", "key": "presence/x", "body": 1 });
    refused(&mut teacher, forged, "forbidden_key", &["reserved"]).await;
}
