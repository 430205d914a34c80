//! Whoever lags far and asked for it is spared state that is written again.

use std::collections::BTreeMap;

use longspan_edge::Limits;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    backbone::PATIENCE,
    logs::{CBOR, JSON, Logs, Member},
};

/// More than a batch, fewer than the edge holds. Every third is state, of four keys.
const MESSAGES: u64 = 400;
const KEYS: u64 = 4;

/// What a member heard that began before all.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    chat: Vec<u64>,
    state: BTreeMap<String, u64>,
    skipped: u64,
    /// Ordered messages that came.
    came: u64,
}

/// Hears everything up to the last place; holes are those that are told.
async fn hear(member: &mut Member) -> Heard {
    let (mut heard, mut seq) = (Heard::default(), 0);
    while seq < MESSAGES {
        let word = timeout(PATIENCE, member.next()).await.expect("a word");
        let events = match word["t"].as_str() {
            Some("ev") => vec![word.clone()],
            Some("evs") => word["evs"].as_array().unwrap().clone(),
            _ => panic!("{word}"),
        };
        let skipped = word["skipped"].as_u64().unwrap_or(0);
        let mut left = skipped;
        for event in &events {
            let at = event["seq"].as_u64().unwrap();
            left -= at - seq - 1;
            seq = at;
            heard.came += 1;
            match event["key"].as_str() {
                Some(key) => drop(heard.state.insert(key.to_owned(), at)),
                None => heard.chat.push(event["body"].as_u64().unwrap()),
            }
        }
        assert_eq!(left, 0, "no more and no fewer are left out than is said");
        heard.skipped += skipped;
    }
    heard
}

fn message(n: u64) -> Value {
    let mut message = json!({ "t": "pub", "n": n, "class": "log", "topic": "t", "body": n });
    if n.is_multiple_of(3) {
        message["class"] = "state".into();
        message["key"] = format!("key-{}", n % KEYS).into();
    }
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn it_has_every_other_message_and_the_same_state() {
    let mut limits = Limits::default();
    limits.messages.presence = false;
    limits.messages.member.rate = 100_000;
    limits.messages.member.burst = 100_000;
    let logs = Logs::with(1, true, limits).await;
    let mut writer = logs.join(1).await;
    for n in 1..=MESSAGES {
        writer.send(message(n)).await;
        // Not more than may be unanswered.
        if n % 100 == 0 {
            let acked = async { while writer.answer().await["n"] != n {} };
            timeout(PATIENCE, acked).await.expect("acks");
        }
    }
    let mut all = Vec::new();
    for (session, query, protocol) in [(2, "", JSON), (3, "?skips=1", JSON), (4, "?skips=1", CBOR)]
    {
        let mut reader = logs.try_connect_with(0, query, protocol).await.unwrap();
        let session = format!("{session:02x}").repeat(16);
        let resume = json!({ "seq": 0 });
        reader
            .send(json!({ "t": "hello", "session": session, "resume": resume }))
            .await;
        logs.welcome(0, &mut reader).await;
        all.push(hear(&mut reader).await);
    }
    let full = &all[0];
    assert_eq!((full.came, full.skipped), (MESSAGES, 0));
    assert_eq!(full.chat.len() as u64, MESSAGES - MESSAGES / 3);
    for spared in &all[1..] {
        assert_eq!((&spared.chat, &spared.state), (&full.chat, &full.state));
        assert_eq!(spared.came + spared.skipped, MESSAGES);
        // The last batch is whole.
        assert!(
            spared.skipped > (MESSAGES - 128) / 3 - KEYS,
            "{}",
            spared.skipped
        );
    }
    // Nobody who is up to date is spared anything.
    let mut quick = logs.try_connect_with(0, "?skips=1", JSON).await.unwrap();
    quick
        .send(json!({ "t": "hello", "session": "05".repeat(16) }))
        .await;
    logs.welcome(0, &mut quick).await;
    for n in MESSAGES + 1..=MESSAGES + 20 {
        writer.send(message(n)).await;
        let event = quick.event(|event| event["body"] == n).await;
        assert_eq!(event["seq"], n);
    }
}
