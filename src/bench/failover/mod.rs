//! How long the far end of a lesson goes without anything when a link or a relay on its way fails.
//! Real processes in network namespaces; every packet between regions passes the model
//! (`longspan_lab::tun`).
//!
//! * `field`: the backbone: etcd, a controller, a relay and an edge a region, all processes.
//! * `lesson`: what is published, and what of it arrives when.
//! * `chat`: a room's messages across the same backbone.
//! * `drain`: a relay that many lessons cross is taken out of service.
//! * `guest`: another backbone in the same lab, under the same faults.
//! * `trial`: one fault, from a lesson that is ready for it to its repair; `place`: where it
//!   happens; `story`: where a long gap went; `sum`: what all trials found.
//! * `steady`: what a lesson costs on the wire while nothing fails.
//! * `sim`: the same in the simulated backbone.

mod chat;
mod drain;
pub mod field;
mod guest;
mod lesson;
mod place;
mod sim;
mod steady;
mod story;
mod sum;
mod trial;

use std::{
    process::exit,
    time::{Duration, Instant},
};

use longspan_lab::tun::space;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::report;
use crate::{
    failure::{Failure, Outcome},
    lab::run::enter,
};
use chat::Chat;
use field::Field;
use sum::Sum;

/// What fails, and how often.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What happens to a link or a relay that carries the lesson; several, separated by commas, one
    /// after another on the same backbone
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    fault: Vec<Asked>,
    /// Faults of each kind, one after another, each repaired before the next
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    trials: u32,
    /// Regions with a relay and an edge each, drawn from the matrix by seed
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(4..=15))]
    regions: u32,
    /// What is laid over the links beside their delay
    #[arg(long, default_value = "internet")]
    profile: String,
    /// Stops the controller and etcd before the first fault
    #[arg(long)]
    without_controller: bool,
    /// In the simulated backbone: all pure cores in virtual time, on all cores of this machine
    #[arg(long)]
    sim: bool,
    /// Lessons at once, where a relay is drained; elsewhere it is one
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    lessons: u32,
    /// A program of another backbone, which stands in the same lab under the same faults; dev/peers
    /// shows one
    #[arg(long, value_name = "COMMAND")]
    guest: Option<String>,
    /// For regions, places of faults, losses and jitter
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Asked {
    /// A link loses everything in both directions
    Blackhole,
    /// A link loses everything in the direction of the lesson
    Oneway,
    /// A relay is killed with SIGKILL, and started again afterwards
    Kill,
    /// A relay is stopped with SIGSTOP, and continued afterwards
    Stop,
    /// A link takes 80 ms more, loses 15 % and carries 20 Mbit/s
    Brownout,
    /// An operator drains a relay that many lessons cross, and takes it back afterwards
    Drain,
}

impl Asked {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// None: it is no fault.
    fn fault(self) -> Option<Fault> {
        match self {
            Asked::Blackhole => Some(Fault::Blackhole),
            Asked::Oneway => Some(Fault::Oneway),
            Asked::Kill => Some(Fault::Kill),
            Asked::Stop => Some(Fault::Stop),
            Asked::Brownout => Some(Fault::Brownout),
            Asked::Drain => None,
        }
    }
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A link loses everything in both directions
    Blackhole,
    /// A link loses everything in the direction of the lesson
    Oneway,
    /// A relay is killed with SIGKILL, and started again afterwards
    Kill,
    /// A relay is stopped with SIGSTOP, and continued afterwards
    Stop,
    /// A link takes 80 ms more, loses 15 % and carries 20 Mbit/s
    Brownout,
}

/// Runs it. Makes a space of its own first, so it is called before there are threads.
pub fn run(args: &Args) -> Outcome<Value> {
    if args.sim {
        return sim::run(args);
    }
    if args.fault.contains(&Asked::Drain) && args.without_controller {
        return Err(Failure::usage(
            "--fault drain --without-controller: only a controller drains a relay",
        ));
    }
    if args.fault.contains(&Asked::Drain) && args.guest.is_some() {
        return Err(Failure::usage(
            "--fault drain --guest: only our own relays are drained",
        ));
    }
    if !space::is_inner() && !space::inside() {
        exit(enter()?.into());
    }
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    runtime.block_on(inside(args))
}

/// Trials in a row that may fail before the run ends with what it has: then the backbone is broken,
/// not a trial.
const FAILED_IN_A_ROW: u32 = 5;

async fn inside(args: &Args) -> Outcome<Value> {
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let began = Instant::now();
    let mut field = Field::drawn(args.regions, &args.profile, args.seed, &mut rng).await?;
    let chat = Chat::start(&field, &mut rng).await?;
    eprintln!("everything runs after {:.1?}", began.elapsed());
    if args.without_controller {
        field.stop_control();
        eprintln!("the controller and {} are stopped", field.store());
    }
    let steady = steady::measure(&field, &mut rng).await?;
    eprintln!("steady: {steady}");
    let mut found = serde_json::Map::new();
    for asked in &args.fault {
        let figures = match asked.fault() {
            Some(fault) => trials(args, &mut field, &mut rng, fault).await,
            None => drains(args, &field, &mut rng).await?,
        };
        found.insert(asked.name(), figures);
    }
    let talk = chat.end().await?;
    let mut figures = match args.fault.as_slice() {
        [one] => found.remove(&one.name()).unwrap_or_default(),
        _ => json!({ "faults": found }),
    };
    let names: Vec<String> = args.fault.iter().map(|fault| fault.name()).collect();
    let setting = json!({
        "fault": names.join(","),
        "profile": args.profile,
        "regions": field.regions(),
        "store": field.store(),
        "without_controller": args.without_controller,
        "steady": steady,
        "messages_sent": talk.sent,
        "messages_lost": talk.lost,
        "messages_repeated": talk.repeated,
        "messages_out_of_order": talk.out_of_order,
        "seconds": report::round(began.elapsed().as_secs_f64(), 1),
        "lab_faulty": field.faulty()?,
    });
    if let (Value::Object(figures), Value::Object(setting)) = (&mut figures, setting) {
        figures.extend(setting);
    }
    Ok(report::report(args.seed, figures))
}

async fn drains(args: &Args, field: &Field, rng: &mut ChaCha8Rng) -> Outcome<Value> {
    let mut sum = drain::Sum::default();
    for n in 1..=args.trials {
        let told = sum.add(field, rng, args.lessons).await?;
        eprintln!("{n} of {}: {told}", args.trials);
    }
    Ok(sum.json())
}

/// Trials of one fault. While the backbone heals from one the lesson of the next begins.
async fn trials(args: &Args, field: &mut Field, rng: &mut ChaCha8Rng, fault: Fault) -> Value {
    let mut sum = Sum::default();
    let (mut ready, mut failed) = (None, 0);
    let guest = args.guest.as_deref();
    let began = Instant::now();
    for n in 1..=args.trials {
        let lesson = match ready.take() {
            Some(lesson) => Ok(lesson),
            None => trial::prepare(field, rng, fault).await,
        };
        let struck = match lesson {
            Ok(lesson) => trial::strike(lesson, field, rng, fault, guest).await,
            Err(failure) => Err(failure),
        };
        let found = match struck {
            Ok(struck) if n < args.trials => {
                let next = trial::prepare(field, rng, fault);
                let (found, next) = tokio::join!(struck.finish(field), next);
                ready = next.ok();
                found
            }
            Ok(struck) => struck.finish(field).await,
            Err(failure) => Err(field.repaired().await.err().unwrap_or(failure)),
        };
        let left = began.elapsed() * (args.trials - n) / n;
        let told = match found {
            Ok(found) => {
                failed = 0;
                sum.add(&found);
                found.to_string()
            }
            Err(failure) => {
                failed += 1;
                sum.fail(&failure);
                format!("failed: {failure}")
            }
        };
        eprintln!("{n} of {}, {} left: {told}", args.trials, minutes(left));
        if failed == FAILED_IN_A_ROW {
            eprintln!("{failed} trials in a row failed: no more of {fault:?}");
            break;
        }
    }
    eprintln!("{fault:?}: {}", sum.line());
    sum.json(guest)
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}
