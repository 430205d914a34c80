//! An FLV file through all of an edge: tags, samples, groups, assembled again, and every muxer.
#![no_main]
use libfuzzer_sys::fuzz_target;
use longspan_edge::{
    flv::{Ingest, Ingested, Muxer, Reader},
    fmp4::Live,
    hls::{Segmenter, Window},
    media::{Assembler, Cut, GroupStart, Grouper, Kind, Sample, TrackEvent},
    rtmp::amf0,
};
use longspan_proto::{ids::Generation, time::Time};

fuzz_target!(|data: &[u8]| {
    let mut reader = Reader::new();
    reader.push(data);
    let mut ingest = Ingest::new();
    let mut origin = None;
    while let Ok(Some(tag)) = reader.next_tag() {
        let ingested = match tag.tag_type {
            8 => ingest.media(Kind::Audio, tag.timestamp, tag.body),
            9 => ingest.media(Kind::Video, tag.timestamp, tag.body),
            _ => {
                let metadata = amf0::decode(&tag.body).ok().and_then(|v| Some(v.get(1)?.to_json()));
                if let Some(serde_json::Value::Object(metadata)) = metadata {
                    ingest.metadata(metadata);
                }
                continue;
            }
        };
        let Ok(ingested) = ingested else { return };
        for it in ingested {
            match it {
                Ingested::Catalog(catalog) => {
                    let payload = catalog.encode().expect("a catalog of ours");
                    let read = longspan_edge::media::Catalog::decode(&payload).expect("ours");
                    origin.get_or_insert_with(|| Edge::new(&read));
                }
                Ingested::Sample(sample) => {
                    let edge = origin.as_mut().expect("the catalog comes first");
                    if edge.push(sample).is_none() {
                        return;
                    }
                }
            }
        }
    }
});

/// The origin's grouper and a viewer's side of everything.
struct Edge {
    grouper: Grouper,
    open: [(u64, u64); 2],
    now: u64,
    assembler: Assembler,
    flv: Muxer,
    live: Live,
    segmenter: Segmenter,
    window: Window,
}

impl Edge {
    fn new(catalog: &longspan_edge::media::Catalog) -> Edge {
        let (video, audio) = (catalog.has(Kind::Video), catalog.has(Kind::Audio));
        Edge {
            grouper: Grouper::new(video),
            open: [(0, 0); 2],
            now: 0,
            assembler: Assembler::new(video, audio),
            flv: Muxer::new(catalog),
            live: Live::new(catalog),
            segmenter: Segmenter::new(Generation::new(0, 1), catalog),
            window: Window::new(),
        }
    }

    fn push(&mut self, sample: Sample) -> Option<()> {
        for cut in self.grouper.push(sample, self.now).ok()? {
            match cut {
                Cut::Group { kind, group, timestamp, origin_time } => {
                    self.open[kind as usize] = (group, 0);
                    self.event(kind, TrackEvent::Group(GroupStart {
                        group, first_index: 0, timestamp, origin_time,
                    }));
                }
                Cut::Frame { kind, frame } => {
                    let sample = Sample::from_frame(kind, &frame).expect("a frame of ours");
                    let (group, index) = self.open[kind as usize];
                    self.open[kind as usize].1 += 1;
                    self.event(kind, TrackEvent::Sample { group, index, sample });
                }
            }
        }
        Some(())
    }

    fn event(&mut self, kind: Kind, event: TrackEvent) {
        self.now += 10_000;
        let now = Time::from_micros(self.now);
        self.segmenter.handle(kind, event.clone());
        while let Some(segment) = self.segmenter.poll_segment() {
            self.window.push(segment);
            self.window.playlist().expect("there is a segment");
        }
        self.assembler.handle(now, kind, event);
        while let Some(it) = self.assembler.poll(now) {
            self.flv.sample(&it.sample);
            self.live.sample(&it);
        }
    }
}
