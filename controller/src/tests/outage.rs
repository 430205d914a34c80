//! Without the store, and with it again: real etcd.

use std::time::Duration;

use longspan_proto::control::Role;
use tonic::Code;

use super::{
    Running, StoreConfig,
    node::{self, Node},
};
use crate::store::{Store, test_etcd};

fn config(id: &str, etcd: &test_etcd::Server) -> crate::Config {
    let endpoints = vec![etcd.endpoint()];
    Running::config(id, StoreConfig::Etcd { endpoints })
}

async fn keys(etcd: &test_etcd::Server) -> Vec<String> {
    let snapshot = etcd.store().await.read("/longspan/v1/", None).await;
    let entries = snapshot.expect("etcd answers").entries;
    entries.iter().map(|e| e.key.to_string()).collect()
}

/// Heartbeats of some nodes until something else is done.
async fn while_alive<T>(nodes: &[&Node], what: impl Future<Output = T>) -> T {
    let alive = async {
        let mut every = tokio::time::interval(Duration::from_millis(400));
        loop {
            every.tick().await;
            for node in nodes {
                node.heartbeat().await;
            }
        }
    };
    tokio::select! {
        never = alive => never,
        done = what => done,
    }
}

async fn until_keys(etcd: &test_etcd::Server, right: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut every = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..400 {
        every.tick().await;
        let keys = keys(etcd).await;
        if right(&keys) {
            return keys;
        }
    }
    panic!("the keys stay {:#?}", keys(etcd).await);
}

const STREAM: &str = "/longspan/v1/tenants/default/rooms/class/streams/teacher";

/// What must hold whatever way etcd is lost.
async fn lost_and_found(
    program: &str,
    lose: impl AsyncFnOnce(&mut test_etcd::Server),
    find: impl AsyncFnOnce(&mut test_etcd::Server),
) {
    let mut etcd = test_etcd::Server::start(program).await;
    let controller = Running::start(config("controller-1", &etcd)).await;
    let mut relay = Node::relay(&controller.grpc, "hk-relay").await;
    let edge = Node::edge(&controller.grpc, "hk-edge").await;
    let dying = Node::edge(&controller.grpc, "sg-edge").await;
    edge.watch("class").await;
    dying.watch("class").await;
    let claim = edge.claim("class", "teacher", "ann").await.unwrap();
    let expected = [
        "/longspan/v1/election",
        "/longspan/v1/era",
        "/longspan/v1/generations/default/class/teacher",
        "/longspan/v1/nodes/hk-edge",
        "/longspan/v1/nodes/hk-relay",
        "/longspan/v1/nodes/sg-edge",
        "/longspan/v1/tenants/default/rooms/class",
        "/longspan/v1/tenants/default/rooms/class/edges/hk-edge",
        "/longspan/v1/tenants/default/rooms/class/edges/sg-edge",
        STREAM,
    ];
    let held = |keys: &[String]| {
        let ours = keys.iter().filter(|k| !k.contains("/audit/"));
        ours.eq(expected.iter())
    };
    while_alive(&[&relay, &edge, &dying], until_keys(&etcd, held)).await;
    relay.until(|r| r.table.is_some()).await.unwrap();
    let before = relay.version();

    lose(&mut etcd).await;
    drop(dying);
    // Nothing is claimed, and why is said; what runs is there, in memory.
    let refused = loop {
        match edge.claim("evening", "teacher", "ann").await {
            Err(refused) => break refused,
            // The store's last words.
            Ok(_) => edge.heartbeat().await,
        }
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("store"), "{refused}");
    while_alive(
        &[&relay, &edge],
        controller.until("/api/v1/nodes", |n| n[2]["up"] == false),
    )
    .await;
    let room = controller.get("/api/v1/rooms/class").await;
    assert_eq!(room["streams"][0]["generation"], "0.1");
    // A new node is welcome all the same, and known to others.
    let late = Node::relay(&controller.grpc, "sg-relay").await;
    relay
        .until(|r| r.directory.iter().any(|id| id == "sg-relay"))
        .await
        .expect("the session goes on");

    find(&mut etcd).await;
    let alive = [&relay, &edge, &late];
    let healed = |keys: &[String]| {
        let has = |key: &str| keys.iter().any(|k| k == key);
        has(STREAM) && has("/longspan/v1/nodes/sg-relay") && !has("/longspan/v1/nodes/sg-edge")
    };
    while_alive(&alive, until_keys(&etcd, healed)).await;
    let evening = while_alive(&alive, async {
        loop {
            match edge.claim("evening", "teacher", "ann").await {
                Ok(claim) => break claim,
                Err(why) => assert_eq!(why.code(), Code::Unavailable, "{why}"),
            }
        }
    })
    .await;
    assert!(evening.generation >= 1);
    let room = controller.get("/api/v1/rooms/class").await;
    assert_eq!(room["streams"][0]["generation"], "0.1", "it is still held");
    relay
        .until(|r| r.version() > before)
        .await
        .expect("the table version advances");
    // The same publisher again: above what was given out before.
    let again = edge.claim("class", "teacher", "ann").await.unwrap();
    assert_eq!(again.generation, claim.generation + 1);
    controller.stop().await;
}

#[tokio::test]
async fn etcd_killed_and_started_again() {
    for program in test_etcd::programs() {
        lost_and_found(
            &program,
            async |etcd| etcd.kill(),
            async |etcd| {
                etcd.run();
                etcd.answers().await;
            },
        )
        .await;
    }
}

#[tokio::test]
async fn etcd_stopped_longer_than_all_leases() {
    lost_and_found(
        &test_etcd::programs()[0],
        async |etcd| etcd.signal("STOP"),
        async |etcd| {
            // All leases (2 s) are over when it wakes.
            tokio::time::sleep(Duration::from_secs(4)).await;
            etcd.signal("CONT");
            etcd.answers().await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_controller_waits_for_an_etcd_that_is_not_there_yet() {
    let mut etcd = test_etcd::Server::start(&test_etcd::programs()[0]).await;
    etcd.kill();
    let mut controller = Running::begin(config("controller-1", &etcd)).await;
    let mut every = tokio::time::interval(Duration::from_millis(20));
    let why = loop {
        every.tick().await;
        match controller.ready.check() {
            Err(why) if why.contains("refused") => break why,
            told => assert!(told.is_err()),
        }
    };
    assert!(why.contains(&etcd.endpoint()), "{why}");
    let told = Node::join(&controller.grpc, node::info("a", Role::Relay, 1), 0).await;
    let told = told.err().expect("nobody leads");
    assert_eq!(told.code(), Code::Unavailable);
    etcd.run();
    super::soon(controller.ready.wait()).await;
    Node::relay(&controller.grpc, "hk-relay").await;
}

#[tokio::test]
async fn another_controller_takes_over_with_everything() {
    let etcd = test_etcd::Server::start(&test_etcd::programs()[0]).await;
    let first = Running::start(config("controller-1", &etcd)).await;
    let second = Running::start(config("controller-2", &etcd)).await;
    let info = node::info("hk-edge", Role::Edge, 1);
    let told = Node::join(&second.grpc, info.clone(), 0).await;
    let told = told.err().expect("it does not lead");
    assert_eq!(told.code(), Code::Unavailable);
    assert!(
        told.message().contains("controller-1") && told.message().contains(&first.grpc),
        "{told}"
    );
    let (status, body) = second.get_as("/api/v1/nodes", Some(super::TOKEN)).await;
    assert_eq!(status, 503, "{body}");

    let mut edge = Node::join(&first.grpc, info.clone(), 0).await.unwrap();
    edge.watch("class").await;
    let claim = edge.claim("class", "teacher", "ann").await.unwrap();
    edge.until(|e| e.rooms.get("class").is_some_and(|r| r.streams.len() == 1))
        .await
        .unwrap();
    first.stop().await;
    let ended = edge.until(|_| false).await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");

    let mut edge = loop {
        match Node::join(&second.grpc, info.clone(), edge.session).await {
            Ok(edge) => break edge,
            Err(why) => assert_eq!(why.code(), Code::Unavailable, "{why}"),
        }
    };
    edge.watch("class").await;
    edge.until(|e| e.rooms.get("class").is_some_and(|r| r.streams.len() == 1))
        .await
        .unwrap();
    let streams = &edge.rooms["class"].streams;
    assert_eq!(streams[0].generation, claim.generation);
    let other = Node::edge(&second.grpc, "sg-edge").await;
    let told = other.claim("class", "teacher", "bob").await.unwrap_err();
    assert_eq!(told.code(), Code::FailedPrecondition, "{told}");
    let next = other.claim("class", "teacher", "ann").await.unwrap();
    assert_eq!(next.generation, claim.generation + 1);
}

#[tokio::test]
async fn a_node_that_saw_a_later_era_raises_the_stores() {
    let controller = Running::embedded().await;
    let client = node::client(&controller.grpc).await;
    let seen = longspan_proto::ids::Generation::new(3, 9).0;
    let info = node::info("hk-edge", Role::Edge, 1);
    let edge = Node::join_by(client, info, 0, seen, None).await.unwrap();
    controller
        .until("/api/v1/topology", |t| {
            t["version"].as_str().unwrap().starts_with("4.")
        })
        .await;
    let claim = edge.claim("class", "teacher", "").await.unwrap();
    assert!(claim.generation > seen);
}

#[tokio::test]
async fn a_node_that_holds_a_later_table_raises_the_era_and_takes_tables_again() {
    let controller = Running::embedded().await;
    let client = node::client(&controller.grpc).await;
    let held = longspan_proto::control::TableVersion {
        era: 0,
        election: 1_000_000,
        n: 7,
    };
    let info = node::info("hk-relay", Role::Relay, 1);
    let mut relay = Node::join_by(client, info, 0, 0, Some(held)).await.unwrap();
    relay
        .until(|r| r.version() > (held.era, held.election, held.n))
        .await
        .expect("a table it can take comes");
}

#[tokio::test]
async fn leases_of_an_earlier_run_are_cleared_if_asked() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("store.redb");
    let config = || {
        let path = path.clone();
        let mut config = Running::config("controller-1", StoreConfig::Embedded { path });
        config.limits.lease_ttl = Duration::from_secs(600);
        config
    };
    let first = Running::start(config()).await;
    let edge = Node::edge(&first.grpc, "hk-edge").await;
    edge.watch("class").await;
    edge.claim("class", "teacher", "ann").await.unwrap();
    first
        .until("/api/v1/rooms/class", |r| {
            r["streams"][0]["origin"] == "hk-edge"
        })
        .await;
    first.stop().await;

    let kept = Running::start(config()).await;
    let room = kept.get("/api/v1/rooms/class").await;
    assert_eq!(
        room["streams"][0]["generation"], "0.1",
        "it survives a restart"
    );
    kept.stop().await;

    let mut clearing = config();
    clearing.clear_leases = true;
    let cleared = Running::start(clearing).await;
    let room = cleared.get("/api/v1/rooms/class").await;
    assert_eq!(room["streams"].as_array().unwrap().len(), 0);
    assert_eq!(
        cleared.get("/api/v1/nodes").await.as_array().unwrap().len(),
        0
    );
    let edge = Node::edge(&cleared.grpc, "hk-edge").await;
    let next = edge.claim("class", "teacher", "bob").await.unwrap();
    assert_eq!(next.generation, 2);
}
