//! From groups to segments.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use longspan_proto::ids::Generation;

use crate::{
    fmp4::{self, Run},
    media::{Catalog, GroupStart, Kind, Sample, TrackEvent},
};

/// A segment is closed without a late track when the other one has come this many groups
/// further: what is later is not worth holding up everyone.
pub const GIVE_UP_AFTER: u64 = 2;

/// The most bytes of samples waiting for their segment to be whole. When full, the groups that
/// wait are given up, and become gaps.
pub const MAX_PENDING: usize = 64 << 20;

/// One segment: the video and the audio group of one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The generation it is of.
    pub generation: Generation,
    /// Its media sequence number: the catalog's `hls_base` plus the group's number.
    pub sequence: u64,
    /// How long it plays, in µs.
    pub duration: u64,
    /// Wall clock at the origin edge when its first sample entered: µs since the Unix epoch.
    pub origin_time: u64,
    /// The init segment it needs.
    pub init: Bytes,
    /// `styp`, `moof`, `mdat`.
    pub data: Bytes,
}

/// Makes segments of one generation's groups.
///
/// A segment is whole when both tracks have begun their next group, so its duration is known
/// exactly, and is the same on every edge. A number whose video is not whole gives no segment
/// (the playlist shows a gap); missing sound does not hold the pictures back.
#[derive(Debug)]
pub struct Segmenter {
    generation: Generation,
    catalog: Catalog,
    init: Bytes,
    tracks: [Track; 2],
    /// The number whose turn it is, once something came.
    next: Option<u64>,
    pending: usize,
    segments: VecDeque<Segment>,
}

#[derive(Debug, Default)]
struct Track {
    groups: BTreeMap<u64, Group>,
    /// The last group that began.
    newest: Option<u64>,
}

#[derive(Debug, Default)]
struct Group {
    start: Option<GroupStart>,
    samples: Vec<Sample>,
    ended: bool,
    /// Samples are missing.
    broken: bool,
}

impl Segmenter {
    /// For a generation of a stream.
    pub fn new(generation: Generation, catalog: &Catalog) -> Segmenter {
        Segmenter {
            generation,
            catalog: catalog.clone(),
            init: fmp4::init(catalog),
            tracks: Default::default(),
            next: None,
            pending: 0,
            segments: VecDeque::new(),
        }
    }

    /// Something happened on a track. What is said of a track the catalog does not name is
    /// ignored.
    pub fn handle(&mut self, kind: Kind, event: TrackEvent) {
        if !self.catalog.has(kind) {
            return;
        }
        let number = match &event {
            TrackEvent::Group(start) => start.group,
            TrackEvent::Sample { group, .. }
            | TrackEvent::End { group }
            | TrackEvent::Dropped { group } => *group,
        };
        if self.next.is_some_and(|next| number < next) {
            return;
        }
        let track = &mut self.tracks[kind as usize];
        track.newest = track.newest.max(Some(number));
        let group = track.groups.entry(number).or_default();
        self.pending += group.take(event);
        if self.pending > MAX_PENDING {
            self.give_up();
        }
        self.close(false);
    }

    /// The generation is over: what is there becomes the last segment.
    pub fn finish(&mut self) {
        self.close(true);
    }

    /// The next whole segment, in order.
    pub fn poll_segment(&mut self) -> Option<Segment> {
        self.segments.pop_front()
    }

    fn give_up(&mut self) {
        for group in self.tracks.iter_mut().flat_map(|t| t.groups.values_mut()) {
            group.broken = true;
            group.samples = Vec::new();
        }
        self.pending = 0;
    }

    /// Closes all segments that are whole or must not be waited for.
    fn close(&mut self, finished: bool) {
        let lowest = |tracks: &[Track; 2]| {
            let first = |t: &Track| t.groups.first_key_value().map(|(number, _)| *number);
            tracks.iter().filter_map(first).min()
        };
        while let Some(number) = lowest(&self.tracks) {
            if !finished && !self.is_whole(number) {
                return;
            }
            self.next = Some(number + 1);
            let [video, audio] = Kind::ALL.map(|kind| {
                let track = &mut self.tracks[kind as usize];
                let group = track.groups.remove(&number)?;
                self.pending -= group.bytes();
                let end = track
                    .groups
                    .first_key_value()
                    .and_then(|(_, g)| g.timestamp());
                Some((group, end))
            });
            if let Some(segment) = self.segment(number, video, audio) {
                self.segments.push_back(segment);
            }
        }
    }

    /// Whether nothing more is to be waited for.
    fn is_whole(&self, number: u64) -> bool {
        let newest = self.tracks.iter().filter_map(|t| t.newest).max();
        if newest.is_some_and(|newest| newest >= number.saturating_add(GIVE_UP_AFTER)) {
            return true;
        }
        Kind::ALL
            .into_iter()
            .filter(|kind| self.catalog.has(*kind))
            .all(|kind| {
                let track = &self.tracks[kind as usize];
                let over = track.groups.get(&number).is_none_or(|group| group.ended);
                over && track.newest > Some(number)
            })
    }

    fn segment(
        &mut self,
        number: u64,
        video: Option<(Group, Option<u64>)>,
        audio: Option<(Group, Option<u64>)>,
    ) -> Option<Segment> {
        // A track that skipped the number has nothing to be missed: a camera that stopped.
        if video.as_ref().is_some_and(|(group, _)| group.broken) {
            return None;
        }
        let audio = audio.filter(|(group, _)| !group.samples.is_empty());
        let video = video.filter(|(group, _)| !group.samples.is_empty());
        let mut runs = Vec::with_capacity(2);
        for (kind, track) in [(Kind::Video, &video), (Kind::Audio, &audio)] {
            let Some((group, next)) = track else {
                continue;
            };
            if let Some(config) = group.samples.first().and_then(|s| s.config.as_ref())
                && self.catalog.set_config(kind, config)
            {
                self.init = fmp4::init(&self.catalog);
            }
            runs.push(Run {
                kind,
                samples: &group.samples,
                end: next.unwrap_or_else(|| group.natural_end()),
            });
        }
        let leading = runs.first()?;
        let start = leading.samples.first()?.timestamp;
        let origin_time = [&video, &audio]
            .into_iter()
            .flatten()
            .find_map(|(group, _)| group.start)
            .map_or(0, |start| start.origin_time);
        let sequence = self.catalog.hls_base.saturating_add(number);
        Some(Segment {
            generation: self.generation,
            sequence,
            duration: leading.end.saturating_sub(start),
            origin_time,
            init: self.init.clone(),
            // mfhd's number has 32 bits; that it wraps harms nobody.
            data: fmp4::segment(sequence as u32, &runs),
        })
    }
}

impl Group {
    /// Gives the bytes it holds more.
    fn take(&mut self, event: TrackEvent) -> usize {
        match event {
            TrackEvent::Group(start) => {
                self.start.get_or_insert(start);
                // A resume goes on where it broke off; a start in the middle cannot be used.
                self.broken |= start.first_index > self.samples.len() as u64;
                self.ended = false;
            }
            TrackEvent::Sample { index, sample, .. } => {
                let expected = self.samples.len() as u64;
                self.broken |= index > expected;
                if index == expected && !self.broken {
                    let bytes = sample.data.len();
                    self.samples.push(sample);
                    return bytes;
                }
            }
            TrackEvent::End { .. } => self.ended = true,
            TrackEvent::Dropped { .. } => {
                self.ended = true;
                self.broken = true;
            }
        }
        0
    }

    fn bytes(&self) -> usize {
        self.samples.iter().map(|s| s.data.len()).sum()
    }

    /// Media time of its first sample.
    fn timestamp(&self) -> Option<u64> {
        let first = self.samples.first().map(|s| s.timestamp);
        self.start.map(|s| s.timestamp).or(first)
    }

    /// When it ends if nothing follows: the last sample lasts as long as the one before it.
    fn natural_end(&self) -> u64 {
        match &self.samples[..] {
            [.., before, last] => last.timestamp + last.timestamp.saturating_sub(before.timestamp),
            [only] => only.timestamp,
            [] => 0,
        }
    }
}

#[cfg(test)]
mod tests;
