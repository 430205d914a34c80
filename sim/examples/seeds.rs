//! Plays seeds of the simulation, and prints what they took.
//!
//! ```text
//! cargo run --release -p longspan-sim --example seeds -- big 1        # 200 relays, 1,000 rooms, an hour
//! cargo run -p longspan-sim --example seeds -- backbone 50            # seeds 0 to 49
//! cargo run --release -p longspan-sim --example seeds -- mesh 20      # 80 relays, 5 minutes
//! cargo run -p longspan-sim --example seeds -- forwarding 200 1000    # seeds 1000 to 1199
//! ```
//!
//! With `SIM_TRACE` set it tells what happens, from that second of each seed on. Exits with 1 at the first law that is broken, with 2 where it is used wrongly.

use std::{
    cell::Cell,
    process::ExitCode,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use longspan_sim::{Plan, Size, TRACE, run_watched};

/// A seed that takes longer tells so often how far it is, on stderr.
const TELL_EVERY: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let trace = std::env::var("SIM_TRACE").ok();
    let trace = trace.map(|from| Duration::from_secs(from.parse().unwrap_or(0)));
    let words: Vec<String> = std::env::args().skip(1).collect();
    let size = match words.first().map(String::as_str) {
        Some("forwarding") => Size::Forwarding,
        Some("backbone") => Size::SMALL,
        Some("mesh") => Size::MESH,
        Some("big") => Size::BIG,
        _ => return wrong(),
    };
    let number = |at: usize, usual: u64| words.get(at).map_or(Ok(usual), |word| word.parse());
    let (Ok(count), Ok(first)) = (number(1, 1), number(2, 0)) else {
        return wrong();
    };
    let began = Instant::now();
    for seed in first..first + count {
        let plan = Plan::draw(seed, size);
        let began = Instant::now();
        let told = Cell::new(began);
        let trace_at = |passed: Duration| {
            let tells = trace.is_some_and(|from| passed >= from);
            TRACE.store(tells, Ordering::Relaxed);
        };
        // From the beginning also while the world settles.
        trace_at(Duration::ZERO);
        let watch = |passed: Duration| {
            trace_at(passed);
            if told.get().elapsed() >= TELL_EVERY {
                told.set(Instant::now());
                let took = began.elapsed().as_secs_f64();
                eprintln!("seed {seed}: {} s played in {took:.0} s", passed.as_secs());
            }
        };
        match run_watched(&plan, &watch) {
            Ok(outcome) => println!(
                "seed {seed}: {} events, {} frames seen, {} false downs, {} paths moved, {:.1} s, digest {:016x}",
                outcome.events,
                outcome.frames,
                outcome.false_downs,
                outcome.switches,
                began.elapsed().as_secs_f64(),
                outcome.hash
            ),
            Err(failure) => {
                println!(
                    "seed {seed}: {}: after {:?}: {}",
                    failure.law, failure.at, failure.why
                );
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{count} seeds in {:.1} s", began.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

fn wrong() -> ExitCode {
    eprintln!("usage: seeds forwarding|backbone|mesh|big [COUNT [FIRST]]");
    ExitCode::from(2)
}
