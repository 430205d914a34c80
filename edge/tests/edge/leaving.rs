//! An edge that stops sends its members elsewhere first.

use std::time::Duration;

use longspan_edge::Limits;
use serde_json::json;
use tokio::time::timeout;

use super::{
    backbone::PATIENCE,
    logs::{CBOR, JSON, Logs},
};

#[tokio::test(flavor = "multi_thread")]
async fn members_are_told_where_to_go_and_lose_nothing_there() {
    let mut limits = Limits::default();
    limits.messages.presence = false;
    // Longer than this test takes: only members who went let the edge go on.
    limits.messages.goaway = PATIENCE * 10;
    let logs = Logs::with(2, true, limits).await;
    let (mut stays, _) = logs.join_at(1, 9, None, JSON).await;
    let (mut goes, _) = logs.join_at(0, 1, None, JSON).await;
    let (mut silent, _) = logs.join_at(0, 2, None, CBOR).await;
    goes.publish(1, "log").await;
    let first = goes.answer().await;
    assert_eq!((&first["t"], &first["n"]), (&json!("ack"), &json!(1)));

    logs.edges[0].stop();
    let url = logs.edges[1].url();
    for member in [&mut goes, &mut silent] {
        let told = member.answer().await;
        assert_eq!(told["t"], "goaway", "{told}");
        assert_eq!(told["alternatives"], json!([url]));
        assert!(told["deadline_ms"].as_u64().unwrap() >= 10_000, "{told}");
    }
    // Until then all is as it was, but nobody comes.
    goes.publish(2, "log").await;
    assert_eq!(goes.answer().await["n"], 2);
    let refused = logs
        .try_connect(0, None, JSON)
        .await
        .expect_err("it is refused");
    assert_eq!(refused["error"], "going_away");
    assert!(
        refused["message"].as_str().unwrap().contains(&url),
        "{refused}"
    );
    drop((goes, silent));

    // The same session elsewhere: what was acked is not taken twice, what comes next is.
    let (mut goes, _) = logs.join_at(1, 1, None, JSON).await;
    goes.publish(2, "log").await;
    let again = goes.answer().await;
    assert_eq!(
        (&again["t"], &again["seq"]),
        (&json!("ack"), &json!(2)),
        "{again}"
    );
    goes.publish(3, "log").await;
    for n in 1..=3 {
        let event = stays.event(|event| event["topic"] == "chat").await;
        assert_eq!((&event["seq"], &event["body"]), (&json!(n), &json!(n)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_go_is_closed_with_a_reason() {
    let mut limits = Limits::default();
    limits.messages.goaway = Duration::from_millis(100);
    let logs = Logs::with(1, true, limits).await;
    let (mut member, _) = logs.join_at(0, 1, None, JSON).await;
    logs.edges[0].stop();
    let told = member.answer().await;
    assert_eq!(
        (&told["t"], &told["alternatives"]),
        (&json!("goaway"), &json!([]))
    );
    let ended = async {
        let mut reason = None;
        loop {
            match member.next_or_close().await {
                Ok(word) if word["t"] == "err" => reason = Some(word["error"].clone()),
                Ok(_) => {}
                Err(close) => return (reason, close),
            }
        }
    };
    let (reason, close) = timeout(PATIENCE, ended).await.expect("it is closed");
    assert_eq!(reason, Some(json!("going_away")));
    assert_eq!(close, Some((1001, "going_away".into())));
}
