//! What is wrong is refused, with what is wrong about it.

use std::time::Duration;

use longspan_edge::{BindError, Config, Edge, Limits, auth};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    backbone::{Backbone, PATIENCE, node_config},
    client::{get, get_once_there, last_words, packets, publish, request, token},
};

#[tokio::test(flavor = "multi_thread")]
async fn http_says_what_is_wrong() {
    let backbone = Backbone::open().await;
    for (path, status, error) in [
        ("/live/math/nobody.flv", 404, "unknown_stream"),
        ("/live/math/nobody.mp4", 404, "unknown_stream"),
        ("/hls/math/nobody/index.m3u8", 404, "unknown_stream"),
        ("/hls/math/nobody/1-1.txt", 404, "unknown_file"),
        ("/live/math/nobody.avi", 404, "unknown_format"),
        ("/live/ma%20th/nobody.flv", 400, "invalid_name"),
        ("/rooms/ma%20th", 400, "invalid_name"),
        ("/rooms/%ff", 400, "invalid_path"),
        ("/classroom/ma%20th", 400, "invalid_name"),
        ("/nowhere", 404, "unknown_path"),
        ("/rooms/math?token=garbage", 401, "token_invalid"),
    ] {
        let answer = get(&backbone, path).await;
        assert_eq!(answer.status, status, "{path}");
        let body = answer.json();
        assert_eq!(body["error"], error, "{path}");
        assert!(body["message"].as_str().unwrap().len() > 10, "{path}");
        assert!(answer.headers.contains("access-control-allow-origin: *"));
    }
    let unknown = get(&backbone, "/live/math/nobody.flv").await.json();
    assert_eq!(
        unknown["message"],
        r#"nobody publishes the stream "nobody" in the room "math""#
    );
    let post = request(&backbone, "POST", "/rooms/math", "Content-Length: 0\r\n").await;
    assert_eq!(
        (post.status, post.json()["error"].as_str()),
        (405, Some("unknown_method"))
    );
    let preflight = request(&backbone, "OPTIONS", "/live/math/x.flv", "").await;
    assert_eq!(preflight.status, 204);
    assert!(preflight.headers.contains("access-control-allow-methods"));
    let page = get(&backbone, "/classroom/math").await;
    assert!(page.text().starts_with("<!doctype html>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_edge_asks_for_tokens() {
    let backbone = Backbone::with(false, Limits::default()).await;
    let missing = get(&backbone, "/rooms/math").await;
    assert_eq!(
        (missing.status, missing.json()["error"].as_str()),
        (401, Some("token_missing"))
    );
    let good = token("anna", json!({}));
    let header = format!("Authorization: Bearer {good}\r\n");
    assert_eq!(
        request(&backbone, "GET", "/rooms/math", &header)
            .await
            .status,
        200
    );
    let other = get(&backbone, &format!("/rooms/physics?jwt={good}")).await;
    assert_eq!(
        (other.status, other.json()["error"].as_str()),
        (403, Some("forbidden"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_named() {
    let limits = Limits {
        viewers: 0,
        rooms: 1,
        publishers: 0,
        ..Limits::default()
    };
    let backbone = Backbone::with(true, limits).await;
    let full = get(&backbone, "/live/math/teacher.flv").await;
    assert_eq!(full.status, 503);
    assert_eq!(
        full.json(),
        json!({"error": "too_many_viewers", "limit": 0,
               "message": "this edge has 0 viewers already, which is its limit"})
    );
    assert_eq!(get(&backbone, "/rooms/math").await.status, 200);
    let rooms = get(&backbone, "/rooms/physics").await;
    assert_eq!(
        (rooms.status, rooms.json()["limit"].as_u64()),
        (503, Some(1))
    );
    let said = last_words(publish(&backbone.rtmp("math/teacher"))).await;
    assert!(
        said.contains("0 streams are published at this edge already"),
        "{said}"
    );
}

/// Sends bytes to the RTMP port, and waits until the edge closes.
async fn is_closed_after(backbone: &Backbone, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(backbone.addresses.rtmp).await.unwrap();
    tcp.write_all(bytes).await.unwrap();
    let mut answer = vec![];
    // A reset says the same as an end.
    let _ = timeout(PATIENCE, tcp.read_to_end(&mut answer))
        .await
        .expect("the edge closes");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn rtmp_garbage_closes() {
    let backbone = Backbone::open().await;
    assert!(
        is_closed_after(&backbone, b"GET / HTTP/1.1\r\n\r\n")
            .await
            .is_empty()
    );
    // A handshake, and a message of 16 MB on chunk stream 3 (§5.3.1).
    let mut oversized = vec![3];
    oversized.resize(1 + 2 * 1_536, 0);
    let handshake = oversized.len();
    oversized.extend([3, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0]);
    oversized.resize(oversized.len() + 256, 0);
    assert!(is_closed_after(&backbone, &oversized).await.len() >= handshake);
    // A command that is no AMF.
    let mut wrong = oversized[..handshake].to_vec();
    wrong.extend([3, 0, 0, 0, 0, 0, 4, 20, 0, 0, 0, 0, 0xee, 0xee, 0xee, 0xee]);
    assert!(is_closed_after(&backbone, &wrong).await.len() >= handshake);
    // Who behaves is served.
    let said = last_words(publish(&backbone.rtmp("@room/teacher"))).await;
    assert!(said.contains("holds '@'"), "{said}");
    let _publisher = publish(&backbone.rtmp("math/teacher"));
    get_once_there(&backbone, "/hls/math/teacher/index.m3u8").await;
    assert_eq!(packets(&backbone.rtmp("math/teacher"), 10).await.len(), 10);
    let (content, _, said) =
        super::client::run(&["-i", &backbone.rtmp("math/nobody"), "-f", "null", "-"]).await;
    assert!(
        !content && said.contains("nobody publishes the stream"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rtmp_silence_closes() {
    let limits = Limits {
        setup: Duration::from_millis(300),
        ..Limits::default()
    };
    let backbone = Backbone::with(true, limits).await;
    assert!(is_closed_after(&backbone, &[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = |http, open| Config {
        node: node_config(),
        http,
        rtmp: ([127, 0, 0, 1], 0).into(),
        auth: auth::Config {
            open,
            ..auth::Config::default()
        },
        limits: Limits::default(),
    };
    let address = taken.local_addr().unwrap();
    let Err(error) = Edge::bind(config(address, true)).await else {
        panic!("the port is taken");
    };
    assert!(matches!(error, BindError::InUse { what: "http", .. }));
    assert!(error.to_string().contains(&address.to_string()));
    let free = ([127, 0, 0, 1], 0).into();
    assert!(matches!(
        Edge::bind(config(free, false)).await,
        Err(BindError::Auth(auth::ConfigError::NobodyEnters))
    ));
}
