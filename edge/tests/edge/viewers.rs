//! What viewers get of what was published.

use std::time::Duration;

use bytes::Bytes;
use longspan_edge::{
    Handle, Limits,
    media::{Catalog, Kind, Sample, TrackInfo, VideoTrack},
    sample,
};
use longspan_proto::{
    ids::{Room, RoomName, Stream, Tenant, Track, TrackId},
    wire::Frame,
};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use super::{
    backbone::Backbone,
    client::{Answer, LESSON, ask, get, get_once_there, get_until, packets, publish},
};

/// Whether `part` is found in `whole`, as it is repeated without end.
fn is_run_of(part: &[String], whole: &[String]) -> bool {
    let first = whole.iter().position(|packet| *packet == part[0]);
    first.is_some_and(|first| {
        let expected = whole.iter().cycle().skip(first);
        part.iter().zip(expected).all(|(a, b)| a == b)
    })
}

fn teacher() -> (RoomName, Stream) {
    let room = RoomName {
        tenant: Tenant::default_tenant(),
        room: Room::new("math").unwrap(),
    };
    (room, Stream::new("teacher").unwrap())
}

/// The sample lesson, played by the edge itself.
async fn with_lesson(limits: Limits) -> Backbone {
    let backbone = Backbone::with(true, limits).await;
    let lesson = std::fs::read(LESSON).unwrap().into();
    let (room, stream) = teacher();
    let stop = CancellationToken::new();
    tokio::spawn(sample::run(
        backbone.edge.clone(),
        room,
        stream,
        lesson,
        stop,
    ));
    let is_on = |room: &Answer| room.json()["streams"][0]["tracks"][1]["codec"] == "mp4a.40.2";
    get_until(&backbone, "/rooms/math", is_on).await;
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
    let room = get(&backbone, "/rooms/math").await.json();
    assert_eq!(room["streams"][0]["path"][0]["node"], "here-edge-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_closed_and_the_others_notice_nothing() {
    let limits = Limits {
        stall: Duration::from_secs(1),
        ..Limits::default()
    };
    let backbone = Backbone::with(true, limits).await;
    let _flood = tokio::spawn(flood(backbone.edge.clone(), teacher()));
    get_once_there(&backbone, "/hls/math/teacher/index.m3u8").await;
    let path = "/live/math/teacher.flv";
    let _stalled = ask(&backbone, "GET", path, "").await;
    let mut other = ask(&backbone, "GET", path, "").await;
    let watching =
        |count| move |room: &Answer| room.json()["streams"][0]["viewers"].as_u64() == Some(count);
    get_until(&backbone, "/rooms/math", watching(2)).await;
    let reading = async {
        let mut buffer = vec![0; 1 << 20];
        while other.read(&mut buffer).await.unwrap() > 0 {}
        panic!("the viewer who reads was closed");
    };
    tokio::select! {
        () = reading => {}
        _ = get_until(&backbone, "/rooms/math", watching(1)) => {}
    }
}

/// Publishes more than a socket's buffers hold: 10 MB a second, all key frames.
async fn flood(edge: Handle, (room, stream): (RoomName, Stream)) {
    let config = Bytes::from_static(&[
        1, 0x42, 0xc0, 0x0a, 0xff, 0xe1, 0, 9, 0x67, 0x42, 0xc0, 0x0a, 0xd9, 0x08, 0x8c, 0x8d,
        0x40, 1, 0, 4, 0x68, 0xce, 0x3c, 0x80,
    ]);
    let node = edge.node();
    let claim = node.claim(&room, &stream, "").await.unwrap();
    let track = |name: &str| {
        node.publish(TrackId {
            room: room.clone(),
            stream: stream.clone(),
            track: Track::new(name).unwrap(),
            generation: claim.generation,
        })
    };
    let described = Catalog {
        tracks: vec![TrackInfo::Video(VideoTrack {
            name: Kind::Video.track(),
            codec: "avc1.42c00a".to_owned(),
            config: config.clone(),
            width: 64,
            height: 64,
            framerate: None,
            bitrate: None,
            b_frames: false,
        })],
        ..Catalog::default()
    };
    let (catalog, video) = (track("catalog"), track("video"));
    let mut sample = Sample {
        kind: Kind::Video,
        timestamp: 0,
        composition: 0,
        key: true,
        discardable: false,
        config: None,
        data: described.encode().unwrap(),
    };
    catalog.group(0, 0, 0);
    catalog.frame(Frame {
        payload: described.encode().unwrap(),
        ..sample.to_frame().unwrap()
    });
    sample.config = Some(config);
    sample.data = vec![0; 200_000].into();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for group in 0.. {
        ticks.tick().await;
        sample.timestamp = group * 20_000;
        video.group(group, sample.timestamp, 0);
        video.frame(sample.to_frame().unwrap());
    }
}
