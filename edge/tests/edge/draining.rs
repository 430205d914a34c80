//! An edge that an operator drains: nobody new, those who are there have time, publishers stay.

use std::time::Duration;

use longspan_edge::Limits;
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, time::timeout};

use super::{
    backbone::{Backbone, OTHER, PATIENCE},
    client::{Answer, ask, get, get_once_there, get_until, last_words, publish},
    logs::{CBOR, JSON, Logs},
};

/// Longer than any of these tests takes.
const LONG: Option<Duration> = Some(Duration::from_secs(600));
/// The time is over.
const OVER: Option<Duration> = Some(Duration::ZERO);

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.messages.presence = false;
    // An edge that stops would not wait for its members; one that is drained gives them time.
    limits.messages.goaway = Duration::ZERO;
    limits
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_told_once_and_nobody_comes_until_it_is_taken_back() {
    let logs = Logs::with(2, true, limits()).await;
    let (mut stays, _) = logs.join_at(0, 1, None, JSON).await;
    let (mut other, _) = logs.join_at(0, 2, None, CBOR).await;
    logs.drain(0, LONG);
    let url = logs.edges[1].url();
    for member in [&mut stays, &mut other] {
        let told = member.answer().await;
        assert_eq!(told["t"], "goaway", "{told}");
        assert_eq!(told["alternatives"], json!([url]));
        let deadline = told["deadline_ms"].as_u64().unwrap();
        assert!((5_000..=30_000).contains(&deadline), "{told}");
    }
    let refused = logs.try_connect(0, None, JSON).await.expect_err("refused");
    assert_eq!(refused["error"], "going_away");
    assert_eq!(refused["alternatives"], json!([url]), "{refused}");
    assert!(
        refused["message"].as_str().unwrap().contains(&url),
        "{refused}"
    );
    assert_eq!(edges_of(&logs, 1).await, std::slice::from_ref(&url));

    // The directory is told again for other reasons: whoever was told is not told again, and what
    // runs runs on.
    logs.drain(0, LONG);
    stays.publish(1, "log").await;
    let answer = stays.answer().await;
    assert_eq!(
        (&answer["t"], &answer["n"]),
        (&json!("ack"), &json!(1)),
        "{answer}"
    );

    logs.drain(0, None);
    logs.let_in(0).await;
    assert_eq!(edges_of(&logs, 1).await.len(), 2);
    stays.publish(2, "log").await;
    assert_eq!(stays.answer().await["n"], 2);
    // Drained again, they are told again.
    logs.drain(0, LONG);
    assert_eq!(stays.answer().await["t"], "goaway");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_there_at_the_deadline_is_closed_and_the_edge_runs_on() {
    let logs = Logs::with(2, true, limits()).await;
    let (mut member, _) = logs.join_at(0, 1, None, JSON).await;
    logs.drain(0, Some(Duration::from_millis(300)));
    let told = member.answer().await;
    assert_eq!(told["t"], "goaway", "{told}");
    assert!(told["deadline_ms"].as_u64().unwrap() <= 300, "{told}");
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
    let refused = logs.try_connect(0, None, JSON).await.expect_err("refused");
    assert_eq!(refused["error"], "going_away");
    logs.drain(0, None);
    logs.let_in(0).await;
    let (mut back, _) = logs.join_at(0, 1, None, JSON).await;
    back.publish(1, "log").await;
    assert_eq!(back.answer().await["t"], "ack");
}

/// The edges that an edge tells newcomers of.
async fn edges_of(logs: &Logs, edge: usize) -> Vec<String> {
    let told: Value = logs.edges[edge].get("/edges").await;
    let all = told.as_array().expect("a list").iter();
    all.map(|edge| edge["http"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn publishers_stay_viewers_have_time_and_nobody_new_is_taken() {
    let backbone = Backbone::open().await;
    let mut publisher = publish(&backbone.rtmp("math/teacher"));
    let playlist = "/hls/math/teacher/index.m3u8";
    get_once_there(&backbone, playlist).await;
    let path = "/live/math/teacher.flv";
    let mut viewer = ask(&backbone, "GET", path, "").await;
    let mut bytes = [0; 4_096];
    viewer.read_exact(&mut bytes).await.unwrap();

    backbone.controller.drain(LONG);
    let unknown = "/live/math/nobody.flv";
    get_until(&backbone, unknown, |answer| answer.status == 503).await;
    let refused = get(&backbone, path).await.json();
    assert_eq!(refused["error"], "going_away");
    assert_eq!(refused["alternatives"], json!([OTHER.0]), "{refused}");
    let said = last_words(publish(&backbone.rtmp("math/student"))).await;
    assert!(
        said.contains(&format!("going away; try {}", OTHER.1)),
        "{said}"
    );
    // Whoever is there goes on.
    assert_eq!(get(&backbone, playlist).await.status, 200);
    for _ in 0..20 {
        viewer.read_exact(&mut bytes).await.unwrap();
    }

    backbone.controller.drain(OVER);
    let ended = async { while viewer.read(&mut bytes).await.unwrap() > 0 {} };
    timeout(PATIENCE, ended).await.expect("the viewer is ended");
    get_until(&backbone, playlist, |answer| answer.status == 503).await;
    let counted = |room: &Answer| {
        let stream = &room.json()["streams"][0];
        stream["stream"] == "teacher" && stream["viewers"] == 0
    };
    get_until(&backbone, "/rooms/math", counted).await;
    assert!(
        publisher.try_wait().unwrap().is_none(),
        "the publisher stays"
    );

    backbone.controller.drain(None);
    get_once_there(&backbone, playlist).await;
    let mut viewer = ask(&backbone, "GET", path, "").await;
    viewer.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes[..12], b"HTTP/1.1 200");
    let _another = publish(&backbone.rtmp("math/student"));
    get_once_there(&backbone, "/hls/math/student/index.m3u8").await;
}
