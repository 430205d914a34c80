//! Members are fed by their room while they are silent, and by their own task while they are not: whoever
//! listens is told the same.

use std::time::Duration;

use longspan_edge::Limits;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::logs::{CBOR, JSON, Logs, Member};

const MESSAGES: u64 = 300;

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.messages.presence = false;
    limits.messages.member.rate = 100_000;
    limits.messages.member.burst = 100_000;
    limits
}

/// Hears all messages; says something of its own between them, so often.
async fn hear(mut member: Member, word: Option<Message>) {
    let mut heard = Vec::new();
    while heard.len() < MESSAGES as usize {
        let event = tokio::time::timeout(Duration::from_millis(2), member.event(|_| true)).await;
        heard.extend(event.ok().and_then(|event| event["body"].as_u64()));
        if let Some(word) = &word {
            member.send_raw(word.clone()).await;
        }
    }
    assert!(heard.iter().copied().eq(1..=MESSAGES), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_pings_asks_or_keeps_still_is_told_the_same() {
    let logs = Logs::with(1, true, limits()).await;
    let mut hearing = Vec::new();
    let ping = || Message::Ping(vec![7; 100].into());
    for (session, protocol, word) in [
        (1, JSON, None),
        (2, CBOR, None),
        (3, JSON, Some(ping())),
        (4, CBOR, Some(ping())),
        (
            5,
            JSON,
            Some(Message::text(json!({ "t": "ping" }).to_string())),
        ),
    ] {
        let (member, _) = logs.join_at(0, session, None, protocol).await;
        hearing.push(tokio::spawn(hear(member, word)));
    }
    let mut speaker = logs.join(9).await;
    for n in 1..=MESSAGES {
        speaker.publish(n, "log").await;
        if n % 100 == 0 {
            // As many as may be unanswered.
            for _ in 0..100 {
                assert_eq!(speaker.answer().await["t"], "ack");
            }
        }
    }
    for hearing in hearing {
        hearing.await.unwrap();
    }
}
