//! Longspan's one binary: every role, `up`, and the operator's verbs.

mod admin;
mod bench;
mod cli;
mod config;
mod failure;
mod http;
mod lab;
mod log;
mod role;
mod token;
mod up;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::parse().and_then(cli::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("longspan: {failure}");
            failure.exit_code()
        }
    }
}
