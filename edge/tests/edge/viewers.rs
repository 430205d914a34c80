//! What viewers get of what was published.

use std::time::Duration;

use longspan_edge::{Limits, sample};
use longspan_proto::ids::{Room, RoomName, Stream, Tenant};
use tokio::{io::AsyncReadExt, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    backbone::{Backbone, PATIENCE, eventually},
    client::{LESSON, ask, get, get_once_there, packets, publish},
};

/// Whether `part` is found in `whole`, as it is repeated without end.
fn is_run_of(part: &[String], whole: &[String]) -> bool {
    let first = whole.iter().position(|packet| *packet == part[0]);
    first.is_some_and(|first| {
        let expected = whole.iter().cycle().skip(first);
        part.iter().zip(expected).all(|(a, b)| a == b)
    })
}

/// The sample lesson, played by the edge itself.
async fn with_lesson(limits: Limits) -> Backbone {
    let backbone = Backbone::with(true, limits).await;
    let room = RoomName {
        tenant: Tenant::default_tenant(),
        room: Room::new("math").unwrap(),
    };
    let lesson = std::fs::read(LESSON).unwrap().into();
    let stream = Stream::new("teacher").unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(sample::run(
        backbone.edge.clone(),
        room,
        stream,
        lesson,
        stop,
    ));
    let room = get_once_there(&backbone, "/rooms/math");
    let waiting = async {
        let mut room = room.await;
        while room.json()["streams"][0]["tracks"][0].is_null() {
            room = get(&backbone, "/rooms/math").await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("the lesson is on");
    backbone
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_carries_the_packets_that_were_published() {
    let backbone = Backbone::open().await;
    let published = packets(LESSON, 10_000).await;
    let _publisher = publish(&backbone.rtmp("math/teacher"));
    get_once_there(&backbone, "/hls/math/teacher/index.m3u8").await;
    for url in [
        backbone.http("/live/math/teacher.flv"),
        backbone.rtmp("math/teacher"),
        backbone.http("/live/math/teacher.mp4"),
        backbone.http("/hls/math/teacher/index.m3u8"),
    ] {
        let played = packets(&url, 60).await;
        assert_eq!(played.len(), 60, "{url}");
        assert!(is_run_of(&played, &published), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_tells_what_is_on_and_where_it_comes_from() {
    let backbone = with_lesson(Limits::default()).await;
    let room = get(&backbone, "/rooms/math").await.json();
    let stream = &room["streams"][0];
    assert_eq!(room["edge"], "here-edge-1");
    assert_eq!(stream["origin"], "here-edge-1");
    assert_eq!(stream["generation"], "0.1");
    assert_eq!(stream["tracks"][1]["codec"], "mp4a.40.2");
    assert!(stream["path"].is_null());
    let mut viewer = ask(&backbone, "GET", "/live/math/teacher.flv", "").await;
    let mut head = [0; 12];
    viewer.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let room = get(&backbone, "/rooms/math").await.json();
    let stream = &room["streams"][0];
    assert_eq!(stream["viewers"], 1);
    assert_eq!(stream["path"][0]["node"], "here-edge-1");
    assert_eq!(stream["path"][0]["region"], "here");
    let edges = get(&backbone, "/edges").await.json();
    assert_eq!(edges[0]["http"], backbone.http(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playlist_names_segments_that_are_there() {
    let backbone = with_lesson(Limits::default()).await;
    let playlist = get(&backbone, "/hls/math/teacher/index.m3u8?x=1").await;
    let text = playlist.text();
    assert!(text.starts_with("#EXTM3U"), "{text}");
    assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:1"), "{text}");
    for file in text.lines().filter(|line| !line.starts_with('#')) {
        let segment = get(&backbone, &format!("/hls/math/teacher/{file}")).await;
        assert_eq!(segment.status, 200);
        assert_eq!(&segment.body[4..8], b"styp");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_closed_and_the_others_notice_nothing() {
    let limits = Limits {
        stall: Duration::from_secs(1),
        ..Limits::default()
    };
    let backbone = with_lesson(limits).await;
    let stalled = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let stalled = stalled.unwrap();
    // So that the kernel takes little of what the viewer does not.
    stalled.set_recv_buffer_size(4_096).unwrap();
    stalled.connect(&backbone.addresses.http.into()).unwrap();
    let request = b"GET /live/math/teacher.flv HTTP/1.1\r\nHost: edge\r\n\r\n";
    stalled.send(request).unwrap();
    let watching = || {
        let room = RoomName {
            tenant: Tenant::default_tenant(),
            room: Room::new("math").unwrap(),
        };
        let stream = Stream::new("teacher").unwrap();
        let watched = backbone.edge.live().watched(&room, &stream);
        watched.map_or(0, |watched| watched.viewers)
    };
    eventually("the viewer", || watching() == 1).await;
    let others = tokio::spawn(async move {
        let published = packets(LESSON, 10_000).await;
        let url = backbone.http("/live/math/teacher.flv");
        assert!(is_run_of(&packets(&url, 100).await, &published));
        backbone
    });
    let backbone = others.await.unwrap();
    let room = RoomName {
        tenant: Tenant::default_tenant(),
        room: Room::new("math").unwrap(),
    };
    let stream = Stream::new("teacher").unwrap();
    let gone = || {
        let watched = backbone.edge.live().watched(&room, &stream);
        watched.is_none_or(|watched| watched.viewers == 0)
    };
    eventually("the stalled viewer's end", gone).await;
}
