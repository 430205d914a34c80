//! `longspan lab …`: faults in the emulated world of a running `up` or of a lab, and labs.

mod links;
mod nodes;

use clap::Subcommand;
use serde_json::Value;

use super::{Context, Format, output};
use crate::{failure::Outcome, lab};

/// Faults and labs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Links of the emulated world; an end is a region, a zone or a node
    #[command(subcommand)]
    Link(links::Verb),
    /// Processes of `up`'s nodes, or programs in a lab
    #[command(subcommand)]
    Node(nodes::Verb),
    Run(lab::run::Options),
    Exec(lab::exec::Options),
    Selftest(lab::selftest::Options),
    /// The first process of a lab
    #[command(hide = true)]
    Init {
        /// What it runs
        #[arg(last = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

pub fn run(verb: Verb, context: &Context) -> Outcome {
    match verb {
        Verb::Link(verb) => super::block(links::run(verb, context)),
        Verb::Node(verb) => super::block(nodes::run(verb, context)),
        Verb::Run(options) => lab::run::run(&options, context),
        Verb::Exec(options) => lab::exec::run(&options, context),
        Verb::Selftest(options) => lab::selftest::run(&options, context),
        Verb::Init { arguments } => lab::run::init(&arguments),
    }
}

/// What was done: for programs as it was answered, for people in a line.
fn done(context: &Context, answer: &Value, said: &str) -> Outcome {
    match context.format {
        Format::Json => output::json(answer),
        Format::Table => output::print(said),
    }
}
