//! The last segments of a stream, and the playlist that names them.

use std::{collections::VecDeque, fmt::Write};

use bytes::Bytes;

use super::{Name, Segment, date::Date};

/// How many numbers a playlist lists. At least three target durations must stand in it (RFC 8216
/// §6.2.2); six let a player that starts three behind be interrupted as long again.
pub const LISTED: u64 = 6;

/// How many numbers' segments are held: as long again as they are listed, for players that read
/// the playlist just before (§6.2.2 asks for it).
pub const HELD: u64 = 2 * LISTED;

/// The most bytes held. When full, the oldest segments go.
pub const MAX_BYTES: usize = 128 << 20;

/// The last segments of a stream, over all its generations.
///
/// A segment's number is the same on every edge, and so is the playlist's discontinuity sequence:
/// it is the generation of the first listed segment, so an edge that joins late says the same as
/// one that saw it all. Therefore the list reaches back over a change of generation only where
/// the numbers of the two follow each other, and one `EXT-X-DISCONTINUITY` counts it.
#[derive(Debug, Default)]
pub struct Window {
    held: VecDeque<(Segment, Name)>,
    bytes: usize,
    /// The longest segment that was ever listed, in whole seconds, rounded up.
    target: u64,
}

impl Window {
    /// Without segments.
    pub fn new() -> Window {
        Window::default()
    }

    /// Takes the next segment; one that is not after those already listed is refused (`false`):
    /// a playlist never goes back.
    pub fn push(&mut self, segment: Segment) -> bool {
        if let Some((last, _)) = self.held.back()
            && (segment.sequence <= last.sequence || segment.generation < last.generation)
        {
            return false;
        }
        self.target = self.target.max(segment.duration.div_ceil(1_000_000)).max(1);
        let init = Name::of_init(&segment.init);
        let newest = segment.sequence;
        self.bytes += segment.data.len();
        self.held.push_back((segment, init));
        while let Some((first, _)) = self.held.front()
            && self.held.len() > 1
            && (first.sequence + HELD <= newest || self.bytes > MAX_BYTES)
        {
            self.bytes -= first.data.len();
            self.held.pop_front();
        }
        true
    }

    /// The media playlist; `None` before the first segment.
    pub fn playlist(&self) -> Option<String> {
        self.playlist_with_query("")
    }

    /// The media playlist with a query (such as `token=…`, already escaped) behind each URI, for
    /// players that repeat nothing of the playlist's own URL.
    pub fn playlist_with_query(&self, query: &str) -> Option<String> {
        let query = match query {
            "" => String::new(),
            query => format!("?{query}"),
        };
        let listed = self.listed();
        let (first, _) = listed.first()?;
        let gaps = listed
            .windows(2)
            .any(|pair| pair[1].0.sequence > pair[0].0.sequence + 1);
        let mut out = String::with_capacity(2_048);
        // EXT-X-GAP is of version 8, EXT-X-MAP as we use it of 6 (RFC 8216bis §8).
        let version = if gaps { 8 } else { 7 };
        let _ = write!(
            out,
            "#EXTM3U\n\
             #EXT-X-VERSION:{version}\n\
             #EXT-X-TARGETDURATION:{}\n\
             #EXT-X-MEDIA-SEQUENCE:{}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{}\n\
             #EXT-X-INDEPENDENT-SEGMENTS\n",
            self.target, first.sequence, first.generation.0
        );
        let mut before: Option<&(Segment, Name)> = None;
        for entry in &listed {
            self.put_entry(&mut out, before, entry, &query);
            before = Some(entry);
        }
        Some(out)
    }

    /// The entry of a segment, before it those of the missing ones since `before`. (Writing to a
    /// `String` cannot fail.)
    fn put_entry(
        &self,
        out: &mut String,
        before: Option<&(Segment, Name)>,
        (segment, init): &(Segment, Name),
        query: &str,
    ) {
        if let Some((before, _)) = before {
            let missing = segment.sequence - before.sequence - 1;
            for sequence in before.sequence + 1..segment.sequence {
                let seconds = self.gap_seconds(before, segment, missing);
                let generation = before.generation;
                let name = Name::Segment {
                    generation,
                    sequence,
                };
                let _ = write!(out, "#EXT-X-GAP\n#EXTINF:{seconds:.6},\n{name}{query}\n");
            }
        }
        let discontinuity = before.is_some_and(|(b, _)| b.generation != segment.generation);
        if discontinuity {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if discontinuity || before.is_none_or(|(_, before)| before != init) {
            let _ = writeln!(out, "#EXT-X-MAP:URI=\"{init}{query}\"");
        }
        let name = segment_name(segment);
        let date = Date::from_micros(segment.origin_time);
        let seconds = segment.duration as f64 / 1_000_000.0;
        let _ = write!(
            out,
            "#EXT-X-PROGRAM-DATE-TIME:{date}\n#EXTINF:{seconds:.6},\n{name}{query}\n"
        );
    }

    /// How long each of the missing segments between two is taken to last: the wall clock tells,
    /// within what the playlist may say.
    fn gap_seconds(&self, before: &Segment, after: &Segment, missing: u64) -> f64 {
        let end = before.origin_time.saturating_add(before.duration);
        let each = after.origin_time.saturating_sub(end) / missing.max(1);
        each.clamp(1_000, self.target * 1_000_000) as f64 / 1_000_000.0
    }

    /// What the playlist lists, oldest first.
    fn listed(&self) -> Vec<&(Segment, Name)> {
        let Some((newest, _)) = self.held.back() else {
            return Vec::new();
        };
        let mut listed = Vec::with_capacity(LISTED as usize);
        let mut generation = newest.generation;
        for entry in self.held.iter().rev() {
            let (segment, _) = entry;
            let follows = segment.generation == generation
                || segment.generation.0.checked_add(1) == Some(generation.0);
            if segment.sequence + LISTED <= newest.sequence || !follows {
                break;
            }
            generation = segment.generation;
            listed.push(entry);
        }
        listed.reverse();
        listed
    }

    /// An init segment or a segment that is still held (a little longer than it is listed).
    pub fn get(&self, name: &Name) -> Option<Bytes> {
        let mut held = self.held.iter();
        match name {
            Name::Playlist => None,
            Name::Init(_) => held
                .find(|(_, init)| init == name)
                .map(|(segment, _)| segment.init.clone()),
            Name::Segment { .. } => held
                .find(|(segment, _)| segment_name(segment) == *name)
                .map(|(segment, _)| segment.data.clone()),
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn segment_name(segment: &Segment) -> Name {
    Name::Segment {
        generation: segment.generation,
        sequence: segment.sequence,
    }
}

#[cfg(test)]
mod tests;
