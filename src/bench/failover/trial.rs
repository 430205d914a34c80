//! One fault: a lesson that is ready for it, what the fault did to it, and the backbone's recovery.

use std::{
    fmt,
    time::{Duration, Instant, SystemTime},
};

use longspan_proto::ids::NodeId;
use rand::{Rng, RngExt, seq::IndexedRandom};

use super::{
    Fault,
    field::{Field, bench_edge},
    guest::{self, Guest},
    lesson::{Lesson, Seen},
    place::Place,
    story,
};
use crate::failure::{Failure, Outcome};

/// How long a lesson runs before its fault: links know by then that they carry it.
const BEFORE: Duration = Duration::from_millis(1_500);
/// And for how long it has taken the same way by then: the fault shall be on it.
const STEADY: Duration = Duration::from_millis(700);
/// How long a lesson may take to begin.
const BEGIN: Duration = Duration::from_secs(15);
/// How long the far end may go without anything before the trial counts as not healed.
const AFTER: Duration = Duration::from_secs(20);
/// Frames of each track by which it flows again.
const FLOWS: usize = 15;
/// How long after the fault, at the least, gaps are looked for.
const LEAST: Duration = Duration::from_millis(1_000);
/// How much later than a newer one a frame may come and not count as lost.
const LATE: Duration = Duration::from_secs(2);
/// Lessons that are begun until one takes a way on which the fault can happen.
const LESSONS: u32 = 10;
/// A gap that exceeds the round trip of the way back by more is told step by step.
const LONG: Duration = Duration::from_millis(250);
/// By how much the way round a brownout of 80 ms may be longer.
const DETOUR: Duration = Duration::from_millis(40);
/// So long a gap after the recovery is told step by step, too.
const LATER: Duration = Duration::from_millis(150);
/// How often conditions are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What one fault did.
pub struct Found {
    /// What failed, for people.
    pub place: String,
    /// The longest time without a new frame of either track.
    pub gap: Duration,
    /// From whoever lost its upstream over the new way to the nearest node that had the track.
    pub backup_rtt: Duration,
    /// From the fault to the end of the gap.
    pub recover: Duration,
    /// From the fault until both tracks came another way.
    pub moved: Duration,
    /// What the node below the fault says it took to know, where it is a relay.
    pub detect: Option<Duration>,
    pub frames_lost: u64,
    pub frames_repeated: u64,
    /// What it did to the guest.
    pub guest: Option<guest::Seen>,
    /// Where a long gap went.
    pub story: Vec<String>,
}

/// A fault that happened, and that its lesson got over.
pub struct Struck {
    lesson: Lesson,
    newest: Vec<u64>,
    settled: Instant,
    at: Instant,
    found: Found,
}

/// A lesson that runs between two regions on whose way the fault can happen.
pub async fn prepare(field: &Field, rng: &mut impl Rng, fault: Fault) -> Outcome<Lesson> {
    let pairs = pairs(field, rng, fault)?;
    let Some(&(from, to)) = pairs.choose(rng) else {
        return Err(Failure::failed(format!(
            "on no way between two of these regions can {fault:?} happen: take more --regions"
        )));
    };
    let (from, to) = (&field.sites[from], &field.sites[to]);
    let stream = format!("s{:016x}", rng.random::<u64>());
    let lesson = Lesson::start(&stream, from.node()?, to.node()?)?;
    let began = Instant::now();
    let runs = until(BEGIN, || began.elapsed() >= BEFORE && lesson.one_way()).await;
    match runs {
        true => Ok(lesson),
        false => Err(Failure::failed(format!(
            "no lesson from {} to {} within {BEGIN:?}",
            from.area.region, to.area.region
        ))),
    }
}

/// All pairs (origin, viewer) of sites between which the tables' way has a place for the fault.
fn pairs(field: &Field, rng: &mut impl Rng, fault: Fault) -> Outcome<Vec<(usize, usize)>> {
    let mut pairs = Vec::new();
    for (from, origin) in field.sites.iter().enumerate() {
        let origin = NodeId::new(&bench_edge(&origin.area.region)).map_err(Failure::failed)?;
        for (to, viewer) in field.sites.iter().enumerate().filter(|(to, _)| *to != from) {
            let node = viewer.node()?;
            let ways = node.ways(&origin);
            // As it is told here: from the viewer's relay to the origin.
            let way = ways.first().map(|way| way.iter().rev().cloned());
            let way: Vec<NodeId> = way
                .into_iter()
                .flatten()
                .chain([node.id().clone()])
                .collect();
            if place(field, &way, rng, fault).is_some() {
                pairs.push((from, to));
            }
        }
    }
    Ok(pairs)
}

/// Where on a way the fault can happen, if anywhere. A link that degrades is left where there is a
/// clean way round that is clearly better then.
fn place(field: &Field, way: &[NodeId], rng: &mut impl Rng, fault: Fault) -> Option<Place> {
    let fit = |upper: &NodeId, lower: &NodeId| {
        let direct = field.one_way(&[upper.clone(), lower.clone()]);
        let detour = field.detour(upper, lower);
        fault != Fault::Brownout || detour.is_some_and(|detour| detour <= direct + DETOUR)
    };
    Place::choose(way, rng, fault, fit)
}

/// Strikes `ready`, or another lesson where its way does not allow the fault any more; returns once
/// it flows again, and the fault is repaired. A guest stands where our lesson is then.
pub async fn strike(
    ready: Lesson,
    field: &mut Field,
    rng: &mut impl Rng,
    fault: Fault,
    guest: Option<&str>,
) -> Outcome<Struck> {
    let mut lesson = ready;
    for _ in 0..LESSONS {
        let steady = || {
            let since = lesson.steady_since();
            lesson.one_way() && since.is_some_and(|since| since.elapsed() >= STEADY)
        };
        let steady = until(BEGIN, steady).await;
        let way = lesson.path();
        let place = place(field, &way, rng, fault);
        let beside = match guest.filter(|_| steady && place.is_some()) {
            Some(command) => Some(Guest::start(field, command, &way).await?),
            None => None,
        };
        let steady = steady && lesson.one_way() && lesson.path() == way;
        if let Some(place) = place.filter(|_| steady) {
            let struck = settle(lesson, field, &place, beside).await;
            // Whatever was found: the next trial needs it whole.
            place.repair(field)?;
            return struck;
        }
        lesson = prepare(field, rng, fault).await?;
    }
    Err(Failure::failed(format!(
        "{LESSONS} lessons were begun, and none kept a way on which {fault:?} can happen"
    )))
}

async fn settle(
    lesson: Lesson,
    field: &mut Field,
    place: &Place,
    mut guest: Option<Guest>,
) -> Outcome<Struck> {
    let detected = detections(field, place.lower()).await;
    let (at, wall) = (Instant::now(), SystemTime::now());
    let what = place.strike(field)?;
    if let Some(guest) = &mut guest {
        place.strike_guest(field, guest)?;
    }
    let flows = |seen: &Seen| seen.since(at + LEAST / 2) >= FLOWS;
    let left = || lesson.moved_at(|way| place.is_left_by(way)).is_some();
    let settled = until(AFTER, || {
        at.elapsed() >= LEAST && left() && lesson.tracks().all(|seen| flows(&seen))
    })
    .await;
    let story = || story::tell(field, lesson.stream(), at);
    if !settled {
        let ended = lesson
            .tracks()
            .filter_map(|s| s.ended().map(str::to_owned))
            .collect::<Vec<_>>();
        let what = match left() {
            true => format!("{what}: the lesson does not flow again within {AFTER:?} {ended:?}"),
            false => format!("{what}: the lesson did not move within {AFTER:?} {ended:?}"),
        };
        let weighed = story::weighed(field, place.lower(), place.origin()).await;
        return Err(Failure::failed(format!(
            "{what}; {}; {weighed}",
            story().await.join("; ")
        )));
    }
    let newest: Vec<u64> = lesson.tracks().map(|seen| seen.newest()).collect();
    let moved = lesson.moved_at(|way| place.is_left_by(way)).unwrap_or(at);
    let after = lesson.path();
    let detect = match (detected, detections(field, place.lower()).await) {
        (Some((sum, count)), Some((sum_now, count_now))) if count_now > count => Some(
            Duration::from_secs_f64(((sum_now - sum) / (count_now - count)).max(0.0)),
        ),
        _ => None,
    };
    let beside = match &guest {
        Some(guest) => Some(guest.seen(wall).await),
        None => None,
    };
    let mut struck = Struck {
        newest,
        settled: Instant::now(),
        at,
        found: Found {
            place: what,
            gap: Duration::ZERO,
            backup_rtt: field.rtt(&place.way_back(&after)),
            recover: Duration::ZERO,
            moved: moved.saturating_duration_since(at),
            detect,
            frames_lost: 0,
            frames_repeated: 0,
            guest: beside,
            story: Vec::new(),
        },
        lesson,
    };
    struck.measure();
    if struck.found.gap > struck.found.backup_rtt + LONG {
        struck.found.story = story::tell(field, struck.lesson.stream(), at).await;
    }
    Ok(struck)
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found {
            place,
            gap,
            backup_rtt,
            recover,
            moved,
            frames_lost,
            ..
        } = self;
        write!(
            f,
            "{place}: gap {gap:.0?} until {recover:.0?}, way back {backup_rtt:.0?}, moved after {moved:.0?}, {frames_lost} lost"
        )?;
        if let Some(guest) = &self.guest {
            write!(f, "\n    the guest: {guest}")?;
        }
        for step in &self.story {
            write!(f, "\n    {step}")?;
        }
        Ok(())
    }
}

impl Struck {
    /// Waits until the backbone is whole again, and for what is late.
    pub async fn finish(mut self, field: &Field) -> Outcome<Found> {
        field.repaired().await?;
        until(AFTER, || self.settled.elapsed() >= LATE).await;
        self.measure();
        let Found { gap, recover, .. } = self.found;
        // Not by the fault itself, but by what came after it.
        if self.at + recover > self.settled && gap > LATER {
            self.found.story = story::tell(field, self.lesson.stream(), self.at).await;
        }
        Ok(self.found)
    }

    fn measure(&mut self) {
        let gaps = self
            .lesson
            .tracks()
            .filter_map(|seen| seen.longest_gap(self.at));
        let (gap, ended) = gaps.max().unwrap_or((Duration::ZERO, self.at));
        self.found.gap = gap;
        self.found.recover = ended.saturating_duration_since(self.at);
        let tracks = self.lesson.tracks().zip(&self.newest);
        self.found.frames_lost = tracks.map(|(seen, newest)| seen.lost(*newest)).sum();
        let repeated = self.lesson.tracks().map(|seen| seen.repeated());
        self.found.frames_repeated = repeated.sum();
    }
}

/// What a relay has counted of its failovers so far; None for an edge.
async fn detections(field: &Field, node: &NodeId) -> Option<(f64, f64)> {
    let site = field.site_of(node)?;
    if site.area.relay.id != *node {
        return None;
    }
    site.histogram("longspan_failover_detect_seconds").await
}

pub async fn until(bound: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + bound;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}
