//! One process: a relay, an edge or a controller by its configuration, until it is told to stop.

mod controller;
mod edge;
mod node;
mod relay;
mod signals;

pub use signals::{Signal, Signals};

use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{Admin, Debug, Ready},
    config::{Document, Role},
    failure::{Failure, Outcome},
    log::{self, Filter},
};

/// What every role is started with.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The configuration (TOML); `longspan config schema` lists its keys
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Sets one key, over file and environment
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Stops when its standard input ends: how `up`'s nodes die with it, whatever kills it
    #[arg(long, hide = true)]
    pub with_parent: bool,
}

/// A role that has its ports.
pub struct Bound {
    /// What it does, until its token is cancelled.
    pub run: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    /// For `/readyz`.
    pub ready: Ready,
    /// For `/debug/state`.
    pub debug: Debug,
    /// Takes what a SIGHUP may change.
    pub reload: Reload,
}

/// Takes the reloadable part of a new configuration; `Err` keeps the old one.
pub type Reload = Box<dyn Fn(&Document) -> Outcome + Send + Sync>;

/// Runs a role until it is told to stop.
pub fn run(role: Role, options: &Options) -> Outcome {
    let document = Document::load(&options.config, Some(role), &options.set)?;
    Runtime::new()
        .map_err(Failure::failed)?
        .block_on(serve(document, options))
}

async fn serve(document: Document, options: &Options) -> Outcome {
    let shutdown = CancellationToken::new();
    let role = document.role();
    let (log, admin) = match role {
        Role::Relay => {
            let config: crate::config::Relay = document.parse()?;
            (config.log, config.admin)
        }
        Role::Edge => {
            let config: crate::config::Edge = document.parse()?;
            (config.relay.log, config.relay.admin)
        }
        Role::Controller => {
            let config: crate::config::Controller = document.parse()?;
            (config.log, config.admin)
        }
    };
    let filter = log::init(&log)?;
    let admin = Admin::bind(admin.listen, role).await?;
    let url = admin.url();
    let bound = match role {
        Role::Relay => relay::bind(document.parse()?, url, shutdown.clone()).await?,
        Role::Edge => edge::bind(document.parse()?, url, shutdown.clone()).await?,
        Role::Controller => controller::bind(document.parse()?, shutdown.clone()).await?,
    };
    // The admin listener ends last: a process that drains says so until it is gone.
    let admin_stop = CancellationToken::new();
    let admin = tokio::spawn(admin.run(bound.ready, bound.debug, admin_stop.clone()));
    tracing::info!(%role, version = env!("CARGO_PKG_VERSION"), "started");
    let mut running = tokio::spawn(bound.run);
    let mut current = document;
    let mut signals = Signals::new(options.with_parent)?;
    let stopped = loop {
        tokio::select! {
            ended = &mut running => break ended,
            signal = signals.next() => match signal {
                Signal::Reload => {
                    reload(&mut current, options, &filter, &bound.reload);
                }
                Signal::Stop if shutdown.is_cancelled() => {
                    return Err(Failure::failed("stopped at once, at the second signal"));
                }
                Signal::Stop => {
                    tracing::info!("stopping");
                    shutdown.cancel();
                }
            },
        }
    };
    admin_stop.cancel();
    let _ = admin.await;
    match stopped {
        Ok(()) if shutdown.is_cancelled() => Ok(()),
        Ok(()) => Err(Failure::failed(format!(
            "the {role} ended by itself; its log says why"
        ))),
        Err(error) => Err(Failure::failed(format!("the {role} broke: {error}"))),
    }
}

/// Takes a changed file, or keeps the last good one and says so.
fn reload(current: &mut Document, options: &Options, filter: &Filter, apply: &Reload) {
    let changed = || -> Outcome<Document> {
        let new = Document::load(&options.config, Some(current.role()), &options.set)?;
        for key in current.changes(&new).iter().filter(|key| !key.reloads) {
            tracing::warn!(key = key.path, "changed; it takes a restart");
        }
        // All or nothing: what can be refused comes first.
        apply(&new)?;
        filter.change(&log_of(&new)?.level)?;
        Ok(new)
    };
    match changed() {
        Ok(new) => {
            *current = new;
            tracing::info!(file = %options.config.display(), "configuration reloaded");
        }
        Err(failure) => {
            tracing::error!(%failure, "reload refused: keeping the last good configuration");
        }
    }
}

fn log_of(document: &Document) -> Outcome<crate::config::Log> {
    Ok(match document.role() {
        Role::Relay => document.parse::<crate::config::Relay>()?.log,
        Role::Edge => document.parse::<crate::config::Edge>()?.relay.log,
        Role::Controller => document.parse::<crate::config::Controller>()?.log,
    })
}

/// A secret from a file, without the line's end.
fn secret(file: &Path) -> Outcome<String> {
    std::fs::read_to_string(file)
        .map(|text| text.trim_end().to_owned())
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", file.display())))
}
