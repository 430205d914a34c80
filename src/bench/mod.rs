//! `longspan bench`: what things cost, measured from outside on real processes.
//!
//! Each verb prints one object (`-o table|json`) with the command, the seed and the
//! machine; docs/benchmarks.md keeps the last ones.
//!
//! * `floor`, `fanout`, `chain`, `join`: the verbs.
//! * `backbone`, `child`, `spec`, `identity`: relays as processes, edges inside this one.
//! * `load`: what is sent and how it is counted. `usage`, `report`: CPU, memory, tables.

mod backbone;
mod chain;
mod child;
mod fanout;
mod floor;
mod identity;
mod join;
mod load;
mod report;
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
        Bench::Node { spec } => return spec::run(spec),
    };
    output::object(context.format, &report)
}

fn block_on(verb: impl Future<Output = Outcome<Value>>) -> Outcome<Value> {
    floor::check()?;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    runtime.block_on(verb)
}
