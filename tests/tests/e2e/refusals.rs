//! Bad input is refused by name, and disturbs nobody.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::json;

use super::{backbone::Backbone, http, messages::Member, process::eventually};

fn rtmp_address(url: &str) -> String {
    url.strip_prefix("rtmp://").expect("rtmp").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_answers_nonsense_and_lives() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "hk,sg"]);
    let edge = backbone.region("hk");

    // Unknown streams: 404 with the reason as JSON.
    for path in [
        "/live/none/teacher.flv",
        "/hls/none/teacher/index.m3u8",
        "/live/none/teacher.mp4",
    ] {
        let answer = http::get(&format!("{}{path}", edge.http))
            .await
            .expect("an answer");
        assert_eq!(answer.status, 404, "{path}");
        let body = answer.json();
        assert!(
            body["error"].is_string() && body["message"].is_string(),
            "{path}: {body}"
        );
    }
    let answer = http::get(&format!("{}/rooms/%20bad%20", edge.http))
        .await
        .expect("an answer");
    assert_eq!(
        answer.status,
        400,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );

    // RTMP: garbage, and a handshake followed by a chunk of an impossible size.
    let mut handshake = vec![3];
    handshake.extend([0; 1536]);
    handshake.extend([0; 1536]);
    let mut oversized = handshake.clone();
    // Chunk stream 3, timestamp 0, length 0xffffff, type 20, message stream 0.
    oversized.extend([3, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0]);
    oversized.extend([0; 128]);
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".repeat(200), oversized] {
        let mut socket = TcpStream::connect(rtmp_address(&edge.rtmp)).expect("the edge listens");
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("set");
        let _ = socket.write_all(&bytes);
        let mut rest = Vec::new();
        // Closed by the edge: an end or a reset, not a time-out.
        if let Err(error) = socket.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }

    // Messages: each refusal names its reason, and the connection stays.
    let mut member = eventually("a place in the room", Duration::from_secs(30), async || {
        Member::join(&edge.http, "talk", &"0c".repeat(16)).await
    })
    .await;
    let big = "x".repeat(200 << 10);
    let bad = [
        "not json".to_owned(),
        json!({ "t": "nonsense" }).to_string(),
        json!({ "t": "pub", "n": 1, "class": "wrong", "topic": "chat", "body": 1 }).to_string(),
        json!({ "t": "pub", "n": 1, "class": "log", "topic": "chat", "body": 1, "colour": "red" })
            .to_string(),
        json!({ "t": "pub", "n": 1, "class": "log", "topic": "chat", "body": big }).to_string(),
    ];
    for text in &bad {
        member.send_raw(text).await;
        let answer = member.next().await.expect("the connection stays");
        assert_eq!(answer["t"], "err", "{answer}");
        assert!(
            answer["error"].is_string() && answer["message"].is_string(),
            "{answer}"
        );
    }
    member
        .send(json!({ "t": "pub", "n": 1, "class": "log", "topic": "chat", "body": "fine" }))
        .await;
    loop {
        let answer = member.next().await.expect("the connection stays");
        if answer["t"] == "ack" {
            break;
        }
    }
    let (code, _, _) = backbone.run(&["node", "ls"]);
    assert_eq!(code, 0);
}

#[test]
fn the_command_line_names_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let run = |args: &[&str]| {
        let output = std::process::Command::new(super::backbone::binary())
            .args(args)
            .output()
            .expect("runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let config = folder.path().join("relay.toml");
    std::fs::write(&config, "[node]\nid = \"a\"\nregoin = \"hk\"\n").expect("written");
    let (code, errors) = run(&["relay", "--config", &config.display().to_string()]);
    assert_ne!(code, Some(0));
    assert!(
        errors.contains("regoin") && errors.contains("region"),
        "{errors}"
    );

    let (code, errors) = run(&[
        "up",
        "--regions",
        "hk,singapur",
        "--data-dir",
        &folder.path().display().to_string(),
    ]);
    assert_ne!(code, Some(0));
    assert!(errors.contains("singapur"), "{errors}");
    let (code, _) = run(&["no-such-verb"]);
    assert_eq!(code, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_another_has_is_named() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "hk"]);
    let region = backbone.region("hk");
    let (http, rtmp) = (&region.http["http://".len()..], rtmp_address(&region.rtmp));
    let quic = |node: &str| {
        let regions = backbone.info["regions"].as_array().expect("regions");
        regions[0][node]["quic"].as_str().map(str::to_owned)
    };
    // A second one, with the configuration of the first but for the ports that it may have.
    let cases = [
        (
            "relay",
            &region.relay,
            quic("relay").expect("an address"),
            &[][..],
        ),
        ("edge", &region.edge, http.to_owned(), &["quic.listen"]),
        ("edge", &region.edge, rtmp, &["quic.listen", "http.listen"]),
    ];
    for (role, node, taken, free) in cases {
        let config = backbone.data().join("nodes").join(node).join("config.toml");
        let sets: Vec<String> = free
            .iter()
            .chain(&["admin.listen"])
            .map(|key| format!("{key}=127.0.0.1:0"))
            .collect();
        let mut args = vec![role, "--config", config.to_str().expect("text")];
        sets.iter().for_each(|set| args.extend(["--set", set]));
        let (code, _, errors) = backbone.run(&args);
        assert_eq!(code, 1, "{args:?}: {errors}");
        assert!(
            errors.contains(&taken) && errors.contains("in use"),
            "{taken}: {errors}"
        );
    }
}
