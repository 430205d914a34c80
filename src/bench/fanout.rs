//! One publisher, many receivers, one relay: what a delivered frame costs, and how late it is.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use longspan_proto::ids::Region;
use serde_json::{Value, json};

use super::{
    backbone::{Backbone, Edge, ORIGIN},
    load::{self, Load, Seen, Source},
    report,
};
use crate::failure::Outcome;

/// Who receives what.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Receivers, each with an endpoint and a connection of its own.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    subscribers: u32,
    #[command(flatten)]
    load: Load,
}

/// Receivers that connect at once.
const CONNECTING: usize = 16;

/// Runs it.
pub async fn run(args: &Args) -> Outcome<Value> {
    let backbone = Backbone::start(&[Region::new("bench").expect("a name")], None)?;
    let origin = backbone.edge(ORIGIN, 0).await?;
    let empty = backbone.usage(0)?.rss_bytes;
    eprintln!("{} receivers connect", args.subscribers);
    let edges = receivers(&backbone, 0, args.subscribers).await?;
    let track = load::track("fanout");
    let source = Source::start(origin.handle.publish(track.clone()), args.load.shape());
    let sinks = edges
        .iter()
        .map(|edge| load::subscribe(&edge.handle, track.clone()));
    eprintln!("measures for {:?}", Duration::from_secs(args.load.seconds));
    let mut usage = Vec::new();
    let mut own = Vec::new();
    let seen = load::measure(&source, &args.load, sinks.collect(), || {
        usage.push(backbone.usage(0)?);
        own.extend(super::usage::Usage::of(std::process::id()));
        Ok(())
    })
    .await?;
    let [before, after] = usage[..] else {
        unreachable!("measured at the beginning and the end")
    };
    let cpu_us = after.cpu_us - before.cpu_us;
    let per_frame = |cpu_us: u64| report::round(cpu_us as f64 / seen.delivered.max(1) as f64, 2);
    let own_us = own
        .last()
        .zip(own.first())
        .map_or(0, |(after, before)| after.cpu_us - before.cpu_us);
    Ok(report::report(
        0,
        json!({
            "delivered_per_s": report::round(delivered_per_s(&seen), 1),
            "cpu_us_per_frame": per_frame(cpu_us),
            "cpu_s_per_gbit": report::cpu_s_per_gbit(cpu_us, seen.delivered, args.load.size),
            "latency_ms": seen.latency.json(),
            "rss_bytes_per_receiver": after.rss_bytes.saturating_sub(empty) / u64::from(args.subscribers),
            "rss_bytes": after.rss_bytes,
            "lost": seen.lost,
            "repeated": seen.repeated,
            // The load shares the machine's cores: what it takes, the relay cannot have.
            "generator_cpu_us_per_frame": per_frame(own_us),
        }),
    ))
}

fn delivered_per_s(seen: &Seen) -> f64 {
    seen.delivered as f64 / seen.took.as_secs_f64()
}

/// Edges attached to relay number `at`.
pub async fn receivers(backbone: &Backbone, at: usize, n: u32) -> Outcome<Vec<Edge>> {
    let names = (1..=n).map(|i| format!("receiver-{i}"));
    stream::iter(names)
        .map(|name| async move { backbone.edge(&name, at).await })
        .buffer_unordered(CONNECTING)
        .try_collect()
        .await
}
