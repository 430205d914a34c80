//! The session with a controller.

use std::net::SocketAddr;

use longspan_proto::control::{self, from_node, to_node};
use longspan_relay::node::{ClaimError, Config, Node};
use tokio::net::TcpListener;

use crate::{
    controller::{Controller, Seen},
    world::{Ca, PATIENCE, Running, config, eventually, id, room, soon},
};

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn node(controller: SocketAddr) -> Config {
    let mut config = config("a", Ca::new().identity("a"));
    config.controllers = vec![format!("http://{controller}")];
    config
}

fn directory(names: &[&str]) -> to_node::Message {
    to_node::Message::Directory(control::Directory {
        nodes: names
            .iter()
            .map(|name| control::Node {
                id: (*name).into(),
                role: control::Role::Relay.into(),
                region: "hk".into(),
                quic_addresses: vec!["127.0.0.1:9".into()],
                ..control::Node::default()
            })
            .collect(),
    })
}

fn table(n: u64, hops: &[&str]) -> to_node::Message {
    to_node::Message::Table(control::Table {
        version: Some(control::TableVersion {
            era: 1,
            election: 1,
            n,
        }),
        neighbours: Vec::new(),
        routes: vec![control::Route {
            destination: hops[hops.len() - 1].into(),
            paths: vec![control::Path {
                hops: hops
                    .iter()
                    .map(|node| control::Hop {
                        node: (*node).into(),
                        net: "internet".into(),
                    })
                    .collect(),
                cost_us: 1,
            }],
        }],
    })
}

async fn nacked(seen: &mut Seen) -> String {
    match seen.word().await {
        from_node::Message::TableNack(nack) => nack.reason,
        other => panic!("a NACK was expected: {other:?}"),
    }
}

async fn acked(seen: &mut Seen, n: u64) {
    match seen.word().await {
        from_node::Message::TableAck(ack) => assert_eq!(ack.version.unwrap().n, n),
        other => panic!("an ACK was expected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_taken_or_refused_and_the_last_good_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut controller = Controller::start(free()).await;
    let mut config = node(controller.address);
    config.data_dir = Some(dir.path().into());
    let running = Running::start(config.clone()).await;
    let mut seen = controller.session().await;
    let join = seen.welcome(7).await;
    let told = join.node.unwrap();
    assert_eq!((told.id.as_str(), join.session), ("a", 0));
    assert_eq!(told.quic_addresses, [running.handle.address().to_string()]);

    seen.say(directory(&["a", "b", "c"])).await;
    seen.say(table(2, &["b", "c"])).await;
    acked(&mut seen, 2).await;
    let ways = || running.handle.ways(&id("c"));
    eventually("the table is used", || ways() == [[id("b"), id("c")]]).await;
    assert_eq!(running.handle.ready(), Ok(()));

    seen.say(table(1, &["c"])).await;
    assert!(nacked(&mut seen).await.contains("older"));
    seen.say(table(3, &["x", "c"])).await;
    assert_eq!(nacked(&mut seen).await, "x is not in the directory");
    seen.say(table(3, &["b", "a", "c"])).await;
    assert_eq!(nacked(&mut seen).await, "the path to c crosses a twice");
    assert_eq!(ways(), [[id("b"), id("c")]], "the held one stays");

    // Started again without any controller: the world is as it was.
    controller.kill().await;
    running.stop().await;
    let again = Node::bind(config).await.unwrap();
    assert_eq!(again.handle().ways(&id("c")), [[id("b"), id("c")]]);
    assert_eq!(again.handle().ready(), Ok(()));
    let key = std::fs::read(dir.path().join("stateless-reset.key")).unwrap();
    assert_eq!(key.len(), 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_comes_back_is_told_everything_anew() {
    let mut controller = Controller::start(free()).await;
    let running = Running::start(node(controller.address)).await;
    let watch = running.handle.watch_room(room());
    let again = running.handle.watch_room(room());
    watch.set_counts(2, 1);
    let mut seen = controller.session().await;
    seen.welcome(7).await;
    match seen.word().await {
        from_node::Message::WatchRoom(word) => {
            assert_eq!(
                (word.room.as_str(), word.viewers, word.members),
                ("math", 2, 1)
            );
        }
        other => panic!("a watch was expected: {other:?}"),
    }
    let mut state = watch.state();
    seen.say(to_node::Message::Room(control::RoomState {
        tenant: "default".into(),
        room: "math".into(),
        revision: 9,
        home_relay: "b".into(),
        home_generation: 12,
        ..control::RoomState::default()
    }))
    .await;
    soon("the room", state.changed()).await.unwrap();

    drop(seen);
    let address = controller.kill().await;
    let mut controller = Controller::start(address).await;
    let mut seen = controller.session().await;
    let join = seen.welcome(7).await;
    assert_eq!(join.session, 7, "the session is the node's");
    assert_eq!(join.highest_generation, 12);
    assert!(matches!(
        seen.word().await,
        from_node::Message::WatchRoom(_)
    ));
    assert_eq!(
        watch.state().borrow().as_ref().unwrap().revision,
        9,
        "what is known stays"
    );

    again.set_counts(1, 0);
    match seen.word().await {
        from_node::Message::WatchRoom(word) => assert_eq!(word.viewers, 3),
        other => panic!("counts were expected: {other:?}"),
    }
    drop((watch, again));
    match seen.word().await {
        from_node::Message::UnwatchRoom(word) => assert_eq!(word.room, "math"),
        other => panic!("an unwatch was expected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_is_kept_alive() {
    let mut controller = Controller::start(free()).await;
    let _running = Running::start(node(controller.address)).await;
    let mut seen = controller.session().await;
    seen.welcome(7).await;
    for _ in 0..3 {
        let heartbeat = async {
            loop {
                let word = seen.words.message().await.unwrap().unwrap();
                if let Some(from_node::Message::Heartbeat(_)) = word.message {
                    return;
                }
            }
        };
        soon("a heartbeat", heartbeat).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_granted_held_refused_or_unavailable() {
    let mut controller = Controller::start(free()).await;
    let running = Running::start(node(controller.address)).await;
    let mut seen = controller.session().await;
    seen.welcome(7).await;
    let stream = longspan_proto::ids::Stream::new("screen").unwrap();
    let claim = async |identity: &str| {
        tokio::time::timeout(PATIENCE, running.handle.claim(&room(), &stream, identity))
            .await
            .unwrap()
    };
    let granted = claim("teacher").await.unwrap();
    assert_eq!((granted.generation.0, granted.hls_base), (3, 40));
    assert_eq!(
        claim("late").await,
        Err(ClaimError::Held {
            message: "teacher holds it".into()
        })
    );
    assert_eq!(
        claim("stranger").await,
        Err(ClaimError::Refused {
            message: "who is that?".into()
        })
    );
    running
        .handle
        .release(&room(), &stream, granted.generation)
        .await
        .unwrap();
    drop(seen);
    controller.kill().await;
    eventually("the loss is noticed", || {
        running.handle.debug()["controller"].is_string()
    })
    .await;
    assert!(matches!(
        claim("teacher").await,
        Err(ClaimError::Unavailable(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_controller_it_says_so_and_runs() {
    // A port that nobody listens on.
    let address = TcpListener::bind(free())
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let running = Running::start(node(address)).await;
    let why = || running.handle.ready().err().unwrap_or_default();
    eventually("it says why", || {
        why().starts_with("no controller was reached and none is remembered: http://")
    })
    .await;
    assert!(why().contains("refused"), "{}", why());
    soon("the end", running.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_is_none_is_refused_at_the_start() {
    let mut config = node(free());
    config.controllers = vec!["ftp://host".into()];
    match Node::bind(config).await {
        Err(error) => assert_eq!(
            error.to_string(),
            "controller \"ftp://host\" is not a URL like http://host:7440: the scheme is neither \
             http nor https"
        ),
        Ok(_) => panic!("it was taken"),
    }
}
