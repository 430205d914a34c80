//! Log lines: to stderr, filtered, as text or JSON. The filter can change while running.

use std::io::IsTerminal;

use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use crate::{
    config::{self, LogFormat},
    failure::{Failure, Outcome},
};

/// Changes the filter of a running process.
pub struct Filter(reload::Handle<EnvFilter, Registry>);

/// Begins to log. Once a process.
pub fn init(log: &config::Log) -> Outcome<Filter> {
    let (filter, handle) = reload::Layer::new(parse(&log.level)?);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(Failure::failed)?;
    Ok(Filter(handle))
}

impl Filter {
    /// Takes another filter; the old one stays if it is not one.
    pub fn change(&self, level: &str) -> Outcome {
        self.0.reload(parse(level)?).map_err(Failure::failed)
    }
}

fn parse(level: &str) -> Outcome<EnvFilter> {
    EnvFilter::try_new(level).map_err(|error| {
        Failure::usage(format!(
            "log.level {level:?}: {error}; write info, or longspan_relay=debug,info"
        ))
    })
}
