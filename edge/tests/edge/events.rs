//! What a room's page is told as it happens.

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::{
    backbone::{Backbone, PATIENCE},
    client::{ask, get, publish, request},
};

/// Somebody who listens to `/rooms/math/events`.
struct Listener(BufReader<TcpStream>);

impl Listener {
    async fn open(edge: &Backbone) -> Listener {
        Listener(BufReader::new(
            ask(edge, "GET", "/rooms/math/events", "").await,
        ))
    }

    /// Waits for an event that says so.
    async fn hears(&mut self, what: &str, says: impl Fn(&Value) -> bool) -> Value {
        let listening = async {
            let mut line = String::new();
            loop {
                line.clear();
                let read = self.0.read_line(&mut line).await.unwrap();
                assert!(read > 0, "the events ended");
                let data = line.strip_prefix("data: ");
                let told = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
                if let Some(told) = told.filter(&says) {
                    return told;
                }
            }
        };
        let heard = timeout(PATIENCE, listening).await;
        heard.unwrap_or_else(|_| panic!("not told: {what}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_told_as_it_changes() {
    let backbone = Backbone::open().await;
    let mut listener = Listener::open(&backbone).await;
    let empty = listener
        .hears("nothing is on", |room| room["streams"][0].is_null())
        .await;
    assert_eq!(empty, get(&backbone, "/rooms/math").await.json());
    let first = publish(&backbone.rtmp("math/teacher"));
    listener
        .hears("a stream is on", |room| {
            room["streams"][0]["generation"] == "0.1"
        })
        .await;
    let _viewer = ask(&backbone, "GET", "/live/math/teacher.flv", "").await;
    let watched = listener
        .hears("its path", |room| !room["streams"][0]["path"].is_null())
        .await;
    assert_eq!(watched["streams"][0]["path"][0]["node"], "here-edge-1");
    let _second = publish(&backbone.rtmp("math/teacher"));
    listener
        .hears("the next generation", |room| {
            room["streams"][0]["generation"] == "0.2"
        })
        .await;
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_may_not_be_entered_is_not_told() {
    let backbone = Backbone::with(false, longspan_edge::Limits::default()).await;
    let refused = request(&backbone, "GET", "/rooms/math/events", "").await;
    assert_eq!(refused.status, 401);
    let wrong = request(&backbone, "GET", "/rooms/a%20b/events", "").await;
    assert_eq!(wrong.status, 400);
}
