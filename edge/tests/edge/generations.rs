//! What viewers see of a stream whose publishers come and go, the old one silent rather than done:
//! its edge was lost.

use bytes::Bytes;
use longspan_edge::{
    Handle, flv,
    media::{Catalog, Kind, Sample, TrackInfo, VideoTrack},
};
use longspan_proto::{
    ids::{Generation, Room, RoomName, Stream, Tenant, Track, TrackId},
    wire::Frame,
};
use longspan_relay::node::Publisher;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::backbone::{Backbone, PATIENCE, eventually};

/// A stream of video alone that is published sample by sample.
struct ByHand {
    catalog: Publisher,
    video: Publisher,
    group: u64,
}

impl ByHand {
    /// Claims the stream; nothing is said in it yet.
    async fn claim(edge: &Handle) -> ByHand {
        let (room, stream) = teacher();
        let claim = edge.node().claim(&room, &stream, "").await.unwrap();
        let track = |name: &str| edge.node().publish(id(name, claim.generation));
        ByHand {
            catalog: track("catalog"),
            video: track("video"),
            group: 0,
        }
    }

    fn describe(&self) {
        let described = Catalog {
            tracks: vec![TrackInfo::Video(VideoTrack {
                name: Kind::Video.track(),
                codec: "avc1.42c00a".to_owned(),
                config: config(),
                width: 64,
                height: 64,
                framerate: None,
                bitrate: None,
                b_frames: false,
            })],
            ..Catalog::default()
        };
        self.catalog.group(0, 0, 0);
        self.catalog.frame(Frame {
            payload: described.encode().unwrap(),
            ..sample(0, true).to_frame().unwrap()
        });
    }

    /// A picture; a key frame begins a group.
    fn picture(&mut self, ms: u64, key: bool) {
        if key {
            self.video.group(self.group, ms * 1_000, 0);
            self.group += 1;
        }
        self.video.frame(sample(ms, key).to_frame().unwrap());
    }
}

fn teacher() -> (RoomName, Stream) {
    let room = RoomName {
        tenant: Tenant::default_tenant(),
        room: Room::new("math").unwrap(),
    };
    (room, Stream::new("teacher").unwrap())
}

fn id(track: &str, generation: Generation) -> TrackId {
    let (room, stream) = teacher();
    TrackId {
        room,
        stream,
        track: Track::new(track).unwrap(),
        generation,
    }
}

fn config() -> Bytes {
    Bytes::from_static(&[
        1, 0x42, 0xc0, 0x0a, 0xff, 0xe1, 0, 9, 0x67, 0x42, 0xc0, 0x0a, 0xd9, 0x08, 0x8c, 0x8d,
        0x40, 1, 0, 4, 0x68, 0xce, 0x3c, 0x80,
    ])
}

fn sample(ms: u64, key: bool) -> Sample {
    Sample {
        kind: Kind::Video,
        timestamp: ms * 1_000,
        composition: 0,
        key,
        discardable: false,
        config: key.then(config),
        data: vec![0; 100].into(),
    }
}

/// A viewer over HTTP-FLV.
struct Viewer {
    tcp: TcpStream,
    tags: flv::Reader,
    /// The head of the answer is over.
    begun: bool,
    head: Vec<u8>,
}

impl Viewer {
    async fn open(edge: &Backbone) -> Viewer {
        let mut tcp = TcpStream::connect(edge.addresses.http).await.unwrap();
        // An answer to 1.0 has no chunks: what follows the head is the file.
        let request = b"GET /live/math/teacher.flv HTTP/1.0\r\n\r\n";
        tcp.write_all(request).await.unwrap();
        Viewer {
            tcp,
            tags: flv::Reader::new(),
            begun: false,
            head: Vec::new(),
        }
    }

    /// The next picture: its time in ms, and whether it is a key frame.
    async fn picture(&mut self) -> (u32, bool) {
        timeout(PATIENCE, self.next())
            .await
            .expect("a picture in time")
    }

    async fn next(&mut self) -> (u32, bool) {
        loop {
            while let Some(tag) = self.tags.next_tag().unwrap() {
                let picture = tag.tag_type == 9 && !flv::is_config(Kind::Video, &tag.body);
                if picture {
                    return (tag.timestamp, flv::is_key(&tag.body));
                }
            }
            let mut bytes = vec![0; 4_096];
            let read = self.tcp.read(&mut bytes).await.unwrap();
            assert!(read > 0, "the viewer was closed");
            if self.begun {
                self.tags.push(&bytes[..read]);
                continue;
            }
            self.head.extend_from_slice(&bytes[..read]);
            let end = self.head.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                assert!(self.head.starts_with(b"HTTP/1.0 200"), "{:?}", self.head);
                self.tags.push(&self.head[end + 4..]);
                self.begun = true;
            }
        }
    }
}

/// How many take a track here.
fn receivers(edge: &Backbone, track: &str) -> u64 {
    let debug = edge.edge.node().debug();
    let tracks = debug["tracks"].as_array().cloned().unwrap_or_default();
    let named = |t: &&serde_json::Value| t["track"].as_str().is_some_and(|t| t.contains(track));
    let found = tracks.iter().find(named);
    found.map_or(0, |track| track["receivers"].as_u64().unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pictures_are_asked_for_before_the_catalog_is_known() {
    let backbone = Backbone::open().await;
    let mut publisher = ByHand::claim(&backbone.edge).await;
    let mut viewer = Viewer::open(&backbone).await;
    eventually("the video's subscription", || {
        receivers(&backbone, "/video") == 1
    })
    .await;
    publisher.describe();
    publisher.picture(1_000, true);
    publisher.picture(1_040, false);
    assert_eq!(viewer.picture().await, (1_000, true));
    assert_eq!(viewer.picture().await, (1_040, false));
    // A track that the catalog does not name is left again.
    eventually("no audio", || receivers(&backbone, "/audio") == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_generation_is_left_at_the_first_key_frame_of_the_next_and_never_comes_back() {
    let backbone = Backbone::open().await;
    let mut lost = ByHand::claim(&backbone.edge).await;
    lost.describe();
    let mut viewer = Viewer::open(&backbone).await;
    lost.picture(5_000, true);
    lost.picture(5_040, false);
    assert_eq!(viewer.picture().await, (5_000, true));
    assert_eq!(viewer.picture().await, (5_040, false));
    // Its edge is lost: nothing ends, nothing comes. The publisher is back, its clock begins anew.
    let mut next = ByHand::claim(&backbone.edge).await;
    next.describe();
    eventually("the next generation's subscription", || {
        receivers(&backbone, "/video@0.2") == 1
    })
    .await;
    next.picture(0, true);
    next.picture(40, false);
    assert_eq!(viewer.picture().await, (5_080, true));
    assert_eq!(viewer.picture().await, (5_120, false));
    // The lost one is heard again: too late.
    lost.picture(5_160, true);
    lost.picture(5_200, false);
    next.picture(80, true);
    assert_eq!(viewer.picture().await, (5_160, true));
    next.picture(120, false);
    assert_eq!(viewer.picture().await, (5_200, false));
    next.picture(160, false);
    assert_eq!(viewer.picture().await, (5_240, false));
}
