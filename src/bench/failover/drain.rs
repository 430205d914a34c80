//! A drain: an operator takes a relay out of service that lessons cross. What is asked of it is
//! that nobody notices: no frame is lost, and none comes later than over its new way.

use std::time::{Duration, Instant};

use longspan_proto::ids::NodeId;
use rand::{Rng, RngExt, seq::IteratorRandom};
use serde_json::{Value, json};

use super::{
    field::{Field, bench_edge},
    lesson::{Lesson, Seen},
};
use crate::{
    bench::report::Distribution,
    failure::{Failure, Outcome},
};

/// How long all lessons may take to begin.
const BEGIN: Duration = Duration::from_secs(30);
/// How long they run before the drain: a whole group has come by then.
const BEFORE: Duration = Duration::from_millis(2_500);
/// How long the relay may take to be empty, and to be in service again.
const DRAIN: Duration = Duration::from_secs(60);
/// How much later than a newer one a frame may come and not count as lost.
const LATE: Duration = Duration::from_secs(2);
/// Relays that are chosen until lessons cross one.
const CHOICES: u32 = 20;
/// A frame is late if it takes longer than its new way by more than this.
const BEYOND: Duration = Duration::from_millis(100);
/// How often the relay and the lessons are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// All drains of a run.
#[derive(Default)]
pub struct Sum {
    drained: Distribution,
    beyond: Distribution,
    /// The same before the drain, over the old way: what the machine itself adds.
    before: Distribution,
    not_drained: u32,
    lessons: usize,
    still_cross: usize,
    frames: u64,
    late: u64,
    /// The same two before the drain, by the old way.
    frames_before: u64,
    late_before: u64,
    lost: u64,
    repeated: u64,
}

impl Sum {
    /// Drains one relay that so many lessons cross, and takes the drain back.
    pub async fn add(
        &mut self,
        field: &Field,
        rng: &mut impl Rng,
        lessons: u32,
    ) -> Outcome<String> {
        field.settled().await;
        let (victim, lessons) = crossed(field, rng, lessons).await?;
        let at = Instant::now();
        for lesson in &lessons {
            for seen in lesson.tracks() {
                for beyond in seen.beyond(at - BEFORE..at, |way| field.one_way(way)) {
                    self.frames_before += 1;
                    self.late_before += u64::from(beyond > BEYOND);
                    self.before.record_us(beyond.as_micros() as u64);
                }
            }
        }
        field.operate(&victim, "drain").await?;
        let state = async || field.state_of(&victim).await;
        let drained = until(DRAIN, async || state().await == "drained").await;
        let took = at.elapsed();
        match drained {
            true => self.drained.record_us(took.as_micros() as u64),
            false => self.not_drained += 1,
        }
        let left = match drained {
            true => String::new(),
            false => format!(", left on it: {}", field.left_on(&victim).await),
        };
        let newest = |lesson: &Lesson| lesson.tracks().map(|seen| seen.newest()).collect();
        let newest: Vec<Vec<u64>> = lessons.iter().map(newest).collect();
        tokio::time::sleep(LATE).await;
        let still = lessons
            .iter()
            .filter(|l| l.path().contains(&victim))
            .count();
        let (late, lost) = (self.late, self.lost);
        for (lesson, newest) in lessons.iter().zip(newest) {
            for (seen, newest) in lesson.tracks().zip(newest) {
                self.count(field, &seen, at, newest);
            }
        }
        self.lessons += lessons.len();
        self.still_cross += still;
        let told = format!(
            "{victim}: {} after {took:.1?}{left}, {} lessons, {still} still cross it, {} frames late, {} lost",
            state().await,
            lessons.len(),
            self.late - late,
            self.lost - lost,
        );
        drop(lessons);
        field.operate(&victim, "undrain").await?;
        if !until(DRAIN, async || state().await == "up").await {
            return Err(Failure::failed(format!(
                "{victim} is {} {DRAIN:?} after its drain was taken back",
                state().await
            )));
        }
        Ok(told)
    }

    fn count(&mut self, field: &Field, seen: &Seen, drained: Instant, newest: u64) {
        for beyond in seen.beyond(drained.., |way| field.one_way(way)) {
            self.frames += 1;
            self.late += u64::from(beyond > BEYOND);
            self.beyond.record_us(beyond.as_micros() as u64);
        }
        self.lost += seen.lost(newest);
        self.repeated += seen.repeated();
    }

    /// For the report.
    pub fn json(&self) -> Value {
        json!({
            "lessons": self.lessons,
            "lessons_still_crossing": self.still_cross,
            "drained_ms": self.drained.json(),
            "not_drained": self.not_drained,
            "frames": self.frames,
            "frames_lost": self.lost,
            "frames_repeated": self.repeated,
            "frames_late": self.late,
            // What the profile and the machine alone make late.
            "frames_before": self.frames_before,
            "frames_late_before": self.late_before,
            // Each frame's delay after the drain began, without the true delay of the way it came.
            "beyond_way_ms": self.beyond.json(),
            "beyond_way_before_ms": self.before.json(),
        })
    }
}

/// A relay, and running lessons that cross it: at least half of as many as are wanted.
async fn crossed(field: &Field, rng: &mut impl Rng, count: u32) -> Outcome<(NodeId, Vec<Lesson>)> {
    let mut most = 0;
    for _ in 0..CHOICES {
        let (victim, pairs) = choose(field, rng)?;
        let lessons = begin(field, &victim, &pairs, rng, count).await?;
        // Ways may have moved since they were looked up.
        most = most.max(lessons.len());
        if lessons.len() >= count.div_ceil(2) as usize {
            return Ok((victim, lessons));
        }
    }
    Err(Failure::failed(format!(
        "{CHOICES} relays were chosen, and at most {most} of {count} lessons crossed one of them: take \
         more --regions"
    )))
}

/// A relay in the middle of some pair's way; and all pairs (origin, viewer) of
/// sites whose way it is in the middle of.
fn choose(field: &Field, rng: &mut impl Rng) -> Outcome<(NodeId, Vec<(usize, usize)>)> {
    let all = 0..field.sites.len();
    let pairs = all
        .clone()
        .flat_map(|from| all.clone().map(move |to| (from, to)));
    let mut crossed: Vec<(NodeId, (usize, usize))> = Vec::new();
    for (from, to) in pairs.filter(|(from, to)| from != to) {
        let origin = NodeId::new(&bench_edge(&field.sites[from].area.region));
        let ways = field.sites[to]
            .node()?
            .ways(&origin.map_err(Failure::failed)?);
        // The viewer's relay, those in the middle, the origin's relay, the origin.
        let Some([_, middle @ .., _, _]) = ways.first().map(Vec::as_slice) else {
            continue;
        };
        crossed.extend(middle.iter().map(|node| (node.clone(), (from, to))));
    }
    let Some((victim, _)) = crossed.iter().choose(rng) else {
        return Err(Failure::failed(
            "no way between two of these regions crosses a third: take more --regions",
        ));
    };
    let pairs = crossed.iter().filter(|(node, _)| node == victim);
    Ok((victim.clone(), pairs.map(|(_, pair)| *pair).collect()))
}

/// So many lessons between these pairs; those of them that cross the relay once they run.
async fn begin(
    field: &Field,
    victim: &NodeId,
    pairs: &[(usize, usize)],
    rng: &mut impl Rng,
    count: u32,
) -> Outcome<Vec<Lesson>> {
    let mut lessons = Vec::new();
    for &(from, to) in pairs.iter().cycle().take(count as usize) {
        let stream = format!("s{:016x}", rng.random::<u64>());
        let (from, to) = (field.sites[from].node()?, field.sites[to].node()?);
        lessons.push(Lesson::start(&stream, from, to)?);
    }
    let begun = until(BEGIN, async || lessons.iter().all(Lesson::one_way)).await;
    if !begun {
        let begun = lessons.iter().filter(|lesson| lesson.one_way()).count();
        return Err(Failure::failed(format!(
            "{begun} of {count} lessons run after {BEGIN:?}"
        )));
    }
    tokio::time::sleep(BEFORE).await;
    lessons.retain(|lesson| lesson.path().contains(victim));
    Ok(lessons)
}

async fn until(bound: Duration, mut holds: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + bound;
    while !holds().await {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}
