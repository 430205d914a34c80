//! `longspan lab exec`: a command in a host of a running lab, from inside it or from outside.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, exit},
};

use longspan_lab::tun::space;
use serde_json::Value;
use tokio::runtime;

use super::run::{SOCKET, folder};
use crate::{
    cli::Context,
    failure::{Failure, Outcome, hint},
};

/// Runs a command in a host of a running lab
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The host
    host: String,
    /// What runs there
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Does not return where the command could be started.
pub fn run(options: &Options, context: &Context) -> Outcome {
    // On this thread alone: a process with others may not change its namespaces.
    let asking = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let hosts = asking.block_on(async { context.lab()?.get("/hosts").await })?;
    drop(asking);
    let hosts = hosts.as_array().cloned().unwrap_or_default();
    let name = |host: &Value| host["host"].as_str().unwrap_or_default().to_owned();
    let host = hosts.iter().find(|host| name(host) == options.host);
    let namespace = host.and_then(|host| host["namespace"].as_str());
    let Some(namespace) = namespace else {
        let names: Vec<String> = hosts.iter().map(name).collect();
        let near = hint(&options.host, names.iter().map(String::as_str));
        return Err(Failure::not_found(format!(
            "no host {}{near}; there are {}",
            options.host,
            names.join(", ")
        )));
    };
    let mut command = Command::new(&options.command[0]);
    command.args(&options.command[1..]);
    let failed = |error: std::io::Error| {
        Failure::failed(format!(
            "cannot start {} there: {error}",
            options.command[0]
        ))
    };
    if space::inside() {
        space::join_host(Path::new(namespace)).map_err(Failure::failed)?;
        return Err(failed(command.exec()));
    }
    let folder = folder(context)?;
    let outer = outer(&folder)?;
    space::join(outer, Path::new(namespace)).map_err(Failure::failed)?;
    let status = command
        .env(SOCKET, super::run::socket(&folder))
        .status()
        .map_err(failed)?;
    exit(space::code(status).into())
}

/// The process that holds the lab's folder.
fn outer(folder: &Path) -> Outcome<u32> {
    let read =
        || -> std::io::Result<String> { std::io::read_to_string(File::open(folder.join("lock"))?) };
    let pid = read().ok().and_then(|text| text.trim().parse().ok());
    pid.ok_or_else(|| Failure::failed(format!("no longspan lab runs in {}", folder.display())))
}
