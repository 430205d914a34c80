//! What breaks, and what goes on.

use std::{net::SocketAddr, time::Duration};

use longspan_proto::wire::{EndReason, Start};
use longspan_relay::{
    forward::LocalEvent,
    node::{BindError, Node},
};
use tokio::net::UdpSocket;

use crate::world::{Ca, Running, World, config, eventually, frame, id, next, track};

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_comes_back_carries_the_track_again() {
    let names = ["a", "b", "c"];
    let mut world = World::chain(&names).await;
    let publisher = world.handle("a").publish(track("video"));
    let mut subscription =
        world
            .handle("c")
            .subscribe(track("video"), id("a"), Start::Latest, Duration::ZERO);
    publisher.group(0, 0, 0);
    publisher.frame(frame(0, 0, 1_000));
    while !matches!(next(&mut subscription).await, LocalEvent::Frame { .. }) {}

    let b = world.nodes.remove("b").unwrap();
    let again = longspan_relay::node::Config {
        listen: b.handle.address(),
        boot: longspan_proto::ids::BootId(77),
        ..b.config.clone()
    };
    b.stop().await;
    eventually("c knows that b is gone", || {
        world.nodes["c"].peer("b").is_none()
    })
    .await;
    world.nodes.insert("b", Running::start(again).await);
    world.tell(&names);
    world.connected("a", "b").await;
    world.connected("b", "c").await;
    assert_eq!(
        world.nodes["c"].peer("b").unwrap()["boot"],
        format!("{:016x}", 77)
    );

    publisher.group(1, 1_000_000, 0);
    publisher.frame(frame(1, 0, 1_000));
    loop {
        match next(&mut subscription).await {
            LocalEvent::Frame {
                group: 1,
                index,
                frame: got,
            } => {
                assert_eq!((index, got.payload), (0, frame(1, 0, 1_000).payload));
                break;
            }
            LocalEvent::End { reason, message } => panic!("{reason:?}: {message}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_tells_consumers_and_neighbours() {
    let mut world = World::chain(&["a", "b"]).await;
    let _publisher = world.handle("a").publish(track("video"));
    let mut subscription =
        world
            .handle("b")
            .subscribe(track("video"), id("a"), Start::Latest, Duration::ZERO);
    let b = world.nodes.remove("b").unwrap();
    b.stop().await;
    match next(&mut subscription).await {
        LocalEvent::End { reason, message } => {
            assert_eq!(reason, EndReason::Unreachable);
            assert_eq!(message, "this node is shutting down");
        }
        other => panic!("the end was expected: {other:?}"),
    }
    eventually("a knows", || world.nodes["a"].peer("b").is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = taken.local_addr().unwrap();
    let mut config = config("a", Ca::new().identity("a"));
    config.listen = address;
    match Node::bind(config).await {
        Err(error @ BindError::InUse { .. }) => assert_eq!(
            error.to_string(),
            format!("cannot listen on {address}/udp: the port is in use")
        ),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("two on one port"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_someone_else_is_refused_at_the_start() {
    match Node::bind(config("a", Ca::new().identity("b"))).await {
        Err(error) => assert!(
            error
                .to_string()
                .starts_with("the certificate is not valid for node a: "),
            "{error}"
        ),
        Ok(_) => panic!("a wrong certificate was taken"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_moves_to_another_relay_when_its_own_is_gone() {
    // The nearest relay is of the edge's region; the other is its warm standby.
    let world = {
        let mut world = World::chain(&["a", "b"]).await;
        let mut edge = config("edge-1", world.ca.identity("edge-1"));
        edge.region = longspan_proto::ids::Region::new("region-a").unwrap();
        world.nodes.insert("edge-1", Running::start(edge).await);
        world
    };
    world.tell(&["edge-1", "a", "b"]);
    world.connected("edge-1", "a").await;
    world.connected("edge-1", "b").await;
    eventually("the edge has a standby", || {
        world.handle("edge-1").attached() == [id("a"), id("b")]
    })
    .await;
    assert_eq!(world.handle("edge-1").ready(), Ok(()));
    let mut world = world;
    world.nodes.remove("a").unwrap().stop().await;
    eventually("the edge says so", || {
        world.handle("edge-1").attached() == [id("b")]
    })
    .await;
}
