//! A lesson made by ffmpeg, and its way through the media model.

use std::{fs, path::PathBuf};

use longspan_edge::{
    flv::{Ingest, Ingested, Reader, Tag},
    media::{Assembled, Assembler, Catalog, Cut, GroupStart, Grouper, Kind, Sample, TrackEvent},
    rtmp::amf0,
};
use longspan_proto::time::Time;

use crate::packets::{Packet, ffmpeg, packets};

/// 12 s of H.264 with B-frames and AAC, key frames 2 s apart.
pub struct Lesson {
    pub dir: tempfile::TempDir,
    pub path: PathBuf,
    pub original: Vec<Packet>,
    pub catalog: Catalog,
    cuts: Vec<Cut>,
}

impl Lesson {
    pub fn new() -> Lesson {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("original.flv");
        let encode = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -bf 2 -g 50 \
            -x264-params scenecut=0 -c:a aac -b:a 64k -t 12 -f flv";
        let sources = "-f lavfi -i testsrc2=s=320x180:r=25 -f lavfi -i sine=f=440:r=44100";
        let mut arguments: Vec<&str> = sources.split_whitespace().collect();
        arguments.extend(encode.split_whitespace());
        arguments.push(path.to_str().unwrap());
        ffmpeg(&arguments);
        let file = fs::read(&path).unwrap();
        let mut reader = Reader::new();
        reader.push(&file);
        let mut ingest = Ingest::new();
        let mut ingested = Vec::new();
        while let Some(tag) = reader.next_tag().unwrap() {
            ingested.extend(self::ingest(&mut ingest, &tag));
        }
        let original = packets(&path);
        let (catalog, cuts) = cut(ingested);
        Lesson {
            dir,
            path,
            original,
            catalog,
            cuts,
        }
    }

    /// Writes a file beside the lesson.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// What a subscriber of both tracks sees, frames decoded.
    pub fn events(&self) -> Vec<(Kind, TrackEvent)> {
        let mut events = Vec::new();
        let mut open: [Option<(u64, u64)>; 2] = [None, None];
        for cut in &self.cuts {
            match cut {
                Cut::Group {
                    kind,
                    group,
                    timestamp,
                    origin_time,
                } => {
                    if let Some((before, _)) = open[*kind as usize].replace((*group, 0)) {
                        events.push((*kind, TrackEvent::End { group: before }));
                    }
                    let start = GroupStart {
                        group: *group,
                        first_index: 0,
                        timestamp: *timestamp,
                        origin_time: *origin_time,
                    };
                    events.push((*kind, TrackEvent::Group(start)));
                }
                Cut::Frame { kind, frame } => {
                    let (group, index) = open[*kind as usize].as_mut().unwrap();
                    let event = TrackEvent::Sample {
                        group: *group,
                        index: *index,
                        sample: Sample::from_frame(*kind, frame).unwrap(),
                    };
                    *index += 1;
                    events.push((*kind, event));
                }
            }
        }
        events
    }

    /// What a muxer is given.
    pub fn assembled(&self) -> Vec<Assembled> {
        let mut assembler = Assembler::new(true, true);
        let mut assembled = Vec::new();
        let mut now = Time::ZERO;
        for (kind, event) in self.events() {
            assembler.handle(now, kind, event);
            assembled.extend(std::iter::from_fn(|| assembler.poll(now)));
        }
        while let Some(timeout) = assembler.poll_timeout() {
            now = timeout;
            assembled.extend(std::iter::from_fn(|| assembler.poll(now)));
        }
        assembled
    }
}

/// Feeds a tag of a file to an ingest.
pub fn ingest(ingest: &mut Ingest, tag: &Tag) -> Vec<Ingested> {
    let kind = match tag.tag_type {
        8 => Kind::Audio,
        9 => Kind::Video,
        _ => {
            let values = amf0::decode(&tag.body).unwrap();
            let metadata = values[1].to_json();
            return ingest.metadata(metadata.as_object().unwrap().clone());
        }
    };
    ingest.media(kind, tag.timestamp, tag.body.clone()).unwrap()
}

/// What the origin publishes of a stream whose catalog does not change.
pub fn cut(ingested: Vec<Ingested>) -> (Catalog, Vec<Cut>) {
    let mut ingested = ingested.into_iter();
    let Some(Ingested::Catalog(catalog)) = ingested.next() else {
        panic!("the catalog comes first");
    };
    let mut grouper = Grouper::new(catalog.has(Kind::Video));
    let mut cuts = Vec::new();
    for it in ingested {
        let Ingested::Sample(sample) = it else {
            panic!("a second catalog: {it:?}");
        };
        cuts.extend(grouper.push(sample, 1_795_527_420_000_000).unwrap());
    }
    (catalog, cuts)
}
