//! A file played again and again, as one stream.

use std::time::Duration;

use super::{ReadError, Reader, Tag, tag_type};

/// Why a file cannot be looped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoopError {
    /// It is no FLV.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is nothing to play in it.
    #[error("the file holds no audio or video tags")]
    Empty,
}

/// Plays a file's tags again and again. Timestamps go on rising; decoder configs and metadata
/// come in each round (who reads them knows them already).
#[derive(Debug)]
pub struct Loop {
    tags: Vec<Tag>,
    next: usize,
    rounds: u64,
    period: Duration,
}

impl Loop {
    /// Reads a whole file. A round lasts `period`; by default until the last tag, and as long
    /// again as that tag's track took for one on average.
    pub fn new(file: &[u8], period: Option<Duration>) -> Result<Loop, LoopError> {
        let mut reader = Reader::new();
        reader.push(file);
        let mut tags = Vec::new();
        while let Some(tag) = reader.next_tag()? {
            tags.push(tag);
        }
        // Interleaving is by timestamp in good files only.
        tags.sort_by_key(|tag| tag.timestamp);
        let natural = Duration::from_millis(natural_period(&tags).ok_or(LoopError::Empty)?);
        Ok(Loop {
            tags,
            next: 0,
            rounds: 0,
            period: period.unwrap_or(natural),
        })
    }

    /// How long a round lasts.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// The next tag with its timestamp in this round's place, and when it is due after the start
    /// of the first round. Never ends.
    pub fn next_tag(&mut self) -> (Duration, Tag) {
        let mut tag = self.tags[self.next].clone();
        let due = Duration::from_millis(u64::from(tag.timestamp))
            + Duration::from_micros(self.period.as_micros() as u64 * self.rounds);
        tag.timestamp = due.as_millis() as u32;
        self.next += 1;
        if self.next == self.tags.len() {
            self.next = 0;
            self.rounds += 1;
        }
        (due, tag)
    }
}

/// In ms: the latest end over both tracks.
fn natural_period(tags: &[Tag]) -> Option<u64> {
    let end = |kind| {
        let times: Vec<u64> = tags
            .iter()
            .filter(|tag| tag.tag_type == kind)
            .map(|tag| u64::from(tag.timestamp))
            .collect();
        let (first, last) = (*times.first()?, *times.last()?);
        let steps = times.windows(2).filter(|pair| pair[0] < pair[1]).count() as u64;
        Some(last + (last - first).checked_div(steps).unwrap_or(0))
    };
    let ends = [end(tag_type::VIDEO), end(tag_type::AUDIO)];
    ends.into_iter().flatten().max()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::flv::mux::put_tag;

    #[test]
    fn goes_on_without_a_jump() {
        let mut file = BytesMut::from(&b"FLV\x01\x05\0\0\0\x09\0\0\0\0"[..]);
        for (kind, ms) in [(9, 0), (8, 0), (8, 23), (9, 40), (8, 46), (9, 80)] {
            put_tag(&mut file, kind, ms, |_| {});
        }
        let mut looping = Loop::new(&file, None).unwrap();
        assert_eq!(looping.period(), Duration::from_millis(120));
        let times: Vec<_> = (0..10).map(|_| looping.next_tag().1.timestamp).collect();
        assert_eq!(times, [0, 0, 23, 40, 46, 80, 120, 120, 143, 160]);
    }

    #[test]
    fn refuses_an_empty_file() {
        let empty = b"FLV\x01\x05\0\0\0\x09\0\0\0\0";
        assert_eq!(Loop::new(empty, None).unwrap_err(), LoopError::Empty);
        assert!(matches!(
            Loop::new(b"<!DOCTYPE html>", None),
            Err(LoopError::Read(_))
        ));
    }
}
