//! A room's members over real processes in the lab, under one fault after another: every publish,
//! ack, delivery and state is written down, and judged at the end (`longspan_lab::history`).
//!
//! * `talk`: what one member says and hears. `member`: carries it from edge to edge. `faults`: what
//!   happens meanwhile.

mod faults;
mod member;
mod talk;

use std::{
    collections::BTreeMap,
    process::exit,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant},
};

use longspan_lab::{
    history::{self, Event, Mark, Verdict, What},
    tun::space,
};
use longspan_proto::time::Time;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::{
    faults::{Fault, Kind},
    member::{Phase, Shared},
};
use super::{
    failover::field::Field,
    report::{self, Distribution},
};
use crate::{
    cli::output,
    failure::{Failure, Outcome},
    lab::run::enter,
};

/// Who talks, where, for how long, and what happens.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Members of the room, the same number in each region
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    members: u32,
    /// Regions with a relay and an edge each, drawn from the matrix by seed
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(3..=15))]
    regions: u32,
    /// How long faults come
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// From one fault to the next; each lasts 3 to 9 s
    #[arg(long, default_value = "20s", value_parser = output::duration)]
    fault_every: Duration,
    /// Messages a second that all say together
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// etcd runs all the time; else it is stopped throughout the middle half
    #[arg(long)]
    with_etcd: bool,
    /// What is laid over the links beside their delay
    #[arg(long, default_value = "internet")]
    profile: String,
    /// For regions, places of faults, what members say, losses and jitter
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const ROOM: &str = "history";
/// How long all members may take to be in.
const JOIN: Duration = Duration::from_secs(60);
/// How long all may take, once everything is repaired and nothing new is said, to have everything.
const SETTLE: Duration = Duration::from_secs(90);
/// A fault comes no sooner than this after the last one was repaired.
const REST: Duration = Duration::from_secs(3);
/// Broken laws that are printed.
const PRINTED: usize = 8;

/// Runs it; what was found, and whether every law held. Makes a space of its own first, so it is
/// called before there are threads.
pub fn run(args: &Args) -> Outcome<(Value, Outcome)> {
    if !(args.rate > 0.0 && args.rate <= 1_000.0) {
        let rate = args.rate;
        return Err(Failure::usage(format!(
            "--rate {rate}: more than 0 and at most 1000 a second"
        )));
    }
    if !(args.minutes > 0.0 && args.minutes <= 600.0) {
        let minutes = args.minutes;
        return Err(Failure::usage(format!(
            "--minutes {minutes}: more than 0 and at most 600"
        )));
    }
    if !space::is_inner() && !space::inside() {
        exit(enter()?.into());
    }
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    runtime.block_on(inside(args))
}

async fn inside(args: &Args) -> Outcome<(Value, Outcome)> {
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let began = Instant::now();
    let mut field = Field::drawn(args.regions, &args.profile, args.seed, &mut rng).await?;
    eprintln!("everything runs after {:.1?}", began.elapsed());
    let urls = field.sites.iter().map(|site| site.area.edge.http);
    let shared = Arc::new(Shared {
        began: Instant::now(),
        edges: urls
            .map(|edge| format!("ws://{edge}/rooms/{ROOM}/messages"))
            .collect(),
        every: Duration::from_secs_f64(f64::from(args.members) / args.rate),
        history: Mutex::default(),
        acked: AtomicU64::new(0),
        places: (0..args.members)
            .map(|_| member::Place::default())
            .collect(),
    });
    let (phase, phases) = watch::channel(Phase::Talk);
    let mut members = Vec::new();
    for id in 0..args.members {
        let at = id as usize % field.sites.len();
        let member = member::run(shared.clone(), id, at, rng.random(), phases.clone());
        members.push(field.sites[at].begin(member));
    }
    let everybody = args.members as usize;
    let joined = async || match shared.joined() {
        joined if joined == everybody => Ok(()),
        joined => Err(format!("{joined} of {everybody}")),
    };
    field.until(JOIN, "all members are in", joined).await?;
    let struck = strike(args, &mut field, &shared, &mut rng).await?;
    phase.send_replace(Phase::Quiet);
    field.repaired().await?;
    let settled = async || match shared.is_settled() {
        true => Ok(()),
        false => Err("some do not".to_owned()),
    };
    // Whoever does not is judged by it.
    let settled = field.until(SETTLE, "all have everything", settled).await;
    phase.send_replace(Phase::End);
    for member in members {
        member.await.map_err(Failure::failed)?;
    }
    let mut events = shared
        .history
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let mut events = std::mem::take(&mut *events);
    // Each member took the time before it waited to write down.
    events.sort_by_key(|event| event.at);
    let verdict = history::judge(&events);
    for broken in verdict.broken.iter().take(PRINTED) {
        eprintln!("{broken}");
    }
    if let Err(unsettled) = &settled {
        eprintln!("{unsettled}");
    }
    let mut figures = told(&verdict);
    let setting = json!({
        "members": args.members,
        "regions": field.regions(),
        "profile": args.profile,
        "store": field.store(),
        "settled": settled.is_ok(),
        "connections": sum(&shared, |place| &place.connections),
        "sessions_expired": sum(&shared, |place| &place.expired),
        "logs_changed": sum(&shared, |place| &place.relogged),
        "ack_ms": acks(&events).json(),
        "faults": struck.len(),
        "publishing_again_ms": again(&events, &struck),
        "seconds": report::round(began.elapsed().as_secs_f64(), 1),
        "lab_faulty": field.faulty()?,
    });
    if let (Value::Object(figures), Value::Object(setting)) = (&mut figures, setting) {
        figures.extend(setting);
    }
    let held = match (verdict.broken.first(), settled) {
        (None, Ok(())) => Ok(()),
        (Some(broken), _) => Err(Failure::failed(format!(
            "{} times a law was broken, first: {broken}",
            verdict.broken.len()
        ))),
        (None, Err(unsettled)) => Err(unsettled),
    };
    Ok((report::report(args.seed, figures), held))
}

/// A fault that was, and when.
struct Struck {
    kind: Kind,
    at: Time,
}

/// Lets faults happen until the time is over; everything is repaired then.
async fn strike(
    args: &Args,
    field: &mut Field,
    shared: &Shared,
    rng: &mut ChaCha8Rng,
) -> Outcome<Vec<Struck>> {
    let began = Instant::now();
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let mut struck: Vec<Struck> = Vec::new();
    let (mut stopped, mut started) = (args.with_etcd, args.with_etcd);
    loop {
        let elapsed = began.elapsed();
        if !stopped && elapsed >= time / 4 {
            stopped = true;
            if field.run_store(false)? {
                eprintln!("etcd is stopped");
            }
        }
        if stopped && !started && elapsed >= time * 3 / 4 {
            started = true;
            if field.run_store(true)? {
                eprintln!("etcd runs again");
            }
        }
        if elapsed >= time {
            return Ok(struck);
        }
        let next = args.fault_every * struck.len() as u32;
        tokio::time::sleep(next.saturating_sub(elapsed).max(REST)).await;
        let at = shared.now();
        let fault = Fault::strike(Kind::of(struck.len()), field, rng).await;
        let fault = match fault {
            Ok(fault) => fault,
            Err(failure) => {
                // Between two leaders, for instance.
                eprintln!("no fault: {failure}");
                continue;
            }
        };
        eprintln!(
            "{at:?} {} {} for {:.1?}",
            fault.kind.name(),
            fault.place(),
            fault.lasts
        );
        struck.push(Struck {
            kind: fault.kind,
            at: shared.now(),
        });
        tokio::time::sleep(fault.lasts).await;
        fault.repair(field)?;
    }
}

fn told(verdict: &Verdict) -> Value {
    let laws: BTreeMap<String, u64> = verdict
        .count
        .iter()
        .map(|(law, count)| (format!("{law:?}"), *count))
        .collect();
    json!({
        "messages_said": verdict.said,
        "messages_acked": verdict.acked,
        "messages_refused": verdict.refused,
        "messages_unanswered": verdict.unanswered,
        "messages_given": verdict.given,
        "messages_lost": verdict.lost(),
        "messages_repeated": verdict.repeated(),
        "messages_out_of_order": verdict.reordered(),
        "laws_broken": laws,
        "gaps": verdict.gaps,
        "behind": verdict.behind,
        "states_compared": verdict.states,
        "places_unseen": verdict.unseen,
    })
}

fn sum(shared: &Shared, of: impl Fn(&member::Place) -> &AtomicU64) -> u64 {
    let each = shared.places.iter();
    each.map(|place| of(place).load(std::sync::atomic::Ordering::Relaxed))
        .sum()
}

/// When each acked message was said, and when it was acked; in the order in which they were said.
fn answered(events: &[Event]) -> Vec<(Time, Time)> {
    let mut said: BTreeMap<Mark, Time> = BTreeMap::new();
    let mut answered = Vec::new();
    for event in events {
        match event.what {
            What::Says { mark, .. } => {
                said.insert(mark, event.at);
            }
            What::Acked { mark, .. } => {
                answered.extend(said.remove(&mark).map(|said| (said, event.at)));
            }
            _ => {}
        }
    }
    answered.sort_unstable();
    answered
}

fn acks(events: &[Event]) -> Distribution {
    let mut took = Distribution::new();
    for (said, acked) in answered(events) {
        took.record_us(acked.saturating_since(said).as_micros() as u64);
    }
    took
}

/// From a fault until the first message was acked that was said after it; by kind, and of all that
/// take the leader.
fn again(events: &[Event], struck: &[Struck]) -> BTreeMap<String, Value> {
    let answered = answered(events);
    let mut found: BTreeMap<String, Distribution> = BTreeMap::new();
    for Struck { kind, at } in struck {
        let after = answered.partition_point(|(said, _)| said < at);
        let Some(first) = answered[after..].iter().map(|(_, acked)| *acked).min() else {
            continue;
        };
        let took = first.saturating_since(*at).as_micros() as u64;
        found.entry(kind.name()).or_default().record_us(took);
        if kind.takes_the_leader() {
            let all = found.entry("leader_lost".to_owned()).or_default();
            all.record_us(took);
        }
    }
    let told = found.iter();
    told.map(|(kind, took)| (kind.clone(), took.json()))
        .collect()
}

#[cfg(test)]
mod tests {
    use longspan_proto::ids::SessionId;

    use super::*;

    #[test]
    fn publishing_is_back_with_the_first_ack_of_what_was_said_after_the_fault() {
        let at = |ms: u64| Time::from_micros(ms * 1_000);
        let mark = |n| Mark {
            session: SessionId([1; 16]),
            n,
        };
        let event = |ms, what| Event {
            at: at(ms),
            member: 1,
            what,
        };
        let says = |n| What::Says {
            mark: mark(n),
            write: None,
        };
        let acked = |n| What::Acked {
            mark: mark(n),
            seq: n,
        };
        let events = [
            event(0, says(1)),
            event(90, says(2)),
            event(120, says(3)),
            // Said before the fault at 100: says nothing of it.
            event(130, acked(2)),
            event(200, says(4)),
            event(700, acked(4)),
            event(900, acked(3)),
        ];
        let struck = [Struck {
            kind: Kind::KillLeader,
            at: at(100),
        }];
        let found = again(&events, &struck);
        let max = found["kill_leader"]["max"].as_f64().expect("a number");
        // Kept in buckets.
        assert!((max - 600.0).abs() < 1.0, "{found:?}");
        assert_eq!(found["leader_lost"]["n"], 1);
        assert_eq!(acks(&events).count(), 3);
    }
}
