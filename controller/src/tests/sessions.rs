use longspan_proto::control::{self, ReleaseRequest, Role, from_node::Message as Said};
use tonic::Code;

use super::{
    Running, TOKEN,
    node::{self, Node},
    soon,
};

#[tokio::test]
async fn nodes_join_and_are_told_of_each_other() {
    let controller = Running::embedded().await;
    let mut a = Node::relay(&controller.grpc, "bj-relay-1").await;
    let mut b = Node::relay(&controller.grpc, "hk-relay-1").await;
    a.until(|a| a.directory.len() == 2).await.unwrap();
    assert_eq!(a.directory, ["bj-relay-1", "hk-relay-1"]);
    b.until(|b| b.table.is_some()).await.unwrap();
    let neighbours = &b.table.as_ref().unwrap().neighbours;
    assert_eq!(neighbours[0].as_str(), "bj-relay-1");

    a.links(&[("hk-relay-1", 40)]).await;
    b.links(&[("bj-relay-1", 40)]).await;
    b.until(|b| b.path("bj-relay-1") == ["bj-relay-1"])
        .await
        .unwrap();
    a.until(|a| a.path("hk-relay-1") == ["hk-relay-1"])
        .await
        .unwrap();
    let topology = controller.get("/api/v1/topology").await;
    assert_eq!(topology["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(topology["links"][0]["rtt_ms"], 80.0);
    assert_eq!(
        topology["routes"]["bj-relay-1"]["hk-relay-1"],
        serde_json::json!(["hk-relay-1"])
    );
}

#[tokio::test]
async fn a_better_way_is_taken_and_a_broken_one_left() {
    let controller = Running::embedded().await;
    let mut bj = Node::relay(&controller.grpc, "bj-relay").await;
    let mut hk = Node::relay(&controller.grpc, "hk-relay").await;
    let mut sg = Node::relay(&controller.grpc, "sg-relay").await;
    bj.links(&[("hk-relay", 40), ("sg-relay", 238)]).await;
    hk.links(&[("bj-relay", 40), ("sg-relay", 20)]).await;
    sg.links(&[("bj-relay", 238), ("hk-relay", 20)]).await;
    let over_hk = ["hk-relay", "sg-relay"];
    bj.until(|bj| bj.path("sg-relay") == over_hk).await.unwrap();
    let before = bj.version();

    // The link breaks: what ends at Hong Kong comes no more.
    hk.links(&[("sg-relay", 20)]).await;
    bj.until(|bj| bj.path("sg-relay") == ["sg-relay"])
        .await
        .unwrap();
    assert!(bj.version() > before);
    let table = controller.get("/api/v1/routes/table?node=bj-relay").await;
    assert_eq!(table["routes"]["sg-relay"][0]["nodes"][0], "sg-relay");

    // A table that is refused is seen and counted, and the node keeps its session.
    let version = bj.table.as_ref().unwrap().version;
    bj.say(Said::TableNack(control::TableNack {
        version: Some(longspan_topology::encoding::version(version)),
        send_whole: false,
        reason: "no such neighbour".into(),
    }))
    .await;
    let nodes = controller
        .until("/api/v1/nodes", |n| !n[0]["table_refused"].is_null())
        .await;
    assert_eq!(nodes[0]["table_refused"][1], "no such neighbour");
    assert_eq!(nodes[0]["up"], true);
    hk.heartbeat().await;
    sg.heartbeat().await;
    hk.until(|n| n.directory.len() == 3).await.unwrap();
    sg.until(|n| n.directory.len() == 3).await.unwrap();
}

#[tokio::test]
async fn a_stream_has_one_publisher_and_the_next_generation_with_each() {
    let controller = Running::embedded().await;
    let _relay = Node::relay(&controller.grpc, "hk-relay").await;
    let mut a = Node::edge(&controller.grpc, "hk-edge-1").await;
    let mut b = Node::edge(&controller.grpc, "sg-edge-1").await;
    a.watch("class").await;
    b.watch("class").await;
    let first = a.claim("class", "teacher", "ann").await.unwrap();
    let held = b.claim("class", "teacher", "bob").await.unwrap_err();
    assert_eq!(held.code(), Code::FailedPrecondition);
    assert!(
        held.message().contains("teacher") && held.message().contains("hk-edge-1"),
        "{held}"
    );
    let second = b.claim("class", "teacher", "ann").await.unwrap();
    assert_eq!(second.generation, first.generation + 1);
    assert!(second.hls_base > first.hls_base);
    let told = |n: &Node| {
        let streams = n.rooms.get("class").map(|r| r.streams.clone());
        let stream = streams.unwrap_or_default().into_iter().next();
        stream.map(|s| (s.origin, s.generation, s.hls_base))
    };
    let expected = Some(("sg-edge-1".to_owned(), second.generation, second.hls_base));
    a.until(|a| told(a) == expected).await.unwrap();
    b.until(|b| told(b) == expected).await.unwrap();

    // An old generation gives nothing back; the current one does.
    let mut release = ReleaseRequest {
        session: a.session,
        tenant: "default".into(),
        room: "class".into(),
        stream: "teacher".into(),
        generation: first.generation,
    };
    let mut client = a.client.clone();
    soon(client.release(release.clone())).await.unwrap();
    let room = controller.get("/api/v1/rooms/class").await;
    assert_eq!(room["streams"][0]["generation"], "0.2");
    assert_eq!(room["edges"][0]["members"], 2);
    release.session = b.session;
    release.generation = second.generation;
    soon(client.release(release)).await.unwrap();
    a.until(|a| told(a).is_none()).await.unwrap();
    let third = a.claim("class", "teacher", "bob").await.unwrap();
    assert_eq!(third.generation, second.generation + 1);
}

#[tokio::test]
async fn a_node_comes_back_with_its_session_and_another_run_takes_its_place() {
    let controller = Running::embedded().await;
    let mut edge = Node::edge(&controller.grpc, "hk-edge-1").await;
    edge.watch("class").await;
    edge.until(|e| e.rooms.contains_key("class")).await.unwrap();
    let claim = edge.claim("class", "teacher", "ann").await.unwrap();
    let session = edge.leave().await;

    let again = node::info("hk-edge-1", Role::Edge, 1);
    let mut edge = Node::join(&controller.grpc, again.clone(), session)
        .await
        .unwrap();
    assert_eq!(edge.session, session);
    edge.watch("class").await;
    edge.until(|e| e.rooms.contains_key("class")).await.unwrap();
    let streams = &edge.rooms["class"].streams;
    assert_eq!(streams[0].generation, claim.generation, "nothing is lost");

    // The same run on a second connection: the first one is closed, with the reason.
    let _second = Node::join(&controller.grpc, again, session).await.unwrap();
    let closed = edge.until(|_| false).await.unwrap_err();
    assert_eq!(closed.code(), Code::Aborted, "{closed}");

    // Another run: the stream is free for anybody.
    let other = node::info("hk-edge-1", Role::Edge, 2);
    let other = Node::join(&controller.grpc, other, session).await.unwrap();
    let next = other.claim("class", "teacher", "bob").await.unwrap();
    assert_eq!(next.generation, claim.generation + 1);
}

#[tokio::test]
async fn a_node_that_dies_is_gone_with_its_lease() {
    let controller = Running::embedded().await;
    let relay = Node::relay(&controller.grpc, "hk-relay").await;
    let mut other = Node::relay(&controller.grpc, "sg-relay").await;
    let edge = Node::edge(&controller.grpc, "hk-edge").await;
    edge.watch("class").await;
    other
        .until(|n| n.directory.len() == 3)
        .await
        .expect("all are there");
    edge.claim("class", "teacher", "ann").await.unwrap();
    let held = |r: &serde_json::Value| r["streams"][0]["generation"] == "0.1";
    controller.until("/api/v1/rooms/class", held).await;
    drop(edge);
    let keep = async {
        let mut every = tokio::time::interval(std::time::Duration::from_millis(300));
        loop {
            every.tick().await;
            other.heartbeat().await;
            relay.heartbeat().await;
        }
    };
    let gone = controller.until("/api/v1/rooms/class", |r| {
        r["streams"].as_array().is_some_and(Vec::is_empty)
            && r["edges"].as_array().is_some_and(Vec::is_empty)
    });
    tokio::select! { () = keep => {}, _ = gone => {} }
    other.until(|n| n.directory.len() == 2).await.unwrap();
}

#[tokio::test]
async fn bad_messages_end_the_session_naming_the_field() {
    let controller = Running::embedded().await;
    let mut bad = node::info("hk-relay", Role::Relay, 1);
    bad.region = "Hong Kong".into();
    let told = Node::join(&controller.grpc, bad, 0).await.err().unwrap();
    assert_eq!(told.code(), Code::InvalidArgument);
    assert!(told.message().contains("join.node.region"), "{told}");

    let mut node = Node::relay(&controller.grpc, "hk-relay").await;
    node.say(Said::WatchRoom(control::WatchRoom {
        tenant: "default".into(),
        room: "a/b".into(),
        ..Default::default()
    }))
    .await;
    let told = node.until(|_| false).await.unwrap_err();
    assert_eq!(told.code(), Code::InvalidArgument);
    assert!(told.message().contains("watch_room.room"), "{told}");

    let edge = Node::edge(&controller.grpc, "hk-edge").await;
    let told = edge.claim("class", "@room", "").await.unwrap_err();
    assert_eq!(told.code(), Code::InvalidArgument, "{told}");
    let told = edge.claim("class", "", "").await.unwrap_err();
    assert!(told.message().contains("stream is empty"), "{told}");
    let mut stranger = Node::edge(&controller.grpc, "sg-edge").await;
    stranger.session += 1;
    let told = stranger.claim("class", "teacher", "").await.unwrap_err();
    assert_eq!(told.code(), Code::Unavailable, "{told}");
}

#[tokio::test]
async fn a_node_that_reads_nothing_is_disconnected() {
    let controller = Running::embedded_with(|config| config.limits.session_queue = 8).await;
    let lazy = Node::edge(&controller.grpc, "hk-edge").await;
    // It watches more and more rooms and reads none of their states.
    let mut n = 0;
    let watch = |n| {
        Said::WatchRoom(control::WatchRoom {
            tenant: "default".into(),
            room: format!("room-{n}-{}", "x".repeat(100)),
            ..Default::default()
        })
    };
    while lazy.try_say(watch(n)).await {
        n += 1;
    }
    controller
        .until("/api/v1/nodes", |n| n[0]["up"] == false)
        .await;
    let mut lazy = lazy;
    let told = lazy.until(|_| false).await.unwrap_err();
    assert_eq!(told.code(), Code::ResourceExhausted, "{told}");
    assert!(told.message().contains('8'), "the limit is told: {told}");
}

#[tokio::test]
async fn operators_need_the_token_and_get_json_errors() {
    let controller = Running::embedded().await;
    let (status, body) = controller.get_as("/", None).await;
    assert_eq!(status, 200);
    assert!(body.contains("<html"), "the page needs no token");
    for (path, token, expected, slug) in [
        ("/api/v1/nodes", None, 401, "unauthorized"),
        ("/api/v1/nodes", Some("wrong"), 401, "unauthorized"),
        ("/api/v1/events", None, 401, "unauthorized"),
        ("/api/v1/rooms/none", Some(TOKEN), 404, "not_found"),
        ("/api/v1/nonsense", Some(TOKEN), 404, "not_found"),
        ("/nonsense", None, 404, "not_found"),
        ("/api/v1/rooms/a%20b", Some(TOKEN), 400, "bad_request"),
        ("/api/v1/routes/table", Some(TOKEN), 400, "bad_request"),
        ("/api/v1/routes/table?node=x", Some(TOKEN), 404, "not_found"),
        (
            "/api/v1/routes/explain?room=r&from=x",
            Some(TOKEN),
            404,
            "not_found",
        ),
        ("/api/v1/audit?limit=0", Some(TOKEN), 400, "bad_request"),
    ] {
        let (status, body) = controller.get_as(path, token).await;
        assert_eq!(status, expected, "{path}: {body}");
        let json: serde_json::Value = serde_json::from_str(&body).expect(path);
        assert_eq!(json["error"], slug, "{path}");
        assert!(!json["message"].as_str().unwrap().is_empty());
    }
    let document = controller.get("/api/v1/openapi.json").await;
    for (path, verbs) in document["paths"].as_object().unwrap() {
        let path = path.replace("{room}", "none");
        if verbs.get("post").is_some() {
            let (status, body) = controller.post(&path, serde_json::json!({})).await;
            assert_eq!(status, 400, "{path} is described and not there: {body}");
        }
        if verbs.get("get").is_some() && !path.ends_with("/events") {
            let (status, body) = controller.get_as(&path, Some(TOKEN)).await;
            assert!(
                status == 200 || !body.contains("there is nothing at"),
                "{path} is described and not there"
            );
        }
    }
    let audit = controller
        .until("/api/v1/audit", |a| !a.as_array().unwrap().is_empty())
        .await;
    assert_eq!(audit[0]["what"]["t"], "leading");
}

#[tokio::test]
async fn explain_says_why() {
    let controller = Running::embedded().await;
    let bj = Node::relay(&controller.grpc, "bj-relay").await;
    let sg = Node::relay(&controller.grpc, "sg-relay").await;
    let mut from = Node::edge(&controller.grpc, "bj-edge").await;
    let mut to = Node::edge(&controller.grpc, "sg-edge").await;
    bj.links(&[("sg-relay", 90), ("bj-edge", 1)]).await;
    sg.links(&[("bj-relay", 90), ("sg-edge", 1)]).await;
    for (edge, relay) in [(&mut from, "bj-relay"), (&mut to, "sg-relay")] {
        edge.links(&[(relay, 1)]).await;
        edge.say(Said::Attached(control::Attached {
            relays: vec![relay.into()],
        }))
        .await;
        edge.watch("class").await;
    }
    from.claim("class", "teacher", "ann").await.unwrap();
    let way = ["bj-edge", "bj-relay", "sg-relay", "sg-edge"];
    let room = controller
        .until("/api/v1/rooms/class", |r| {
            r["edges"][1]["ways"][0]["path"] == serde_json::json!(way)
        })
        .await;
    assert_eq!(room["edges"][0]["ways"][0]["path"][0], "bj-edge");
    let why = controller
        .get("/api/v1/routes/explain?room=class&from=sg")
        .await;
    assert_eq!(why["from"], "sg-edge");
    let best = &why["streams"][0]["why"]["candidates"][0];
    assert_eq!(best["rank"], "primary");
    assert_eq!(
        best["nodes"],
        serde_json::json!(["sg-relay", "bj-relay", "bj-edge"])
    );
    assert_eq!(best["legs"][1]["delay_ms"], 90.0);
    to.until(|t| !t.path("bj-relay").is_empty()).await.unwrap();
}
