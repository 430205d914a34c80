//! The leading controller is lost, and another takes over: real etcd.

use std::time::{Duration, Instant};

use longspan_proto::{
    LEADER_METADATA,
    control::{self, Role},
};
use longspan_topology::encoding;
use tonic::{Code, Status};

use super::{
    Running, StoreConfig,
    node::{self, Node, info},
};
use crate::{Limits, store::test_etcd};

/// With the election as it is in production.
async fn start(id: &str, etcd: &test_etcd::Server) -> Running {
    let endpoints = vec![etcd.endpoint()];
    let mut config = Running::config(id, StoreConfig::Etcd { endpoints });
    config.limits.election_ttl = Limits::default().election_ttl;
    Running::start(config).await
}

/// Joins whoever leads, beginning anywhere; with what a real node brings along.
async fn rejoin(controllers: &[&Running], before: &Node, carries: bool) -> Node {
    let mut at = controllers[0].grpc.clone();
    let mut turn = 0;
    loop {
        let join = control::Join {
            node: Some(before.info.clone()),
            session: before.session,
            held: before.table.as_ref().map(encoding::whole),
            table: before.table.as_ref().map(|t| encoding::version(t.version)),
            carries,
            ..Default::default()
        };
        let told: Result<Node, Status> = Node::join_as(node::client(&at).await, join).await;
        match told {
            Ok(node) => return node,
            Err(why) => {
                assert_eq!(why.code(), Code::Unavailable, "{why}");
                let leader = why.metadata().get(LEADER_METADATA);
                turn += 1;
                at = match leader.and_then(|url| url.to_str().ok()) {
                    // One that is gone is still named until its lease ends.
                    Some(url) if controllers.iter().any(|c| c.grpc == url) => url.to_owned(),
                    _ => controllers[turn % controllers.len()].grpc.clone(),
                };
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test]
async fn another_leads_in_time_and_no_route_changes_because_of_it() {
    let etcd = test_etcd::Server::start(&test_etcd::programs()[0]).await;
    let mut first = start("controller-1", &etcd).await;
    let second = start("controller-2", &etcd).await;
    let third = start("controller-3", &etcd).await;

    let mut bj = Node::relay(&first.grpc, "bj-relay").await;
    let mut hk = Node::relay(&first.grpc, "hk-relay").await;
    let mut sg = Node::relay(&first.grpc, "sg-relay").await;
    bj.links(&[("hk-relay", 40), ("sg-relay", 80)]).await;
    hk.links(&[("bj-relay", 40), ("sg-relay", 38)]).await;
    sg.links(&[("bj-relay", 80), ("hk-relay", 38)]).await;
    let has_ways = |node: &Node| node.table.as_ref().is_some_and(|t| t.paths.len() == 2);
    for relay in [&mut bj, &mut hk, &mut sg] {
        relay.until(has_ways).await.unwrap();
    }
    let way = bj.path("sg-relay").join(" ");
    let version = bj.version();
    let pinned = serde_json::json!({"reason": "stays", "added_ms": 7});
    let (status, told) = first
        .post("/api/v1/links/bj-relay/sg-relay/cost", pinned)
        .await;
    assert_eq!(status, 200, "{told}");

    // As by kill -9: nothing is said, no lease is given back.
    first.task.take().expect("it runs").abort();
    let lost = Instant::now();
    let left = [&second, &third];
    let mut bj = rejoin(&left, &bj, true).await;
    println!("another controller leads after {:?}", lost.elapsed());
    let hk = rejoin(&left, &hk, true).await;
    let sg = rejoin(&left, &sg, true).await;
    // What was measured has moved a little meanwhile: the other way is better by a hair now.
    let over_hk = way.contains("hk");
    let (direct, around) = if over_hk { (79, 40) } else { (80, 39) };
    bj.links(&[("hk-relay", around), ("sg-relay", direct)])
        .await;
    hk.links(&[("bj-relay", around), ("sg-relay", 38)]).await;
    sg.links(&[("bj-relay", direct), ("hk-relay", 38)]).await;
    bj.until(|bj| bj.version() > version).await.unwrap();
    assert_eq!(bj.path("sg-relay").join(" "), way);

    let leader = match second.get_as("/api/v1/nodes", Some(super::TOKEN)).await.0 {
        200 => &second,
        _ => &third,
    };
    let asked = leader.get("/api/v1/overrides").await;
    assert_eq!(asked[0]["reason"], "stays", "{asked}");
    let (status, body) = match std::ptr::eq(leader, &second) {
        true => third.get_as("/api/v1/nodes", Some(super::TOKEN)).await,
        false => second.get_as("/api/v1/nodes", Some(super::TOKEN)).await,
    };
    assert_eq!(status, 503);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body["leader"],
        leader.http.as_str(),
        "operators are told where"
    );
}

#[tokio::test]
async fn all_controllers_and_etcd_gone_and_back_nothing_jumps() {
    let mut etcd = test_etcd::Server::start(&test_etcd::programs()[0]).await;
    let mut first = start("controller-1", &etcd).await;
    let mut relay = Node::relay(&first.grpc, "hk-relay").await;
    let other = Node::relay(&first.grpc, "sg-relay").await;
    let mut edge = Node::edge(&first.grpc, "hk-edge").await;
    relay.links(&[("sg-relay", 20)]).await;
    other.links(&[("hk-relay", 20)]).await;
    edge.watch("class").await;
    let claim = edge.claim("class", "teacher", "ann").await.unwrap();
    edge.until(|e| e.rooms.contains_key("class")).await.unwrap();
    relay
        .until(|r| !r.path("sg-relay").is_empty())
        .await
        .unwrap();

    // All controllers first: every lease (2 s) ends. Then etcd as well.
    first.task.take().expect("it runs").abort();
    let mut every = tokio::time::interval(Duration::from_millis(100));
    let store = etcd.store().await;
    use crate::store::Store;
    let gone = async {
        loop {
            every.tick().await;
            let held = store.read("/longspan/v1/nodes/", None).await.unwrap();
            if held.entries.is_empty() {
                return;
            }
        }
    };
    super::soon(gone).await;
    etcd.kill();
    etcd.run();
    etcd.answers().await;

    let second = start("controller-2", &etcd).await;
    let join = control::Join {
        node: Some(info("hk-edge", Role::Edge, 1)),
        session: edge.session,
        held: relay.table.as_ref().map(encoding::whole),
        streams: vec![control::HeldStream {
            tenant: "default".into(),
            room: "class".into(),
            stream: "teacher".into(),
            generation: claim.generation,
            hls_base: claim.hls_base,
            identity: "ann".into(),
        }],
        carries: true,
        ..Default::default()
    };
    // The record of the one that died stands until its lease ends.
    let client = node::client(&second.grpc).await;
    let joined = async {
        loop {
            match Node::join_as(client.clone(), join.clone()).await {
                Ok(node) => return node,
                Err(why) => assert_eq!(why.code(), Code::Unavailable, "{why}"),
            }
        }
    };
    let mut back = super::soon(joined).await;
    back.watch("class").await;
    let relay = rejoin(&[&second], &relay, true).await;
    let other = rejoin(&[&second], &other, true).await;
    relay.links(&[("sg-relay", 20)]).await;
    other.links(&[("hk-relay", 20)]).await;
    back.until(|back| back.rooms.contains_key("class"))
        .await
        .unwrap();
    let told = &back.rooms["class"];
    assert_eq!(told.streams[0].generation, claim.generation);
    assert_eq!(back.directory.len(), 3, "and nobody is missing");
}
