//! What a stream's viewers see: its samples on one timeline, and from them the bytes of each
//! format that somebody watches. The time is an argument; nothing here waits.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use longspan_proto::time::Time;
use tokio::sync::watch;

use super::ring::{Cursor, Limits, Ring};
use crate::{
    flv, fmp4,
    media::{Assembled, Catalog, Kind, Timeline},
};

/// What a viewer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// An endless FLV file.
    Flv,
    /// An endless fragmented MP4 file.
    Mp4,
    /// FLV's tag bodies, for RTMP.
    Rtmp,
}

impl Format {
    /// For metrics.
    pub fn name(self) -> &'static str {
        match self {
            Format::Flv => "flv",
            Format::Mp4 => "mp4",
            Format::Rtmp => "rtmp",
        }
    }
}

/// What a viewer must know before the pieces that follow.
#[derive(Debug)]
pub struct Description {
    /// What the stream is made of.
    pub catalog: Arc<Catalog>,
    /// What a viewer is sent who has seen nothing yet. Empty for RTMP.
    pub first: Bytes,
    /// What a viewer is sent who saw another description. Empty for RTMP.
    pub again: Bytes,
}

/// One sample, written once for all viewers of a format.
#[derive(Debug, Clone)]
pub struct Piece {
    /// What must be known first. All pieces with the same one share it.
    pub description: Arc<Description>,
    /// Of which kind.
    pub kind: Kind,
    /// When it is decoded, in µs on the viewers' timeline.
    pub timestamp: u64,
    /// The bytes: FLV tags, MP4 boxes, or a tag body.
    pub bytes: Bytes,
}

/// How far a format's ring has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// The number the next piece will have.
    end: u64,
    /// No piece will come any more.
    pub(super) closed: bool,
}

/// The viewers' side of one format.
#[derive(Debug)]
pub(super) struct Outlet {
    ring: Mutex<Ring<Piece>>,
    tail: watch::Sender<Tail>,
}

impl Outlet {
    pub(super) fn newcomer(&self) -> Cursor {
        self.lock().newcomer()
    }

    pub(super) fn tail(&self) -> watch::Receiver<Tail> {
        self.tail.subscribe()
    }

    /// See [`Ring::read`].
    pub(super) fn read(
        &self,
        cursor: &mut Cursor,
        now: Time,
        budget: usize,
        out: &mut std::collections::VecDeque<Piece>,
    ) -> u64 {
        self.lock().read(cursor, now, budget, out)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ring<Piece>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The samples of a stream and what is made of them.
#[derive(Debug)]
pub(super) struct Stage {
    limits: Limits,
    samples: Ring<Placed>,
    timeline: Timeline,
    catalog: Option<Arc<Catalog>>,
    /// In force from the next key on.
    announced: Option<Arc<Catalog>>,
    /// The generation's first key was seen.
    started: bool,
    writers: Vec<Writer>,
}

/// A sample in its place, and what the stream is made of there.
#[derive(Debug, Clone)]
struct Placed {
    catalog: Arc<Catalog>,
    assembled: Assembled,
    key: bool,
}

/// What one sample costs beside its bytes, about.
const OVERHEAD: usize = 128;

impl Stage {
    pub(super) fn new(limits: Limits) -> Stage {
        Stage {
            limits,
            samples: Ring::new(limits),
            timeline: Timeline::new(),
            catalog: None,
            announced: None,
            started: false,
            writers: Vec::new(),
        }
    }

    /// What follows is of another generation. Viewers see it from its first key on. Its
    /// timestamps pass unchanged if they go on from what was sent, else they are moved to follow
    /// it (see [`Timeline`]).
    pub(super) fn begin(&mut self, catalog: Arc<Catalog>) {
        self.timeline.splice();
        self.catalog = Some(catalog);
        self.announced = None;
        self.started = false;
    }

    /// The stream is made of this from its next key on.
    pub(super) fn announce(&mut self, catalog: Arc<Catalog>) {
        self.announced = Some(catalog);
    }

    /// What the stream is made of.
    pub(super) fn catalog(&self) -> Option<&Arc<Catalog>> {
        self.catalog.as_ref()
    }

    /// Takes the next sample.
    pub(super) fn push(&mut self, now: Time, mut assembled: Assembled) {
        let Some(catalog) = self.catalog.clone() else {
            return;
        };
        let key = match assembled.sample.kind {
            Kind::Video => assembled.sample.key,
            Kind::Audio => assembled.begins.is_some() && !catalog.has(Kind::Video),
        };
        if !self.started && !key {
            return;
        }
        self.started = true;
        let catalog = self.catalog_at(catalog, key, &assembled);
        self.catalog = Some(catalog.clone());
        let own = assembled.sample.timestamp;
        assembled.sample.timestamp = self.timeline.map(own);
        if let Some(begins) = &mut assembled.begins {
            let moved = assembled.sample.timestamp.wrapping_sub(own);
            begins.timestamp = begins.timestamp.wrapping_add(moved);
        }
        let placed = Placed {
            catalog,
            assembled,
            key,
        };
        for writer in &mut self.writers {
            writer.push(now, &placed);
        }
        let size = placed.assembled.sample.data.len() + OVERHEAD;
        self.samples.push(now, key, size, placed);
    }

    /// What the stream is made of from this sample on. A decoder config in the media itself is
    /// truer than a catalog that came by another track.
    fn catalog_at(
        &mut self,
        mut catalog: Arc<Catalog>,
        key: bool,
        assembled: &Assembled,
    ) -> Arc<Catalog> {
        if key && let Some(announced) = self.announced.take() {
            catalog = announced;
        }
        let sample = &assembled.sample;
        if let Some(config) = &sample.config {
            let mut described = Catalog::clone(&catalog);
            if described.set_config(sample.kind, config) {
                return Arc::new(described);
            }
        }
        catalog
    }

    /// The viewers' side of a format, made if there is none.
    pub(super) fn outlet(&mut self, now: Time, format: Format) -> Arc<Outlet> {
        if let Some(writer) = self.writers.iter().find(|writer| writer.format == format) {
            return writer.outlet.clone();
        }
        let mut writer = Writer::new(format, self.limits);
        for placed in self.samples.since_key() {
            writer.push(now, placed);
        }
        let outlet = writer.outlet.clone();
        self.writers.push(writer);
        outlet
    }

    /// Wakes viewers that wait for what was pushed.
    pub(super) fn wake(&self) {
        for writer in &self.writers {
            let end = writer.outlet.lock().end();
            writer.outlet.tail.send_if_modified(|tail| {
                let moved = tail.end != end;
                tail.end = end;
                moved
            });
        }
    }

    /// Drops the formats that nobody watches.
    pub(super) fn prune(&mut self) {
        self.writers
            .retain(|writer| Arc::strong_count(&writer.outlet) > 1);
    }

    /// No more will come: viewers end when they have read what is there.
    pub(super) fn close(&mut self) {
        for writer in self.writers.drain(..) {
            let end = writer.outlet.lock().end();
            writer.outlet.tail.send_replace(Tail { end, closed: true });
        }
    }
}

/// Writes one format.
#[derive(Debug)]
struct Writer {
    format: Format,
    muxer: Option<Muxer>,
    outlet: Arc<Outlet>,
}

#[derive(Debug)]
struct Muxer {
    description: Arc<Description>,
    writes: Writes,
}

#[derive(Debug)]
enum Writes {
    Flv(flv::Muxer),
    Mp4(Box<fmp4::Live>),
    Rtmp,
}

/// The FLV file header and the first back pointer: a viewer who goes on gets what stands behind.
const FLV_FILE_HEADER: usize = 13;

impl Writer {
    fn new(format: Format, limits: Limits) -> Writer {
        let (tail, _) = watch::channel(Tail {
            end: 0,
            closed: false,
        });
        let outlet = Outlet {
            ring: Mutex::new(Ring::new(limits)),
            tail,
        };
        Writer {
            format,
            muxer: None,
            outlet: Arc::new(outlet),
        }
    }

    fn push(&mut self, now: Time, placed: &Placed) {
        let fresh = !matches!(&self.muxer,
            Some(muxer) if Arc::ptr_eq(&muxer.description.catalog, &placed.catalog));
        if fresh {
            self.muxer = None;
        }
        let muxer = self
            .muxer
            .get_or_insert_with(|| Muxer::new(self.format, &placed.catalog));
        let sample = &placed.assembled.sample;
        let piece = Piece {
            description: muxer.description.clone(),
            kind: sample.kind,
            timestamp: sample.timestamp,
            bytes: match &mut muxer.writes {
                Writes::Flv(flv) => flv.sample(sample),
                Writes::Mp4(mp4) => mp4.sample(&placed.assembled),
                Writes::Rtmp => flv::sample_body(sample),
            },
        };
        let size = piece.bytes.len() + OVERHEAD;
        self.outlet.lock().push(now, placed.key, size, piece);
    }
}

impl Muxer {
    fn new(format: Format, catalog: &Arc<Catalog>) -> Muxer {
        let (first, again, writes) = match format {
            Format::Flv => {
                let muxer = flv::Muxer::new(catalog);
                let header = muxer.header();
                let again = header.slice(FLV_FILE_HEADER.min(header.len())..);
                (header, again, Writes::Flv(muxer))
            }
            Format::Mp4 => {
                let live = Box::new(fmp4::Live::new(catalog));
                (live.init(), live.init(), Writes::Mp4(live))
            }
            Format::Rtmp => (Bytes::new(), Bytes::new(), Writes::Rtmp),
        };
        let description = Description {
            catalog: catalog.clone(),
            first,
            again,
        };
        Muxer {
            description: Arc::new(description),
            writes,
        }
    }
}

#[cfg(test)]
mod tests;
