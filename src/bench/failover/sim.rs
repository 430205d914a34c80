//! The same faults in the simulated backbone (`longspan-sim`): all pure cores in virtual time.

use std::{
    cmp::Reverse,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use longspan_lab::wan::Profile;
use longspan_sim::failover::{self, Found, Series, Verdicts, verdicts};
use longspan_topology::link::Need;
use serde_json::{Value, json};

use super::{Args, Fault};
use crate::{
    bench::report,
    failure::{Failure, Outcome},
};

/// Faults in one world; then another one is drawn.
const SERIES: u32 = 20;
/// Trials whose story is told.
const SLOWEST: usize = 5;
/// How long a brownout stands while moves are counted.
const STANDING: Duration = Duration::from_secs(3_600);
/// Links that are watched for false verdicts, and for how long each.
const WATCHED: u64 = 8;
const WATCHED_HOURS: f64 = 13.0;
/// One way of a watched link: half of Beijing – Singapore.
const WATCHED_ONE_WAY: Duration = Duration::from_millis(119);

/// Runs it, on all cores.
pub fn run(args: &Args) -> Outcome<Value> {
    let profile = Profile::named(&args.profile).map_err(Failure::usage)?;
    if args.profile == "china-inbound" {
        let why = "china-inbound lies over one direction of some links; with --sim take internet or clean";
        return Err(Failure::usage(why));
    }
    let faults: Option<Vec<Fault>> = args.fault.iter().map(|asked| asked.fault()).collect();
    let Some(faults) = faults else {
        return Err(Failure::usage(
            "--sim knows faults only; drain runs on real processes",
        ));
    };
    let began = Instant::now();
    let mut figures = serde_json::Map::new();
    for (asked, fault) in args.fault.iter().zip(faults) {
        let mut told = summed(&trials(args, fault, &profile));
        if fault == Fault::Brownout {
            told["moves_per_hour"] = json!(standing(args, fault, &profile)?);
        }
        figures.insert(asked.name(), told);
    }
    let mut report = json!({
        "sim": true,
        "profile": args.profile,
        "regions": args.regions,
        "without_controller": args.without_controller,
        "faults": figures,
    });
    report["false_downs"] = false_downs(args.seed);
    report["wall_s"] = json!(report::round(began.elapsed().as_secs_f64(), 1));
    Ok(report::report(args.seed, report))
}

fn trials(args: &Args, fault: Fault, profile: &Profile) -> Vec<Found> {
    let (next, found) = (AtomicU32::new(0), Mutex::new(Vec::new()));
    let worlds = args.trials.div_ceil(SERIES);
    on_all_cores(|| {
        loop {
            let world = next.fetch_add(1, Ordering::Relaxed);
            if world >= worlds {
                return;
            }
            let trials = SERIES.min(args.trials - world * SERIES);
            let mut series = begin(args, fault, profile, u64::from(world));
            for _ in 0..trials {
                // A drawn world may have no way long enough: the next one may.
                let Some(trial) = series.trial() else { break };
                found
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(trial);
            }
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn begin(args: &Args, fault: Fault, profile: &Profile, world: u64) -> Series {
    let fault = match fault {
        Fault::Blackhole => failover::Fault::Blackhole,
        Fault::Oneway => failover::Fault::OneWay,
        Fault::Kill => failover::Fault::Kill,
        Fault::Stop => failover::Fault::Stop,
        Fault::Brownout => failover::Fault::Brownout,
    };
    let seed = args.seed.wrapping_mul(1_000_003).wrapping_add(world);
    let mut series = Series::new(seed, args.regions as usize, profile, fault);
    if args.without_controller {
        series.without_control();
    }
    series
}

fn summed(found: &[Found]) -> Value {
    let [mut gap, mut gap_beyond, mut later_gap, mut moved] =
        [(); 4].map(|()| report::Distribution::new());
    let mut frames_lost = 0;
    let us = |time: Duration| time.as_micros() as u64;
    let mut slowest: Vec<&Found> = found.iter().collect();
    slowest.sort_by_key(|trial| Reverse(beyond(trial)));
    for trial in found {
        gap.record_us(us(trial.gap));
        gap_beyond.record_us(us(beyond(trial)));
        later_gap.record_us(us(trial.later_gap));
        if let Some(after) = trial.moved {
            moved.record_us(us(after));
        }
        frames_lost += trial.frames_lost;
    }
    let bytes = |n: usize| found.iter().map(|trial| trial.bytes[n]).sum::<u64>() as f64;
    let moves: Vec<u64> = found.iter().map(|trial| trial.moves).collect();
    json!({
        "trials": found.len(),
        "gap_ms": gap.json(),
        "gap_minus_backup_rtt_ms": gap_beyond.json(),
        "later_gap_ms": later_gap.json(),
        "moved_ms": moved.json(),
        "not_moved": found.iter().filter(|trial| trial.moved.is_none()).count(),
        "moves_max": moves.iter().max(),
        "frames_lost": frames_lost,
        "trials_with_loss": found.iter().filter(|trial| trial.frames_lost > 0).count(),
        "bytes_over_single_path": report::round(bytes(0) / bytes(1), 3),
        "slowest": slowest.iter().take(SLOWEST).map(story).collect::<Vec<_>>(),
    })
}

fn beyond(trial: &Found) -> Duration {
    trial.gap.saturating_sub(trial.backup_rtt)
}

/// Where a long gap went.
fn story(trial: &&Found) -> Value {
    json!({
        "place": trial.place,
        "way": trial.way,
        "gap_ms": trial.gap.as_millis() as u64,
        "gap_began_ms": trial.gap_began_ms,
        "later_gap_ms": trial.later_gap.as_millis() as u64,
        "way_back_ms": trial.backup_rtt.as_millis() as u64,
        "moved_ms": trial.moved.map(|moved| moved.as_millis() as u64),
        "story": trial.story,
    })
}

/// How often the way moves in an hour of the fault.
fn standing(args: &Args, fault: Fault, profile: &Profile) -> Outcome<u64> {
    // Of the first worlds one has a way on which it can happen.
    let mut worlds = 0..20;
    let moves = worlds.find_map(|world| begin(args, fault, profile, world).moves_within(STANDING));
    moves.ok_or_else(|| Failure::failed("no world has a way of two relays: take more --regions"))
}

/// Verdicts on links that never fail.
fn false_downs(seed: u64) -> Value {
    let internet = [Profile::internet(), Profile::internet()];
    let inbound = [Profile::china_inbound(), Profile::internet()];
    let cases = [
        ("internet", &internet, Need::Idle),
        ("internet_carrying", &internet, Need::Carrying),
        ("china_inbound", &inbound, Need::Idle),
        ("china_inbound_carrying", &inbound, Need::Carrying),
    ];
    let jobs: Vec<(usize, u64)> = (0..cases.len())
        .flat_map(|case| (0..WATCHED).map(move |link| (case, link)))
        .collect();
    let (next, found) = (AtomicU32::new(0), Mutex::new(Vec::new()));
    on_all_cores(|| {
        while let Some((case, link)) = jobs.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            let (_, profiles, need) = &cases[*case];
            let seed = seed.wrapping_mul(31).wrapping_add(*link);
            let seen = verdicts(
                seed,
                WATCHED_ONE_WAY,
                (*profiles).clone(),
                *need,
                WATCHED_HOURS,
            );
            found
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((*case, seen));
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let sum = |case: usize| {
        let mut all = Verdicts::default();
        for (_, seen) in found.iter().filter(|(of, _)| *of == case) {
            all.end_hours += seen.end_hours;
            all.suspected += seen.suspected;
            all.down += seen.down;
        }
        let hours = all.end_hours / 2.0;
        json!({
            "link_hours": hours,
            "per_link_hour": report::round(all.down as f64 / hours, 4),
            "suspicions_per_link_hour": report::round(all.suspected as f64 / hours, 2),
        })
    };
    let named = cases.iter().enumerate();
    Value::Object(
        named
            .map(|(at, (name, ..))| ((*name).to_owned(), sum(at)))
            .collect(),
    )
}

fn on_all_cores(work: impl Fn() + Sync) {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(&work);
        }
    });
}
