//! One fault: where, what it did to a lesson, and its repair.

use std::time::{Duration, Instant, SystemTime};

use longspan_lab::{
    wan::Profile,
    world::{Change, Effect},
};
use longspan_proto::ids::{NodeId, Region};
use rand::{Rng, RngExt, seq::IteratorRandom};

use super::{
    Fault,
    chat::Chat,
    field::{Field, Site},
    guest::{self, Guest},
    lesson::{Lesson, Seen},
};
use crate::failure::{Failure, Outcome};

/// How long a lesson runs before its fault: links know by then that they carry it, and a whole
/// group has come.
const BEFORE: Duration = Duration::from_millis(2_500);
/// How long a lesson may take to begin.
const BEGIN: Duration = Duration::from_secs(15);
/// How long the far end may go without anything before the trial counts as not healed.
const AFTER: Duration = Duration::from_secs(20);
/// Frames of each track by which it flows again.
const FLOWS: usize = 15;
/// How long after the fault, at the least, gaps are looked for: a brownout makes itself felt late.
const LEAST: Duration = Duration::from_millis(1_500);
/// How much later than a newer one a frame may come and not count as lost.
const LATE: Duration = Duration::from_secs(2);
/// Pairs of regions that are tried until one has a way on which the fault can happen.
const PAIRS: u32 = 50;
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
    /// What the node below the fault says it took to know, where it is a relay.
    pub detect: Option<Duration>,
    pub frames_lost: u64,
    pub frames_repeated: u64,
    /// What it did to the guest.
    pub guest: Option<guest::Seen>,
}

/// Where a fault happens on a way: between the nodes number `upper` and `lower`.
struct Place {
    upper: usize,
    lower: usize,
}

/// Runs one.
pub async fn run(
    field: &mut Field,
    chat: &Chat,
    rng: &mut impl Rng,
    fault: Fault,
    guest: Option<&str>,
) -> Outcome<Found> {
    let (lesson, before, place, mut guest) = begin(field, chat, rng, fault, guest).await?;
    let lower = before[place.lower].clone();
    let detected = detections(field, &lower).await;
    let (at, wall) = (Instant::now(), SystemTime::now());
    let what = strike(field, fault, &before, &place)?;
    if let Some(guest) = &mut guest {
        guest.strike(fault, &region(field, &before[place.lower - 1])?)?;
    }
    let settled = until(AFTER, || {
        at.elapsed() >= LEAST
            && lesson
                .tracks()
                .all(|seen| seen.since(at + LEAST / 2) >= FLOWS)
    })
    .await;
    if !settled {
        let why: Vec<_> = lesson
            .tracks()
            .filter_map(|s| s.ended().map(str::to_owned))
            .collect();
        return Err(Failure::failed(format!(
            "{what}: the lesson does not flow again within {AFTER:?} {why:?}"
        )));
    }
    let newest: Vec<u64> = lesson.tracks().map(|seen| seen.newest()).collect();
    let flows = Instant::now();
    let after = lesson.path();
    let detect = match (detected, detections(field, &lower).await) {
        (Some((sum, count)), Some((sum_now, count_now))) if count_now > count => Some(
            Duration::from_secs_f64(((sum_now - sum) / (count_now - count)).max(0.0)),
        ),
        _ => None,
    };
    let beside = match &guest {
        Some(guest) => Some(guest.seen(wall).await),
        None => None,
    };
    drop(guest);
    repair(field, fault, &before, &place)?;
    field.repaired().await?;
    until(AFTER, || flows.elapsed() >= LATE).await;
    let gaps: Vec<(Duration, Instant)> = lesson
        .tracks()
        .filter_map(|seen| seen.longest_gap(at))
        .collect();
    let (gap, ended) = gaps.into_iter().max().unwrap_or((Duration::ZERO, at));
    Ok(Found {
        place: what,
        gap,
        backup_rtt: field.rtt(&way_back(&before, &place, &after)),
        recover: ended.saturating_duration_since(at),
        detect,
        frames_lost: lesson
            .tracks()
            .zip(newest)
            .map(|(seen, newest)| seen.lost(newest))
            .sum(),
        frames_repeated: lesson.tracks().map(|seen| Seen::repeated(&seen)).sum(),
        guest: beside,
    })
}

/// A lesson between two regions on whose way the fault can happen, and the guest's beside it.
async fn begin(
    field: &Field,
    chat: &Chat,
    rng: &mut impl Rng,
    fault: Fault,
    guest: Option<&str>,
) -> Outcome<(Lesson, Vec<NodeId>, Place, Option<Guest>)> {
    for _ in 0..PAIRS {
        let pair: Vec<&Site> = field.sites.iter().sample(rng, 2);
        let stream = format!("s{:016x}", rng.random::<u64>());
        let lesson = Lesson::start(&stream, pair[0].node()?, pair[1].node()?)?;
        if !until(BEGIN, || lesson.one_way()).await {
            return Err(Failure::failed(format!(
                "no lesson from {} to {} within {BEGIN:?}",
                pair[0].area.region, pair[1].area.region
            )));
        }
        let began = Instant::now();
        let Some(place) = choose(&lesson.path(), chat, rng, fault) else {
            continue;
        };
        let path = lesson.path();
        let beside = match guest {
            Some(command) => Some(Guest::start(field, command, &path).await?),
            None => None,
        };
        until(BEGIN, || began.elapsed() >= BEFORE).await;
        // It may have moved meanwhile: then the place is on it no more.
        if lesson.path() == path && lesson.one_way() {
            return Ok((lesson, path, place, beside));
        }
    }
    Err(Failure::failed(format!(
        "{PAIRS} pairs of regions, and on no way between two of them can {fault:?} happen: take more --regions"
    )))
}

/// On a way of edge, relays, edge: one of its links between relays, or a relay in the middle that
/// is no room's home.
fn choose(path: &[NodeId], chat: &Chat, rng: &mut impl Rng, fault: Fault) -> Option<Place> {
    let relays = 1..path.len().checked_sub(1)?;
    match fault {
        Fault::Blackhole | Fault::Oneway | Fault::Brownout => {
            let uppers = relays.start..relays.end.checked_sub(1)?;
            let upper = uppers.choose(rng)?;
            Some(Place {
                upper,
                lower: upper + 1,
            })
        }
        Fault::Kill | Fault::Stop => {
            let middle = relays.start + 1..relays.end.checked_sub(1)?;
            let at = middle
                .filter(|at| chat.home() != Some(&path[*at]))
                .choose(rng)?;
            Some(Place {
                upper: at - 1,
                lower: at + 1,
            })
        }
    }
}

fn strike(field: &mut Field, fault: Fault, path: &[NodeId], place: &Place) -> Outcome<String> {
    let change = |profile: Profile| {
        let (from, to) = ends(field, path, place)?;
        let effect = Effect {
            profile: Some(profile),
            ..Effect::default()
        };
        Ok::<_, Failure>(Change::lay(&from, &to, effect))
    };
    let victim = &path[place.lower - 1];
    let between = format!("{} → {}", path[place.upper], path[place.lower]);
    match fault {
        Fault::Blackhole => {
            field.change(&change(Profile::blackhole())?)?;
            Ok(format!("{between} cut"))
        }
        Fault::Oneway => {
            field.change(&change(Profile::blackhole())?.one_way())?;
            Ok(format!("{between} cut one way"))
        }
        Fault::Brownout => {
            field.change(&change(Profile::brownout())?)?;
            Ok(format!("{between} browned out"))
        }
        Fault::Kill => {
            if let Some(site) = field.site_mut(victim) {
                site.kill_relay();
            }
            Ok(format!("{victim} killed"))
        }
        Fault::Stop => {
            if let Some(site) = field.site_of(victim) {
                site.relay()?.freeze().map_err(Failure::failed)?;
            }
            Ok(format!("{victim} stopped"))
        }
    }
}

fn repair(field: &mut Field, fault: Fault, path: &[NodeId], place: &Place) -> Outcome {
    let victim = &path[place.lower - 1];
    match fault {
        Fault::Blackhole | Fault::Brownout => {
            let (from, to) = ends(field, path, place)?;
            field.change(&Change::restore(&from, &to))
        }
        Fault::Oneway => {
            let (from, to) = ends(field, path, place)?;
            field.change(&Change::restore(&from, &to).one_way())
        }
        Fault::Kill => field.start_relay(victim),
        Fault::Stop => match field.site_of(victim) {
            Some(site) => site.relay()?.thaw().map_err(Failure::failed),
            None => Ok(()),
        },
    }
}

/// The hosts at both ends of a link: they are called as their regions.
fn ends(field: &Field, path: &[NodeId], place: &Place) -> Outcome<(String, String)> {
    let host = |node: &NodeId| Ok::<_, Failure>(region(field, node)?.to_string());
    Ok((host(&path[place.upper])?, host(&path[place.lower])?))
}

fn region(field: &Field, node: &NodeId) -> Outcome<Region> {
    let site = field.site_of(node);
    site.map(|site| site.area.region.clone())
        .ok_or_else(|| Failure::failed(format!("{node} is nowhere")))
}

/// Of the new way, the part from the nearest node that had the track above the fault to the first
/// node below it.
fn way_back(before: &[NodeId], place: &Place, after: &[NodeId]) -> Vec<NodeId> {
    let (above, below) = (&before[..=place.upper], &before[place.lower..]);
    let Some(to) = after.iter().position(|node| below.contains(node)) else {
        return Vec::new();
    };
    let from = after[..to].iter().rposition(|node| above.contains(node));
    after[from.unwrap_or(0)..=to].to_vec()
}

/// What a relay has counted of its failovers so far; None for an edge.
async fn detections(field: &Field, node: &NodeId) -> Option<(f64, f64)> {
    let site = field.site_of(node)?;
    if site.area.relay.id != *node {
        return None;
    }
    site.histogram("longspan_failover_detect_seconds").await
}

async fn until(bound: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + bound;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: &str) -> Vec<NodeId> {
        names
            .split(' ')
            .map(|name| NodeId::new(name).expect("a name"))
            .collect()
    }

    #[test]
    fn the_way_back_is_from_the_nearest_cache_to_whoever_lost_its_upstream() {
        let before = nodes("o a b c v");
        let cut = Place { upper: 1, lower: 2 };
        // b takes it over d from a, which still has it.
        let back = way_back(&before, &cut, &nodes("o a d b c v"));
        assert_eq!(back, nodes("a d b"));
        // c found another way all the way from the origin's edge.
        let killed = Place { upper: 1, lower: 3 };
        let back = way_back(&before, &killed, &nodes("o e c v"));
        assert_eq!(back, nodes("o e c"));
        assert!(way_back(&before, &cut, &nodes("x y")).is_empty());
    }
}
