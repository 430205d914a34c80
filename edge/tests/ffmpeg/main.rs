//! The gateways' borders against ffmpeg: what it writes we read, what we write it reads, bit for
//! bit and with the same timestamps.

mod lesson;
mod packets;
mod rtmp;

use std::{fs, path::Path};

use longspan_edge::{
    flv, fmp4,
    hls::{Segmenter, Window},
    media::Kind,
};
use longspan_proto::ids::Generation;

use crate::{
    lesson::Lesson,
    packets::{Packet, packets, packets_with},
};

/// Asserts that two lists hold the same packets of each kind, in their order.
fn assert_same(ours: &[Packet], theirs: &[Packet]) {
    for kind in Kind::ALL {
        let of = |list: &[Packet]| -> Vec<Packet> {
            list.iter().filter(|p| p.kind == kind).cloned().collect()
        };
        let (ours, theirs) = (of(ours), of(theirs));
        assert_eq!(ours.len(), theirs.len(), "{kind} packets");
        for (our, their) in ours.iter().zip(&theirs) {
            assert_eq!(our, their);
        }
    }
}

#[test]
fn flv_round_trip() {
    let lesson = Lesson::new();
    assert!(
        lesson
            .original
            .iter()
            .filter(|p| p.kind == Kind::Video)
            .count()
            >= 300
    );
    assert!(
        lesson.original.iter().any(|p| p.pts != p.dts),
        "no B-frames"
    );
    let mut muxer = flv::Muxer::new(&lesson.catalog);
    let mut file = muxer.header().to_vec();
    for it in lesson.assembled() {
        file.extend_from_slice(&muxer.sample(&it.sample));
    }
    assert_same(&packets(&lesson.write("ours.flv", &file)), &lesson.original);
}

#[test]
fn live_mp4() {
    let lesson = Lesson::new();
    let mut live = fmp4::Live::new(&lesson.catalog);
    let mut file = live.init().to_vec();
    for it in lesson.assembled() {
        file.extend_from_slice(&live.sample(&it));
    }
    assert_same(&packets(&lesson.write("live.mp4", &file)), &lesson.original);
}

#[test]
fn hls() {
    let lesson = Lesson::new();
    let (window, segments) = windowed(&lesson);
    assert_eq!(segments, 6);
    for name in window.playlist().unwrap().lines() {
        let name = match name.strip_prefix("#EXT-X-MAP:URI=\"") {
            Some(uri) => uri.trim_end_matches('"'),
            None if name.starts_with('#') => continue,
            None => name,
        };
        let file = window.get(&name_of(name)).unwrap();
        lesson.write(name, &file);
    }
    // ffmpeg starts a live playlist near its end, and never finishes: say that it is over.
    let playlist = format!("{}#EXT-X-ENDLIST\n", window.playlist().unwrap());
    let playlist = lesson.write("index.m3u8", playlist.as_bytes());
    assert_same(&packets(&playlist), &lesson.original);
}

fn name_of(file: &str) -> longspan_edge::hls::Name {
    longspan_edge::hls::Name::parse(file).unwrap_or_else(|| panic!("{file} is no name of ours"))
}

/// All of the lesson as segments, and how many.
fn windowed(lesson: &Lesson) -> (Window, usize) {
    let mut segmenter = Segmenter::new(Generation::new(0, 7), &lesson.catalog);
    let mut window = Window::new();
    for (kind, event) in lesson.events() {
        segmenter.handle(kind, event);
    }
    segmenter.finish();
    let mut segments = 0;
    while let Some(segment) = segmenter.poll_segment() {
        assert!(window.push(segment));
        segments += 1;
    }
    (window, segments)
}

#[test]
fn each_segment_decodes_alone() {
    let lesson = Lesson::new();
    let (window, _) = windowed(&lesson);
    let playlist = window.playlist().unwrap();
    let map = playlist
        .lines()
        .find_map(|l| l.strip_prefix("#EXT-X-MAP:URI=\""));
    let init = window
        .get(&name_of(map.unwrap().trim_end_matches('"')))
        .unwrap();
    let uris = playlist.lines().filter(|l| !l.starts_with('#'));
    let mut begun = 0;
    for uri in uris {
        let file = [init.clone(), window.get(&name_of(uri)).unwrap()].concat();
        let file = lesson.write("segment.mp4", &file);
        let decoded = packets_with(&file, &["-map", "0:v", "-f", "framemd5"], &[]);
        assert!(
            decoded.len() >= 49,
            "{uri} decodes to {} pictures",
            decoded.len()
        );
        begun += 1;
    }
    assert_eq!(begun, 6);
}

#[test]
fn the_sample_lesson_is_read_whole() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/sample-lesson.flv");
    let file = fs::read(&path).unwrap();
    let mut reader = flv::Reader::new();
    reader.push(&file);
    let mut samples = 0;
    let mut ingest = flv::Ingest::new();
    while let Some(tag) = reader.next_tag().unwrap() {
        samples += lesson::ingest(&mut ingest, &tag).len();
    }
    assert!(samples > 100, "{samples} samples");
}
