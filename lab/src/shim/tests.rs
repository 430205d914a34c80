use std::{
    collections::BTreeMap,
    future::poll_fn,
    io::IoSliceMut,
    path::Path,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use quinn::{
    Runtime, TokioRuntime,
    udp::{RecvMeta, Transmit},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;
use crate::{
    matrix::{Matrix, Split},
    wan::Profile,
    world::{Change, Effect, Everywhere, Placed, World},
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Beijing – Shanghai.
const ONE_WAY: Duration = Duration::from_millis(55);

fn name(region: &str) -> NodeId {
    NodeId::new(&format!("{region}-relay-1")).expect("a name")
}

fn region(name: &str) -> Region {
    Region::new(name).expect("a name")
}

fn udp() -> Arc<dyn AsyncUdpSocket> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    TokioRuntime.wrap_udp_socket(socket).expect("a socket")
}

fn world(path: &Path, beijing: SocketAddr, shanghai: SocketAddr) -> World {
    let nodes = [("cn-beijing", beijing), ("cn-shanghai", shanghai)]
        .map(|(name_, addr)| (name(name_), Placed::new(region(name_), vec![addr])));
    let world = World::new(
        &Matrix::bundled(),
        Split::Half,
        &Everywhere::Same(Profile::default()),
        BTreeMap::from(nodes),
        1,
    );
    world.write(path).expect("a world file");
    world
}

fn shim(path: &Path) -> Shim {
    let live = Live::open(path).expect("a world");
    Shim::new(live, name("cn-beijing"), region("cn-beijing"))
}

async fn receive(socket: &dyn AsyncUdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    let mut meta = [RecvMeta::default()];
    let received = poll_fn(|cx| {
        let mut bufs = [IoSliceMut::new(&mut buffer)];
        socket.poll_recv(cx, &mut bufs, &mut meta)
    });
    let received = timeout(PATIENCE, received).await.expect("in time");
    assert_eq!(received.expect("received"), 1);
    let stride = meta[0].stride.max(1);
    buffer[..meta[0].len]
        .chunks(stride)
        .map(<[u8]>::to_vec)
        .collect()
}

fn transmit(destination: SocketAddr, contents: &[u8], segment: Option<usize>) -> Transmit<'_> {
    Transmit {
        destination,
        ecn: None,
        contents,
        segment_size: segment,
        src_ip: None,
    }
}

#[tokio::test]
async fn datagrams_take_their_time_and_keep_their_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("world.json");
    let (here, there) = (udp(), udp());
    let to = there.local_addr().expect("an address");
    world(&path, here.local_addr().expect("an address"), to);
    let socket = shim(&path).socket(here);
    let began = Instant::now();
    // A batch of three, the last one short, is three datagrams.
    let batch = transmit(to, b"aabbc", Some(2));
    socket.try_send(&batch).expect("taken");
    let mut received = Vec::new();
    while received.len() < 3 {
        received.extend(receive(&*there).await);
    }
    assert_eq!(received, [b"aa".to_vec(), b"bb".to_vec(), b"c".to_vec()]);
    let took = began.elapsed();
    assert!(took >= ONE_WAY, "{took:?}");
    assert_eq!(socket.max_transmit_segments(), 1);
}

#[tokio::test]
async fn a_changed_world_changes_the_next_datagram() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("world.json");
    let (here, there) = (udp(), udp());
    let to = there.local_addr().expect("an address");
    let mut world = world(&path, here.local_addr().expect("an address"), to);
    let shim = shim(&path);
    let counts = shim.counts();
    let socket = shim.socket(here);
    let fault = |effect| Change::lay("cn-beijing", "cn-shanghai-relay-1", effect).one_way();
    let settle = async |version: u64| {
        let changed = async {
            while shim.live.version() == version {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, changed)
            .await
            .expect("the change is seen");
    };

    let cut = Change::cut("cn-beijing", "cn-shanghai-relay-1").one_way();
    world.apply(&cut).expect("cut");
    let version = shim.live.version();
    world.write(&path).expect("written");
    settle(version).await;
    socket
        .try_send(&transmit(to, b"lost", None))
        .expect("taken");
    assert_eq!(counts.lost.load(Ordering::Relaxed), 1);

    // A file that is no world changes nothing.
    let version = shim.live.version();
    std::fs::write(&path, "{").expect("written");
    let late = Effect {
        delay_ms: Some(200.0),
        ..Effect::default()
    };
    world.apply(&fault(late)).expect("laid");
    world.write(&path).expect("written");
    settle(version).await;
    let began = Instant::now();
    socket
        .try_send(&transmit(to, b"late", None))
        .expect("taken");
    assert_eq!(receive(&*there).await, [b"late".to_vec()]);
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn what_is_under_way_leaves_after_the_socket_is_gone() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("world.json");
    let (here, there) = (udp(), udp());
    let to = there.local_addr().expect("an address");
    world(&path, here.local_addr().expect("an address"), to);
    let socket = shim(&path).socket(here);
    socket.try_send(&transmit(to, b"bye", None)).expect("taken");
    drop(socket);
    assert_eq!(receive(&*there).await, [b"bye".to_vec()]);
}

#[tokio::test]
async fn a_stream_is_delayed_both_ways_and_ends_as_it_should() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("world.json");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let to = listener.local_addr().expect("an address");
    world(&path, "127.0.0.1:9".parse().expect("an address"), to);
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await.expect("copied");
    });
    let inner = TcpStream::connect(to).await.expect("connected");
    let mut stream = shim(&path).stream(inner);
    let sent: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    let began = Instant::now();
    let (mut from, mut into) = tokio::io::split(&mut stream);
    let write = async {
        into.write_all(&sent).await.expect("written");
        into.shutdown().await.expect("ended");
    };
    let read = async {
        let mut first = [0];
        from.read_exact(&mut first).await.expect("a byte");
        let took = began.elapsed();
        let mut rest = Vec::new();
        from.read_to_end(&mut rest).await.expect("the rest");
        (took, [&first[..], &rest].concat())
    };
    let ((), (took, received)) = timeout(PATIENCE, async { tokio::join!(write, read) })
        .await
        .expect("in time");
    assert!(took >= 2 * ONE_WAY, "{took:?}");
    assert!(received == sent, "{} bytes came back", received.len());
    timeout(PATIENCE, echo)
        .await
        .expect("in time")
        .expect("the end was seen");
}
