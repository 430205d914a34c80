//! Many viewers on one edge, and one that stops reading.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{backbone::Backbone, flv::Viewer, media, process::eventually};

/// What a stalled viewer may cost the edge.
const STALLED: u64 = 8 << 20;

/// A thousand by `LONGSPAN_TEST_VIEWERS=1000` on an optimised build; the default is what a debug
/// build carries on two cores.
fn viewers() -> usize {
    std::env::var("LONGSPAN_TEST_VIEWERS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(100)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stops_reading_costs_the_others_nothing() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "hk,sg"]);
    let edge = backbone.region("sg");
    let _publisher = media::publish(
        &format!("{}/live/crowd/teacher", backbone.region("hk").rtmp),
        None,
    );
    let url = format!("{}/live/crowd/teacher.flv", edge.http);
    let mut first = eventually("the first viewer", Duration::from_secs(30), async || {
        Viewer::open(&url).await.ok()
    })
    .await;
    assert!(first.next_video(Duration::from_secs(10)).await.is_some());

    let pictures = Arc::new(AtomicU64::new(0));
    let broken = Arc::new(AtomicU64::new(0));
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..viewers() {
        let (url, pictures, broken) = (url.clone(), pictures.clone(), broken.clone());
        crowd.spawn(async move {
            let mut viewer = Viewer::open(&url).await.expect("a place for every viewer");
            let mut last = None;
            while let Some(tag) = viewer.next_video(Duration::from_secs(20)).await {
                // B-frames do not disturb decoding order: 30 pictures a second, each 33 or 34 ms on.
                if last.is_some_and(|last| tag.timestamp <= last || tag.timestamp - last > 35) {
                    broken.fetch_add(1, Ordering::Relaxed);
                }
                last = Some(tag.timestamp);
                pictures.fetch_add(1, Ordering::Relaxed);
            }
            panic!("a viewer was left without pictures");
        });
    }
    let per_viewer = 30;
    let watched = |seconds: u64| seconds * per_viewer * viewers() as u64 * 9 / 10;
    eventually("everybody watches", Duration::from_secs(120), async || {
        (pictures.load(Ordering::Relaxed) > watched(3)).then_some(())
    })
    .await;

    let pid = backbone.child(&edge.edge);
    let before = resident(pid);
    let stalled = stall(&url);
    let mark = pictures.load(Ordering::Relaxed);
    eventually(
        "the others watch on",
        Duration::from_secs(120),
        async || (pictures.load(Ordering::Relaxed) > mark + watched(15)).then_some(()),
    )
    .await;
    let after = resident(pid);
    drop(stalled);
    eprintln!(
        "{} viewers, one stalled: resident {} → {} KiB, {} broken runs",
        viewers(),
        before >> 10,
        after >> 10,
        broken.load(Ordering::Relaxed)
    );
    assert!(
        after.saturating_sub(before) <= STALLED,
        "the edge grew by {} KiB",
        (after - before) >> 10
    );
    assert_eq!(
        broken.load(Ordering::Relaxed),
        0,
        "pictures are missing for viewers that read"
    );
    crowd.abort_all();
    while let Some(ended) = crowd.join_next().await {
        assert!(
            ended.is_err_and(|e| e.is_cancelled()),
            "a viewer ended by itself"
        );
    }
}

/// Asks for the stream, reads a little, then nothing.
fn stall(url: &str) -> TcpStream {
    let rest = url.strip_prefix("http://").expect("http");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut socket = TcpStream::connect(host).expect("the edge listens");
    write!(socket, "GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("written");
    socket.read_exact(&mut [0; 512]).expect("the answer begins");
    socket
}

fn resident(pid: u32) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    line.trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .expect("a number")
        << 10
}
