//! The load of `longspan bench fanout` and `bench chain` against moq-relay: the same frames at the
//! same times, publisher and receivers in one process with a UDP socket each, frames counted and
//! aged in the same way, CPU and memory of the relays read from `/proc` in the same way. Prints one
//! object with the same keys. `guest` is one part of a backbone in the lab of `bench failover`.

mod guest;
mod load;
mod relay;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde_json::{Value, json};

use crate::{
    load::{Load, Seen},
    relay::{Relay, Row, Usage},
};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// One publisher, many receivers, one relay
    Fanout {
        #[arg(long, default_value_t = 100)]
        subscribers: u32,
        #[command(flatten)]
        relay: Relay,
        #[command(flatten)]
        load: Load,
    },
    /// Publisher and receivers at the two ends of a row of relays
    Chain {
        /// Relays in a row
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=5))]
        hops: u8,
        #[arg(long, default_value_t = 5)]
        subscribers: u32,
        #[command(flatten)]
        relay: Relay,
        #[command(flatten)]
        load: Load,
    },
    /// One part of a backbone in a lab, for `longspan bench failover --guest`
    Guest {
        #[command(flatten)]
        relay: Relay,
        #[command(flatten)]
        load: Load,
        #[command(subcommand)]
        part: guest::Part,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let (hops, subscribers, relay, load) = match Cli::parse().verb {
        Verb::Fanout {
            subscribers,
            relay,
            load,
        } => (1, subscribers, relay, load),
        Verb::Chain {
            hops,
            subscribers,
            relay,
            load,
        } => (hops, subscribers, relay, load),
        Verb::Guest { relay, load, part } => return guest::run(&part, &relay, &load).await,
    };
    let row = Row::start(&relay, hops)?;
    let empty = row.last().rss_bytes;
    let mut usage = Vec::new();
    let seen = load::run(&row, &load, subscribers, || {
        let own = Usage::of(std::process::id())?;
        usage.push((row.cpu_us()?, row.last(), own));
        Ok(())
    })
    .await?;
    let [before, after] = &usage[..] else {
        anyhow::bail!("measured at the beginning and the end")
    };
    let relays_us = after.0 - before.0;
    let own_us = after.2.cpu_us - before.2.cpu_us;
    let grown = after.1.rss_bytes.saturating_sub(empty);
    let mut report = figures(&seen, &load, relays_us, own_us);
    report["hops"] = hops.into();
    report["rss_bytes"] = after.1.rss_bytes.into();
    report["rss_bytes_per_receiver"] = (grown / u64::from(subscribers.max(1))).into();
    report["command"] = std::env::args().collect::<Vec<_>>().join(" ").into();
    println!("{report}");
    Ok(())
}

fn figures(seen: &Seen, load: &Load, relays_us: u64, own_us: u64) -> Value {
    let frames = seen.delivered.max(1) as f64;
    let gbit = frames * f64::from(load.size) * 8.0 / 1e9;
    let round = |value: f64, unit: f64| (value * unit).round() / unit;
    json!({
        "delivered_per_s": round(seen.delivered as f64 / seen.took.as_secs_f64(), 10.0),
        "cpu_us_per_frame": round(relays_us as f64 / frames, 100.0),
        "cpu_s_per_gbit": round(relays_us as f64 / 1e6 / gbit, 1000.0),
        "latency_ms": seen.latency_json(),
        "lost": seen.lost,
        "repeated": seen.repeated,
        "generator_cpu_us_per_frame": round(own_us as f64 / frames, 100.0),
    })
}
