//! Peers that are not what they should be: each is refused with a reason and counted.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use longspan_proto::{
    ids::Net,
    wire::{GroupHeader, Hello, MAX_FRAME, Message, Start, Writer, call::MessageReader},
};
use longspan_relay::{quic::limits::close, tls::Identity};
use longspan_topology::routes::{Hop, Path};

use crate::{
    stranger::{closed, dial, greet, hello, neighbour},
    world::{
        Ca, Running, World, config, counted, eventually, frame, id, info, metrics, next, soon,
        track,
    },
};

/// A relay `m` and its operator.
async fn relay() -> (Ca, Running) {
    metrics();
    let ca = Ca::new();
    let node = Running::start(config("m", ca.identity("m"))).await;
    (ca, node)
}

async fn refused(reason: &str) {
    let series = format!("longspan_rejected_total{{reason=\"{reason}\"}}");
    eventually(&series, || counted(&series) >= 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_alpn() {
    let (ca, node) = relay().await;
    let error = dial(&ca.identity("k"), b"h3", node.handle.address(), "m")
        .await
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("error 120"), "{error}");
    refused("alpn").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_ca() {
    let (ca, node) = relay().await;
    // It trusts our CA, but has its certificate from another.
    let (Identity::Pem { ca, .. }, Identity::Pem { cert, key, .. }) =
        (ca.identity("k"), Ca::new().identity("k"))
    else {
        panic!("in memory")
    };
    let forged = Identity::Pem { ca, cert, key };
    let conn = dial(&forged, b"longspan/1", node.handle.address(), "m").await;
    // TLS 1.3: the client may be through before the server has looked at its certificate.
    if let Ok((_endpoint, conn)) = conn {
        soon("the close", conn.closed()).await;
    }
    refused("certificate").await;
    assert!(node.peer("k").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_in_the_certificate() {
    let (ca, node) = relay().await;
    let (_endpoint, conn) = dial(&ca.identity("k"), b"longspan/1", node.handle.address(), "m")
        .await
        .unwrap();
    let _streams = greet(&conn, hello("someone-else")).await;
    let (code, reason) = closed(&conn).await;
    assert_eq!(code, close::IDENTITY);
    assert!(reason.starts_with("it says it is someone-else"), "{reason}");
    refused("name").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_from_the_future() {
    let (ca, node) = relay().await;
    let (_endpoint, conn) = dial(&ca.identity("k"), b"longspan/1", node.handle.address(), "m")
        .await
        .unwrap();
    let future = Hello {
        version: 9,
        min_version: 8,
        ..hello("k")
    };
    let _streams = greet(&conn, future).await;
    assert_eq!(
        closed(&conn).await,
        (
            close::VERSION,
            "it speaks wire versions 8 to 9, we speak 1 to 1".into()
        )
    );
    refused("version").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_words_that_are_no_hello() {
    let (ca, node) = relay().await;
    let (_endpoint, conn) = dial(&ca.identity("k"), b"longspan/1", node.handle.address(), "m")
        .await
        .unwrap();
    let (mut send, _recv) = conn.open_bi().await.unwrap();
    send.write_all(b"\x10GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let (code, reason) = closed(&conn).await;
    assert_eq!(code, close::PROTOCOL, "{reason}");
    refused("protocol").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_control_stream() {
    let (ca, node) = relay().await;
    let (_endpoint, conn, mut send, _recv) = neighbour(&ca, &node).await;
    // A message of a type that is neither known nor to be skipped.
    send.write_all(b"\x02\x3fx").await.unwrap();
    let (code, reason) = closed(&conn).await;
    assert_eq!(code, close::PROTOCOL);
    assert!(reason.starts_with("on the control stream: "), "{reason}");
    refused("protocol").await;
    eventually("k is gone", || node.peer("k").is_none()).await;
}

/// The start of a group's stream.
fn group_header(subscription: u64) -> BytesMut {
    let mut out = BytesMut::new();
    GroupHeader {
        subscription,
        group: 0,
        first_frame: 0,
        timestamp: 0,
        origin_time: 0,
        replay: false,
    }
    .encode(&mut out);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_above_the_limit() {
    let (ca, node) = relay().await;
    let (_endpoint, conn, mut send, mut recv) = neighbour(&ca, &node).await;
    // k is the origin of a track that m takes.
    let mut told = longspan_relay::node::Fixed::default();
    let hops = vec![Hop {
        node: id("k"),
        net: Net::internet(),
    }];
    told.routes
        .paths
        .insert(id("k"), vec![Path { hops, cost_us: 1 }]);
    node.handle.set_world(told);
    let _subscription =
        node.handle
            .subscribe(track("video"), id("k"), Start::Latest, Duration::ZERO);
    let mut reader = MessageReader::new("control message", 1 << 16);
    let subscription = loop {
        if let Some(message) = reader.poll().unwrap() {
            match Message::decode(message).unwrap() {
                Some(Message::Subscribe(subscribe)) => break subscribe.id,
                other => panic!("a subscription was expected: {other:?}"),
            }
        }
        let chunk = soon("a subscription", recv.read_chunk(1 << 16, true)).await;
        reader.push(&chunk.unwrap().expect("a subscription").bytes);
    };
    let mut out = BytesMut::new();
    Message::Ok(longspan_proto::wire::Ok {
        id: subscription,
        chain: vec![id("k")],
        first: None,
    })
    .encode(&mut out);
    send.write_all(&out).await.unwrap();
    let mut out = group_header(subscription);
    out.put_slice(&[0, 0, 0, 0]);
    out.varint(0);
    out.varint(MAX_FRAME as u64 + 1);
    let mut stream = conn.open_uni().await.unwrap();
    stream.write_all(&out).await.unwrap();
    let (code, reason) = closed(&conn).await;
    assert_eq!(code, close::PROTOCOL);
    assert_eq!(
        reason,
        "on a group's stream: frame length is 1048577; the limit is 1048576"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_ends_inside_a_frame() {
    let (ca, node) = relay().await;
    let (_endpoint, conn, _send, _recv) = neighbour(&ca, &node).await;
    let mut out = group_header(1);
    out.put_slice(&[0, 0, 0, 0, 0, 9, 1, 2]);
    let mut stream = conn.open_uni().await.unwrap();
    stream.write_all(&out).await.unwrap();
    stream.finish().unwrap();
    let (code, _) = closed(&conn).await;
    assert_eq!(code, close::PROTOCOL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_an_unknown_type_is_stopped_and_no_more() {
    let (ca, node) = relay().await;
    let (_endpoint, conn, _send, _recv) = neighbour(&ca, &node).await;
    let mut stream = conn.open_uni().await.unwrap();
    stream.write_all(b"\x15what is this").await.unwrap();
    let code = soon("the stop", stream.stopped()).await.unwrap();
    assert_eq!(code.map(u64::from), Some(3));
    let (mut send, _recv) = conn.open_bi().await.unwrap();
    send.write_all(b"\x15and this").await.unwrap();
    let code = soon("the stop", send.stopped()).await.unwrap();
    assert_eq!(code.map(u64::from), Some(3));
    assert!(node.peer("k").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_connections_of_a_pair_the_newer_stays() {
    let (ca, node) = relay().await;
    // k is lower than m: it ought to dial.
    let first = neighbour(&ca, &node).await;
    let second = neighbour(&ca, &node).await;
    assert_eq!(closed(&first.1).await.0, close::DUPLICATE);
    assert!(second.1.close_reason().is_none());
    assert!(node.peer("k").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_at_the_address() {
    metrics();
    let mut world = World::chain(&["a", "c"]).await;
    world.nodes.remove("c").unwrap().stop().await;
    let stranger = Running::start(config("x", world.ca.identity("x"))).await;
    let mut told = longspan_relay::node::Fixed::default();
    let there = info("b", stranger.handle.address());
    told.directory.nodes.insert(id("b"), there);
    told.routes.neighbours = vec![id("b")];
    world.handle("a").set_world(told);
    refused("certificate").await;
    assert!(world.nodes["a"].peer("b").is_none());
    assert!(world.nodes["a"].peer("x").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_on_the_port_disturbs_nobody() {
    metrics();
    let world = World::chain(&["a", "b"]).await;
    let publisher = world.handle("a").publish(track("video"));
    let mut subscription =
        world
            .handle("b")
            .subscribe(track("video"), id("a"), Start::Latest, Duration::ZERO);
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for at in 0..200u8 {
        for name in ["a", "b"] {
            let noise: Vec<u8> = (0..50).map(|n: u8| n.wrapping_mul(at)).collect();
            let first = [at; 1];
            let noise = [&first[..], &noise[..]].concat();
            let to = world.handle(name).address();
            socket.send_to(&noise, to).await.unwrap();
        }
    }
    refused("probe").await;
    publisher.group(0, 0, 0);
    publisher.frame(frame(0, 0, 10_000));
    loop {
        if let longspan_relay::forward::LocalEvent::Frame { frame: got, .. } =
            next(&mut subscription).await
        {
            assert_eq!(got.payload, frame(0, 0, 10_000).payload);
            break;
        }
    }
}
