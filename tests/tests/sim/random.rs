//! Plans drawn from seeds: whatever happens, the laws hold.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use longspan_sim::{Op, Plan, Size, TRACE, What, run, shrink};

/// Seeds that every run plays: small worlds, tables by hand.
const FORWARDING_SEEDS: u64 = 200;
/// Seeds that every run plays: 24 relays, 40 rooms, three minutes, 20 faults.
const BACKBONE_SEEDS: u64 = 50;
/// A failing plan is played so often again to be shrunk.
const SHRINKING: usize = 60;

fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

/// Plays these seeds, `SIM_SEEDS` of them from `SIM_FIRST` where that is asked, on all cores; or only
/// `SIM_SEED`.
fn seeds(size: Size, count: u64) {
    if let Some(seed) = asked("SIM_SEED") {
        return one(seed, size);
    }
    let first = asked("SIM_FIRST").unwrap_or(0);
    let last = first + asked("SIM_SEEDS").unwrap_or(count);
    let next = AtomicU64::new(first);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let failed = thread::scope(|scope| {
        let worker = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= last {
                    return None;
                }
                let plan = Plan::draw(seed, size);
                if let Err(failure) = run(&plan) {
                    next.store(last, Ordering::Relaxed);
                    return Some((plan, failure));
                }
            }
        };
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let ended = workers.into_iter().map(|w| w.join().expect("a worker"));
        ended.flatten().next()
    });
    if let Some((plan, failure)) = failed {
        fail(&plan, failure);
    }
}

fn fail(plan: &Plan, failure: longspan_sim::Failure) -> ! {
    // Whoever only asks whether it fails need not know the shortest way there.
    let runs = asked("SIM_SHRINK").map_or(SHRINKING, |runs| runs as usize);
    let (plan, failure) = shrink(plan, &failure, runs);
    panic!(
        "seed {}: after {:?} the law is broken: {}: {}\nagain: {plan}",
        plan.seed, failure.at, failure.law, failure.why
    );
}

/// One seed, with `SIM_OPS` in place of its own operations; with `SIM_TRACE` it tells what happens.
fn one(seed: u64, size: Size) {
    TRACE.store(std::env::var_os("SIM_TRACE").is_some(), Ordering::Relaxed);
    let mut plan = Plan::draw(seed, size);
    if let Ok(ops) = std::env::var("SIM_OPS") {
        let ops = ops.split(';').filter(|op| !op.trim().is_empty());
        let ops: Result<Vec<Op>, _> = ops.map(str::parse).collect();
        plan.ops = ops.unwrap_or_else(|why| panic!("SIM_OPS: {why}"));
    }
    let began = Instant::now();
    match run(&plan) {
        Ok(outcome) => println!("{outcome:?} in {:?}", began.elapsed()),
        Err(failure) => fail(&plan, failure),
    }
}

#[test]
fn forwarding_keeps_the_laws_whatever_happens() {
    seeds(Size::Forwarding, FORWARDING_SEEDS);
}

#[test]
fn the_backbone_keeps_the_laws_whatever_happens() {
    seeds(Size::SMALL, BACKBONE_SEEDS);
}

/// A plan in which nobody controls for ten minutes: every controller and the store are gone from the
/// fourth second on, and the other faults go on.
fn without_control(seed: u64) -> Plan {
    const MINUTES: Duration = Duration::from_secs(600);
    let size = Size::Backbone {
        relays: 12,
        edges: 8,
        rooms: 20,
        seconds: 600,
        faults: 40,
    };
    let mut plan = Plan::draw(seed, size);
    let control = [
        What::KillController,
        What::StopController,
        What::LoseStore,
        // A new publisher needs a controller (WIRE.md: generations).
        What::Publish,
    ];
    plan.ops.retain(|op| !control.contains(&op.what));
    let gone = [
        (What::LoseStore, 0),
        (What::KillController, 0),
        (What::KillController, 1),
    ];
    plan.ops.extend(gone.map(|(what, a)| Op {
        at: Duration::from_secs(4),
        for_: MINUTES,
        what,
        a,
        b: 0,
    }));
    plan.ops.sort_by_key(|op| op.at);
    plan
}

#[test]
fn rooms_live_through_faults_for_ten_minutes_without_any_controller_and_store() {
    for seed in 0..3 {
        let plan = without_control(seed);
        match run(&plan) {
            Ok(outcome) => assert!(outcome.frames > 10_000, "{outcome:?}"),
            Err(failure) => panic!(
                "seed {seed}: after {:?} the law is broken: {}: {}\n{plan:?}",
                failure.at, failure.law, failure.why
            ),
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let backbone = Size::Backbone {
        relays: 8,
        edges: 6,
        rooms: 10,
        seconds: 60,
        faults: 10,
    };
    for size in [Size::Forwarding, backbone] {
        let plan = Plan::draw(7, size);
        let runs = [run(&plan), run(&plan)].map(|run| run.expect("no law is broken"));
        assert_eq!(runs[0], runs[1]);
        let other = run(&Plan::draw(8, size)).expect("no law is broken");
        assert_ne!(runs[0].hash, other.hash);
    }
}
