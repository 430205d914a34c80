use std::collections::VecDeque;

use super::*;
use crate::{
    flv::{Ingest, Ingested, Reader, tag_type},
    media::{Cut, GroupStart, Grouper, Sample},
};

const LESSON: &[u8] = include_bytes!("../../../../assets/sample-lesson.flv");

/// The sample lesson as a far edge sees it.
fn lesson() -> (Arc<Catalog>, Vec<Assembled>) {
    let mut reader = Reader::new();
    reader.push(LESSON);
    let mut ingest = Ingest::new();
    let mut catalog = None;
    let mut grouper = Grouper::new(true);
    let mut assembled = vec![];
    let mut groups = [0; 2];
    let mut begins = None;
    while let Some(tag) = reader.next_tag().unwrap() {
        let kind = match tag.tag_type {
            tag_type::VIDEO => Kind::Video,
            tag_type::AUDIO => Kind::Audio,
            _ => continue,
        };
        for item in ingest.media(kind, tag.timestamp, tag.body).unwrap() {
            match item {
                Ingested::Catalog(described) => catalog = Some(Arc::new(described)),
                Ingested::Sample(sample) => {
                    for cut in grouper.push(sample, 7).unwrap() {
                        match cut {
                            Cut::Group {
                                kind,
                                group,
                                timestamp,
                                origin_time,
                            } => {
                                groups[kind as usize] = group;
                                begins = Some(GroupStart {
                                    group,
                                    first_index: 0,
                                    timestamp,
                                    origin_time,
                                });
                            }
                            Cut::Frame { kind, frame } => assembled.push(Assembled {
                                group: groups[kind as usize],
                                begins: begins.take(),
                                sample: Sample::from_frame(kind, &frame).unwrap(),
                            }),
                        }
                    }
                }
            }
        }
    }
    (catalog.unwrap(), assembled)
}

fn is_key(it: &Assembled) -> bool {
    it.sample.kind == Kind::Video && it.sample.key
}

fn pieces(outlet: &Outlet, cursor: &mut Cursor) -> Vec<Piece> {
    let mut out = VecDeque::new();
    outlet.read(cursor, Time::ZERO, usize::MAX, &mut out);
    out.into()
}

/// What a newcomer is sent.
fn file(pieces: &[Piece]) -> Vec<u8> {
    let mut file = pieces[0].description.first.to_vec();
    for piece in pieces {
        file.extend_from_slice(&piece.bytes);
    }
    file
}

fn stage() -> (Stage, Arc<Catalog>, Vec<Assembled>) {
    let (catalog, samples) = lesson();
    let mut stage = Stage::new(Limits::default());
    stage.begin(catalog.clone());
    (stage, catalog, samples)
}

#[test]
fn a_viewer_gets_what_was_published() {
    let (mut stage, _, samples) = stage();
    let outlet = stage.outlet(Time::ZERO, Format::Flv);
    let mut cursor = outlet.newcomer();
    let mut seen = vec![];
    for sample in &samples {
        stage.push(Time::ZERO, sample.clone());
        seen.extend(pieces(&outlet, &mut cursor));
    }
    let first = samples.iter().position(is_key).unwrap();
    assert_eq!(seen.len(), samples.len() - first);
    let mut reader = Reader::new();
    reader.push(&file(&seen));
    let mut media = vec![];
    while let Some(tag) = reader.next_tag().unwrap() {
        // Decoder configs have the packet type 0.
        if tag.tag_type != tag_type::SCRIPT && tag.body[1] != 0 {
            media.push((tag.timestamp, tag.body));
        }
    }
    for ((ms, body), published) in media.iter().zip(&samples[first..]) {
        assert_eq!(u64::from(*ms) * 1_000, published.sample.timestamp);
        assert!(body.ends_with(&published.sample.data));
    }
    assert_eq!(media.len(), seen.len());
}

#[test]
fn a_format_that_is_asked_for_later_begins_at_the_newest_key() {
    let (mut stage, _, samples) = stage();
    for sample in &samples {
        stage.push(Time::ZERO, sample.clone());
    }
    let newest = samples.iter().rposition(is_key).unwrap();
    for format in [Format::Flv, Format::Mp4, Format::Rtmp] {
        let outlet = stage.outlet(Time::ZERO, format);
        let seen = pieces(&outlet, &mut outlet.newcomer());
        assert_eq!(seen.len(), samples.len() - newest, "{format:?}");
        assert_eq!(seen[0].timestamp, samples[newest].sample.timestamp);
        assert!(Arc::ptr_eq(&outlet, &stage.outlet(Time::ZERO, format)));
    }
    stage.prune();
    assert!(stage.writers.is_empty());
}

#[test]
fn a_new_generation_goes_on_at_its_first_key() {
    let (mut stage, catalog, samples) = stage();
    let outlet = stage.outlet(Time::ZERO, Format::Flv);
    let mut cursor = outlet.newcomer();
    for sample in &samples {
        stage.push(Time::ZERO, sample.clone());
    }
    let old = pieces(&outlet, &mut cursor);
    // The publisher came back: its clock begins anew, and another encoder describes the stream.
    let mut described = Catalog::clone(&catalog);
    described.encoder = Some("another".to_owned());
    stage.begin(Arc::new(described));
    let key = samples.iter().position(is_key).unwrap();
    let early = samples.iter().find(|it| it.sample.kind == Kind::Audio);
    stage.push(Time::ZERO, early.unwrap().clone());
    assert!(pieces(&outlet, &mut cursor).is_empty());
    for sample in &samples[key..] {
        stage.push(Time::ZERO, sample.clone());
    }
    let new = pieces(&outlet, &mut cursor);
    assert_eq!(new.len(), samples.len() - key);
    assert!(new[0].timestamp > old.last().unwrap().timestamp);
    assert!(new[0].timestamp - old.last().unwrap().timestamp < 1_000_000);
    // Every step inside the generation is its publisher's own.
    for (pair, own) in new.windows(2).zip(samples[key..].windows(2)) {
        let moved = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        let published = own[1]
            .sample
            .timestamp
            .wrapping_sub(own[0].sample.timestamp);
        assert_eq!(moved, published);
    }
    assert!(!Arc::ptr_eq(&old[0].description, &new[0].description));
    assert!(!new[0].description.again.starts_with(b"FLV"));
}

#[test]
fn what_is_announced_holds_from_the_next_key_on() {
    let (mut stage, catalog, samples) = stage();
    let outlet = stage.outlet(Time::ZERO, Format::Rtmp);
    let mut cursor = outlet.newcomer();
    let keys: Vec<usize> = (0..samples.len())
        .filter(|n| is_key(&samples[*n]))
        .collect();
    let announced = Arc::new(Catalog {
        encoder: Some("another".to_owned()),
        ..Catalog::clone(&catalog)
    });
    let mut seen = vec![];
    for (n, sample) in samples.iter().enumerate().skip(keys[0]) {
        if n == keys[0] + 2 {
            stage.announce(announced.clone());
        }
        stage.push(Time::ZERO, sample.clone());
        seen.extend(pieces(&outlet, &mut cursor));
    }
    let (before, after) = seen.split_at(keys[1] - keys[0]);
    assert!(before.iter().all(|it| it.description.catalog == catalog));
    assert!(after.iter().all(|it| it.description.catalog == announced));
}

#[test]
fn a_config_in_the_media_is_truer_than_the_catalog() {
    let (mut stage, catalog, samples) = stage();
    let outlet = stage.outlet(Time::ZERO, Format::Mp4);
    let mut cursor = outlet.newcomer();
    let key = samples.iter().position(is_key).unwrap();
    stage.push(Time::ZERO, samples[key].clone());
    let mut audio = samples
        .iter()
        .find(|it| it.sample.kind == Kind::Audio)
        .unwrap()
        .clone();
    // AAC LC, 44.1 kHz, mono (ISO/IEC 14496-3 §1.6.2.1).
    let mono = Bytes::from_static(&[0x12, 0x08]);
    assert_ne!(catalog.audio().unwrap().config, mono);
    audio.sample.config = Some(mono.clone());
    stage.push(Time::ZERO, audio);
    let seen = pieces(&outlet, &mut cursor);
    let described = &seen[1].description;
    assert_eq!(described.catalog.audio().unwrap().config, mono);
    assert_eq!(described.catalog.audio().unwrap().channels, 1);
    assert_ne!(described.again, seen[0].description.first);
}

#[test]
fn closing_says_where_the_end_is() {
    let (mut stage, _, samples) = stage();
    let outlet = stage.outlet(Time::ZERO, Format::Flv);
    let tail = outlet.tail();
    let key = samples.iter().position(is_key).unwrap();
    stage.push(Time::ZERO, samples[key].clone());
    stage.wake();
    assert!(tail.has_changed().unwrap());
    assert!(!tail.borrow().closed);
    stage.close();
    assert!(tail.borrow().closed);
    assert_eq!(pieces(&outlet, &mut outlet.newcomer()).len(), 1);
}
