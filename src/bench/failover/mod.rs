//! How long the far end of a lesson goes without anything when a link or a relay on its way fails.
//! Real processes in network namespaces; every packet between regions passes the model
//! (`longspan_lab::tun`).
//!
//! * `field`: the backbone: etcd, a controller, a relay and an edge a region, all processes.
//! * `lesson`: what is published, and what of it arrives when.
//! * `chat`: a room's messages across the same backbone.
//! * `drain`: a relay that many lessons cross is taken out of service.
//! * `guest`: another backbone in the same lab, under the same faults.
//! * `trial`: one fault, from choosing its place to its repair.

mod chat;
mod drain;
pub mod field;
mod guest;
mod lesson;
mod trial;

use std::{collections::BTreeMap, process::exit};

use longspan_lab::{
    matrix::{Matrix, Split},
    tun::space,
    world::Everywhere,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::report::{self, Distribution};
use crate::{
    failure::{Failure, Outcome},
    lab::run::enter,
};
use chat::Chat;
use field::{Field, Wanted};
use trial::Found;

/// What fails, and how often.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What happens to a link or a relay that carries the lesson
    #[arg(long, value_enum)]
    fault: Asked,
    /// Faults, one after another, each repaired before the next
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
    if args.fault == Asked::Drain && args.without_controller {
        return Err(Failure::usage(
            "--fault drain --without-controller: only a controller drains a relay",
        ));
    }
    if args.fault == Asked::Drain && args.guest.is_some() {
        return Err(Failure::usage(
            "--fault drain --guest: only our own relays are drained",
        ));
    }
    if !space::inside() {
        exit(enter()?.into());
    }
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    runtime.block_on(inside(args))
}

async fn inside(args: &Args) -> Outcome<Value> {
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let matrix = Matrix::bundled();
    let everywhere = Everywhere::named(&args.profile).map_err(Failure::usage)?;
    let regions = field::draw(&matrix, args.regions, &mut rng);
    let mut field = Field::start(Wanted {
        matrix,
        split: Split::Half,
        everywhere,
        regions: regions.clone(),
        edges: true,
        clocks: BTreeMap::new(),
        seed: args.seed,
    })
    .await?;
    let chat = Chat::start(&field, &mut rng).await?;
    if args.without_controller {
        field.stop_control();
        eprintln!("the controller and {} are stopped", field.store());
    }
    let mut sum = Sum::default();
    let mut drains = drain::Sum::default();
    for n in 1..=args.trials {
        let Some(fault) = args.fault.fault() else {
            let told = drains.add(&field, &chat, &mut rng, args.lessons).await?;
            eprintln!("{n} of {}: {told}", args.trials);
            continue;
        };
        let found = trial::run(&mut field, &chat, &mut rng, fault, args.guest.as_deref()).await?;
        eprintln!(
            "{n} of {}: {}: gap {:.0?}, way back {:.0?}, {} lost",
            args.trials, found.place, found.gap, found.backup_rtt, found.frames_lost
        );
        if let Some(guest) = &found.guest {
            eprintln!("  the guest: {guest}");
        }
        sum.add(&found);
    }
    let talk = chat.end().await?;
    let faulty = field.faulty()?;
    let mut figures = match args.fault {
        Asked::Drain => drains.json(),
        _ => sum.json(),
    };
    if let Some(command) = &args.guest {
        figures["guest"] = sum.guest.json(command);
    }
    let setting = json!({
        "fault": format!("{:?}", args.fault).to_lowercase(),
        "trials": args.trials,
        "profile": args.profile,
        "regions": regions,
        "store": field.store(),
        "without_controller": args.without_controller,
        "messages_sent": talk.sent,
        "messages_lost": talk.lost,
        "messages_repeated": talk.repeated,
        "messages_out_of_order": talk.out_of_order,
        "lab_faulty": faulty,
    });
    if let (Value::Object(figures), Value::Object(setting)) = (&mut figures, setting) {
        figures.extend(setting);
    }
    Ok(report::report(args.seed, figures))
}

/// What all trials found.
#[derive(Default)]
struct Sum {
    gap: Distribution,
    beyond: Distribution,
    detect: Distribution,
    recover: Distribution,
    frames_lost: u64,
    frames_repeated: u64,
    guest: guest::Sum,
}

impl Sum {
    fn json(&self) -> Value {
        json!({
            "gap_ms": self.gap.json(),
            "gap_minus_backup_rtt_ms": self.beyond.json(),
            "detect_ms": self.detect.json(),
            "recover_ms": self.recover.json(),
            "frames_lost": self.frames_lost,
            "frames_repeated": self.frames_repeated,
        })
    }

    fn add(&mut self, found: &Found) {
        let us = |time: std::time::Duration| time.as_micros() as u64;
        self.gap.record_us(us(found.gap));
        self.beyond
            .record_us(us(found.gap.saturating_sub(found.backup_rtt)));
        self.recover.record_us(us(found.recover));
        if let Some(detect) = found.detect {
            self.detect.record_us(us(detect));
        }
        self.frames_lost += found.frames_lost;
        self.frames_repeated += found.frames_repeated;
        if let Some(guest) = &found.guest {
            self.guest.add(guest);
        }
    }
}
