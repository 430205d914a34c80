//! Another backbone in the same lab, so that the same fault hits both at the same moment.
//!
//! Its program is called with one part more: `relay ADDRESS [UPSTREAM=COST]…`, `publish ADDRESS` or
//! `receive ADDRESS`. A receiver prints a line for each frame: µs since 1970 and the frame's number,
//! which rises by one. Its relays stand where ours carry the lesson, and in one more region, over
//! which the quickest other way leads.

use std::{
    collections::BTreeSet,
    fmt, fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use longspan_lab::tun::Process;
use longspan_proto::ids::{NodeId, Region};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Fault, field::Field};
use crate::{
    bench::report::Distribution,
    failure::{Failure, Outcome},
};

/// The port of its relays.
const PORT: u16 = 4443;
/// How long its lesson may take to begin.
const BEGIN: Duration = Duration::from_secs(20);
/// Frames by which it flows: two seconds of 50 a second.
const FLOWS: usize = 100;
/// How long it may take after a fault: as long as the slowest of known peers by default, and half again.
const AFTER: Duration = Duration::from_secs(30);
/// How long its programs may take to listen, one after another.
const LISTEN: Duration = Duration::from_millis(500);
/// How often its receiver's lines are read.
const LOOK: Duration = Duration::from_millis(50);

/// It, beside one lesson of ours.
pub struct Guest {
    relays: Vec<(Region, Process)>,
    received: PathBuf,
    _ends: [Process; 2],
    _folder: TempDir,
}

/// What the fault did to it.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// The longest time without a new frame; None where none came any more.
    pub gap: Option<Duration>,
    pub lost: u64,
    pub repeated: u64,
}

impl Guest {
    /// Starts it along the relays of `path` (edge, relays, edge), and waits until its lesson flows.
    pub async fn start(field: &Field, command: &str, path: &[NodeId]) -> Outcome<Guest> {
        let mut way: Vec<Region> = path
            .iter()
            .filter_map(|node| Some(field.site_of(node)?.area.region.clone()))
            .collect();
        way.dedup();
        let other = detour(field, &way)
            .ok_or_else(|| Failure::failed("no region is left for the guest's other way"))?;
        let folder = tempfile::tempdir().map_err(Failure::failed)?;
        let at = |region: &Region| {
            let site = field.site_in(region)?;
            Ok::<_, Failure>(SocketAddr::new(site.area.relay.quic.ip(), PORT))
        };
        let run = async |region: &Region, part: &str, arguments: &[String]| {
            let mut words = command.split_whitespace();
            let program = words
                .next()
                .ok_or_else(|| Failure::usage("--guest: no command"))?;
            let mut command = Command::new(program);
            command.args(words).arg(part).args(arguments);
            let log = folder.path().join(format!("{part}-{region}"));
            let process = field.site_in(region)?.spawn(command, &log)?;
            tokio::time::sleep(LISTEN).await;
            if process.ended().map_err(Failure::failed)?.is_some() {
                let why = fs::read_to_string(&log).unwrap_or_default();
                return Err(Failure::failed(format!(
                    "the guest's {part} in {region}: {}",
                    why.trim()
                )));
            }
            Ok((region.clone(), process))
        };
        let mut relays = Vec::new();
        let (first, last) = (&way[0], &way[way.len() - 1]);
        relays.push(run(first, "relay", &[at(first)?.to_string()]).await?);
        let pull = |from: &Region, cost: u8| Ok::<_, Failure>(format!("{}={cost}", at(from)?));
        relays.push(run(&other, "relay", &[at(&other)?.to_string(), pull(first, 1)?]).await?);
        for pair in way.windows(2) {
            let mut arguments = vec![at(&pair[1])?.to_string(), pull(&pair[0], 1)?];
            if pair[1] == *last {
                arguments.push(pull(&other, 20)?);
            }
            relays.push(run(&pair[1], "relay", &arguments).await?);
        }
        let (_, publisher) = run(first, "publish", &[at(first)?.to_string()]).await?;
        let (_, receiver) = run(last, "receive", &[at(last)?.to_string()]).await?;
        let guest = Guest {
            relays,
            received: folder.path().join(format!("receive-{last}")),
            _ends: [publisher, receiver],
            _folder: folder,
        };
        let begun = Instant::now();
        while guest.frames().len() < FLOWS {
            if begun.elapsed() > BEGIN {
                let why = fs::read_to_string(&guest.received).unwrap_or_default();
                return Err(Failure::failed(format!(
                    "no lesson of the guest's from {first} to {last} within {BEGIN:?} {}",
                    why.lines().next_back().unwrap_or_default()
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(guest)
    }

    /// Does to its relay in a region what is done to ours there.
    pub fn strike(&mut self, fault: Fault, region: &Region) -> Outcome {
        let found = self.relays.iter().position(|(at, _)| at == region);
        let Some(found) = found else { return Ok(()) };
        match fault {
            Fault::Kill => drop(self.relays.swap_remove(found)),
            Fault::Stop => self.relays[found].1.freeze().map_err(Failure::failed)?,
            // The link is shared.
            Fault::Blackhole | Fault::Oneway | Fault::Brownout => {}
        }
        Ok(())
    }

    /// Waits until it flows again after a fault `at`, and tells what that took.
    pub async fn seen(&self, at: SystemTime) -> Seen {
        let since = Instant::now();
        let newer = |frames: &[(u64, u64)]| {
            let flows = at + FLOW_AFTER;
            frames.iter().filter(|(us, _)| *us > micros(flows)).count()
        };
        while since.elapsed() < AFTER && newer(&self.frames()) < FLOWS {
            tokio::time::sleep(LOOK).await;
        }
        let frames = self.frames();
        judge(&frames, micros(at), newer(&frames) >= FLOWS)
    }

    fn frames(&self) -> Vec<(u64, u64)> {
        let text = fs::read_to_string(&self.received).unwrap_or_default();
        let line = |line: &str| {
            let (at, n) = line.split_once(' ')?;
            Some((at.parse().ok()?, n.parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }
}

/// Frames are counted as flowing from so long after the fault: what was on the way has come by then.
const FLOW_AFTER: Duration = Duration::from_millis(1_000);

/// Times are µs since 1970.
fn judge(frames: &[(u64, u64)], at: u64, flows: bool) -> Seen {
    let mut have = BTreeSet::new();
    let (mut last, mut gap, mut repeated) = (None, 0, 0);
    for (us, n) in frames {
        if !have.insert(*n) {
            repeated += 1;
            continue;
        }
        if let Some(last) = last.replace(*us)
            && *us > at
        {
            gap = gap.max(us - last);
        }
    }
    // What comes after the last hole may still be on its way.
    let lost = match (have.first(), have.last()) {
        (Some(first), Some(newest)) => newest - first + 1 - have.len() as u64,
        _ => 0,
    };
    Seen {
        gap: flows.then_some(Duration::from_micros(gap)),
        lost,
        repeated,
    }
}

/// The region over which it is quickest from the first to the last, beside those on the way.
fn detour(field: &Field, way: &[Region]) -> Option<Region> {
    let (first, last) = (way.first()?, way.last()?);
    let others = field.sites.iter().map(|site| &site.area.region);
    others
        .filter(|region| !way.contains(region))
        .min_by_key(|region| field.between(first, region) + field.between(region, last))
        .cloned()
}

fn micros(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Of all trials.
#[derive(Default)]
pub struct Sum {
    gap: Distribution,
    not_healed: u32,
    lost: u64,
    repeated: u64,
}

impl Sum {
    pub fn add(&mut self, seen: &Seen) {
        match seen.gap {
            Some(gap) => self.gap.record_us(gap.as_micros() as u64),
            None => self.not_healed += 1,
        }
        self.lost += seen.lost;
        self.repeated += seen.repeated;
    }

    pub fn json(&self, command: &str) -> Value {
        json!({
            "command": command,
            "gap_ms": self.gap.json(),
            "not_healed": self.not_healed,
            "frames_lost": self.lost,
            "frames_repeated": self.repeated,
        })
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gap {
            Some(gap) => write!(f, "gap {gap:.0?}, ")?,
            None => write!(f, "not healed within {AFTER:?}, ")?,
        }
        write!(f, "{} lost, {} repeated", self.lost, self.repeated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_from_the_last_frame_before_the_fault_and_holes_are_lost() {
        let frames = [(0, 7), (20, 8), (40, 9), (940, 11), (941, 8), (960, 12)];
        let seen = judge(&frames, 50, true);
        assert_eq!(seen.gap, Some(Duration::from_micros(900)));
        assert_eq!((seen.lost, seen.repeated), (1, 1));
        assert_eq!(judge(&frames, 950, false).gap, None);
        assert_eq!(
            judge(&frames, 950, true).gap,
            Some(Duration::from_micros(20))
        );
    }
}
