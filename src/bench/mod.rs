//! `longspan bench`: what things cost, measured from outside on real processes.
//!
//! Each verb prints one object (`-o table|json`) with the command, the seed and the
//! machine; docs/benchmarks.md keeps the last ones.
//!
//! * `floor`, `fanout`, `chain`, `join`, `lessons`, `failover`, `edge_lost`, `history`, `log`, `routes`,
//!   `overlay`: the verbs.
//! * `backbone`, `child`, `spec`, `identity`: relays as processes, edges inside this one.
//! * `load`: what is sent and how it is counted. `usage`, `report`: CPU, memory, tables. `disk`: what a
//!   sync takes.

mod backbone;
mod chain;
mod child;
mod disk;
mod edge_lost;
mod failover;
mod fanout;
mod floor;
mod history;
mod identity;
mod join;
mod lessons;
mod load;
mod log;
mod overlay;
mod report;
mod routes;
mod spec;
pub mod usage;

use std::path::PathBuf;

use serde_json::Value;

use crate::{
    cli::{Context, output},
    failure::{Failure, Outcome},
};

/// The verbs.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Bench {
    /// The least that any forwarder pays here: sealed datagrams, or TCP writes
    Floor(floor::Args),
    /// One publisher, many receivers, one relay: CPU of a delivered frame, latency, memory
    Fanout(fanout::Args),
    /// What each further relay on the way adds
    Chain(chain::Args),
    /// From subscribing to the newest key frame, at a cold and at a warm edge
    Join(join::Args),
    /// A viewer's or a publisher's edge is lost: how long until it goes on at another
    EdgeLost(edge_lost::Args),
    /// How long a lesson's far end sees nothing when a link or a relay on its way fails
    Failover(failover::Args),
    /// A room's members under faults for minutes: what of their messages is lost, repeated, out of order
    History(history::Args),
    /// Lessons over one long link, under each congestion controller
    Lessons(lessons::Args),
    /// One room with many members over several edges: acks, deliveries, joins, CPU and memory
    Log(log::Args),
    /// Computing all paths, and those that one link's change touches
    Routes(routes::Args),
    /// How long paths between regions take, direct, over the overlay, and at best
    Overlay(overlay::Args),
    /// A node as a bench starts it
    #[command(hide = true)]
    Node {
        /// What it is told.
        #[arg(long)]
        spec: PathBuf,
    },
}

/// Runs a verb and prints what it found.
pub fn run(bench: &Bench, context: &Context) -> Outcome {
    let report = match bench {
        Bench::Floor(args) => floor::run(args)?,
        Bench::Fanout(args) => block_on(fanout::run(args))?,
        Bench::Chain(args) => block_on(chain::run(args))?,
        Bench::Join(args) => block_on(join::run(args))?,
        Bench::EdgeLost(args) => block_on(edge_lost::run(args))?,
        Bench::Failover(args) => failover::run(args)?,
        Bench::History(args) => {
            let (report, held) = history::run(args)?;
            output::object(context.format, &report)?;
            return held;
        }
        Bench::Lessons(args) => block_on(lessons::run(args))?,
        Bench::Log(args) => block_on(log::run(args))?,
        Bench::Routes(args) => routes::run(args),
        Bench::Overlay(args) => return overlay::print(&overlay::run(args)?, context.format),
        Bench::Node { spec } => return spec::run(spec),
    };
    output::object(context.format, &report)
}

fn block_on(verb: impl Future<Output = Outcome<Value>>) -> Outcome<Value> {
    floor::check()?;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    runtime.block_on(verb)
}
