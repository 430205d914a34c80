//! The session with a controller.

use std::{net::SocketAddr, time::Duration};

use longspan_proto::{
    control::{self, from_node, nodes_server, to_node},
    ids::Net,
    wire::Start,
};
use longspan_relay::{
    forward::LocalEvent,
    node::{ClaimError, Config, Node},
};
use longspan_topology::{
    encoding,
    routes::{Hop, Path, Routes, Version},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use crate::{
    controller::{Controller, Follower, Seen},
    world::{Ca, PATIENCE, Running, config, eventually, frame, id, next, room, soon, track},
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

/// The table of a node that reaches the last of these over the others.
fn routes(n: u64, hops: &[&str]) -> Routes {
    let path = Path {
        hops: hops
            .iter()
            .map(|node| Hop {
                node: id(node),
                net: Net::internet(),
            })
            .collect(),
        cost_us: 1,
    };
    Routes {
        version: Version {
            era: 1,
            election: 1,
            n,
        },
        paths: [(id(hops[hops.len() - 1]), vec![path])].into(),
        ..Routes::default()
    }
}

fn table(n: u64, hops: &[&str]) -> to_node::Message {
    to_node::Message::Table(encoding::whole(&routes(n, hops)))
}

fn change(from: &Routes, to: &Routes) -> to_node::Message {
    to_node::Message::Table(encoding::change(from, to))
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
    assert_eq!(
        nacked(&mut seen).await,
        "the path to c names x, which is not in the directory"
    );
    seen.say(table(3, &["b", "a", "c"])).await;
    assert_eq!(nacked(&mut seen).await, "the path to c crosses a twice");
    let held = routes(2, &["b", "c"]);
    seen.say(change(&routes(1, &["c"]), &routes(3, &["c"])))
        .await;
    match seen.word().await {
        from_node::Message::TableNack(nack) => {
            assert!(nack.send_whole, "{}", nack.reason);
            assert!(nack.reason.contains("send it whole"), "{}", nack.reason);
        }
        other => panic!("a NACK was expected: {other:?}"),
    }
    assert_eq!(ways(), [[id("b"), id("c")]], "the held one stays");
    seen.say(change(&held, &routes(4, &["c"]))).await;
    acked(&mut seen, 4).await;
    eventually("the change is used", || ways() == [[id("c")]]).await;

    // Started again without any controller: the world is as it was.
    controller.kill().await;
    running.stop().await;
    let again = Node::bind(config.clone()).await.unwrap();
    assert_eq!(again.handle().ways(&id("c")), [[id("c")]]);
    assert_eq!(again.handle().ready(), Ok(()));
    drop(again);

    // The next controller is told what the node routes by.
    let mut controller = Controller::start(free()).await;
    config.controllers = vec![format!("http://{}", controller.address)];
    let _running = Running::start(config).await;
    let join = controller.session().await.welcome(7).await;
    assert_eq!(join.table, None, "no controller told this process one");
    let told = encoding::read(&join.held.unwrap(), &Routes::default());
    assert_eq!(told, Ok(routes(4, &["c"])));
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
        streams: vec![control::StreamState {
            stream: "teacher".into(),
            origin: "b".into(),
            generation: 12,
            hls_base: 0,
            claimed_ms: 0,
        }],
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

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_without_a_controller_serve_by_what_they_kept() {
    let ca = Ca::new();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let names = ["a", "b"];
    let mut controllers = Vec::new();
    let mut configs = Vec::new();
    let mut nodes = Vec::new();
    for (name, dir) in names.iter().zip(&dirs) {
        let controller = Controller::start(free()).await;
        let mut config = config(name, ca.identity(name));
        config.data_dir = Some(dir.path().into());
        config.controllers = vec![format!("http://{}", controller.address)];
        let running = Running::start(config.clone()).await;
        // The same port again at the next start, as in production.
        config.listen = running.handle.address();
        controllers.push(controller);
        configs.push(config);
        nodes.push(running);
    }
    let relay = |name: &str, at: SocketAddr| control::Node {
        id: name.into(),
        role: control::Role::Relay.into(),
        region: "hk".into(),
        quic_addresses: vec![at.to_string()],
        ..control::Node::default()
    };
    let mut everybody: Vec<control::Node> = names
        .iter()
        .zip(&nodes)
        .map(|(name, running)| relay(name, running.handle.address()))
        .collect();
    everybody.push(control::Node {
        id: "edge-e".into(),
        role: control::Role::Edge.into(),
        region: "hk".into(),
        attached: vec!["b".into()],
        ..control::Node::default()
    });
    for (at, controller) in controllers.iter_mut().enumerate() {
        let mut seen = controller.session().await;
        seen.welcome(7).await;
        let nodes = everybody.clone();
        seen.say(to_node::Message::Directory(control::Directory { nodes }))
            .await;
        let other = names[1 - at];
        let mut table = routes(5, &[other]);
        table.neighbours = vec![id(other)];
        seen.say(to_node::Message::Table(encoding::whole(&table)))
            .await;
        acked(&mut seen, 5).await;
    }
    for controller in controllers {
        controller.kill().await;
    }
    for running in nodes {
        running.stop().await;
    }

    let mut nodes = Vec::new();
    for config in configs {
        nodes.push(Running::start(config).await);
    }
    let (a, b) = (&nodes[0], &nodes[1]);
    eventually("they find each other", || {
        a.peer("b").is_some() && b.peer("a").is_some()
    })
    .await;
    assert_eq!(a.handle.ways(&id("edge-e")), [[id("b"), id("edge-e")]]);
    let publisher = b.handle.publish(track("video"));
    let mut subscription =
        a.handle
            .subscribe(track("video"), id("b"), Start::Latest, Duration::ZERO);
    publisher.group(1, 0, 0);
    let sent = frame(1, 0, 900);
    publisher.frame(sent.clone());
    loop {
        if let LocalEvent::Frame { frame, .. } = next(&mut subscription).await {
            assert_eq!(frame.payload, sent.payload);
            break;
        }
    }
}

/// Says who leads, and nothing else.
async fn follower(leader: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(free()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = nodes_server::NodesServer::new(Follower(format!("http://{leader}")));
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_where_the_leader_is_said_to_be() {
    let mut leader = Controller::start(free()).await;
    // The node's own list names the other one only.
    let config = node(follower(leader.address).await);
    let _running = Running::start(config).await;
    leader.session().await.welcome(7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_name_each_other_are_left_for_the_list() {
    // A port that nobody listens on, and one that names it.
    let nobody = TcpListener::bind(free())
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let mut leader = Controller::start(free()).await;
    let mut config = node(follower(nobody).await);
    config
        .controllers
        .push(format!("http://{}", leader.address));
    let _running = Running::start(config).await;
    leader.session().await.welcome(7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_has_to_do_and_the_ways_of_its_tracks_are_told() {
    let mut controller = Controller::start(free()).await;
    let running = Running::start(node(controller.address)).await;
    let mut seen = controller.session().await;
    seen.welcome(7).await;
    let _publisher = running.handle.publish(track("video"));
    let status = async {
        loop {
            let word = seen.words.message().await.unwrap().unwrap();
            if let Some(from_node::Message::Status(status)) = word.message
                && status.tracks == 1
            {
                return status;
            }
        }
    };
    let status = soon("a status", status).await;
    assert_eq!((status.subscriptions, status.edges), (0, 0));
    for (name, tracks) in [("math", 1), ("physics", 0)] {
        seen.say(to_node::Message::Trace(control::Trace {
            id: 3,
            tenant: "default".into(),
            room: name.into(),
        }))
        .await;
        match seen.word().await {
            from_node::Message::Traced(traced) => {
                assert_eq!((traced.id, traced.tracks.len()), (3, tracks));
                let chains = traced.tracks.iter().map(|track| &track.chain);
                chains.for_each(|chain| assert_eq!(chain, &["a"]));
            }
            other => panic!("a trace was expected: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_says_at_once_which_relay_is_its_best_when_one_drains() {
    let ca = Ca::new();
    let relays = ["b", "c"].map(|name| config(name, ca.identity(name)));
    let mut running = Vec::new();
    for relay in relays {
        running.push(Running::start(relay).await);
    }
    let directory = |draining: &str| {
        let nodes = running.iter().map(|relay| control::Node {
            id: relay.handle.id().to_string(),
            role: control::Role::Relay.into(),
            region: "r".into(),
            quic_addresses: vec![relay.handle.address().to_string()],
            draining: relay.handle.id().as_str() == draining,
            ..control::Node::default()
        });
        to_node::Message::Directory(control::Directory {
            nodes: nodes.collect(),
        })
    };
    let mut controller = Controller::start(free()).await;
    let mut edge = config("edge-e", ca.identity("edge-e"));
    edge.controllers = vec![format!("http://{}", controller.address)];
    let _edge = Running::start(edge).await;
    let mut seen = controller.session().await;
    seen.welcome(7).await;
    seen.say(directory("nobody")).await;
    let told = async |seen: &mut Seen, relays: &[&str]| loop {
        // First of none, then of one.
        if let from_node::Message::Attached(told) = seen.word().await
            && told.relays == relays
        {
            break;
        }
    };
    told(&mut seen, &["b", "c"]).await;
    // It is connected to both, and stays so: nothing but the order changes.
    seen.say(directory("b")).await;
    told(&mut seen, &["c", "b"]).await;
}
