//! What one more relay on the way adds: a row of `hops` relays against a single one.

use std::time::Duration;

use longspan_proto::ids::Region;
use serde_json::{Value, json};

use super::{
    backbone::{Backbone, ORIGIN},
    fanout,
    load::{self, Load, Seen, Source},
    report,
};
use crate::failure::Outcome;

/// How long a row.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Relays in a row, each a process; at most as many as a path may have.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=5))]
    hops: u32,
    /// Receivers at the last relay, each with a connection of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    subscribers: u32,
    #[command(flatten)]
    load: Load,
}

/// Runs it.
pub async fn run(args: &Args) -> Outcome<Value> {
    let (one, one_us) = row(1, args).await?;
    let (many, many_us) = row(args.hops, args).await?;
    let more = f64::from(args.hops - 1);
    let frames = many.sent.max(1) as f64;
    let (one_ms, many_ms) = (one.latency.json(), many.latency.json());
    let added = |key: &str| {
        let of = |json: &Value| json[key].as_f64().unwrap_or_default();
        report::round((of(&many_ms) - of(&one_ms)) / more, 3)
    };
    Ok(report::report(
        0,
        json!({
            // Differences of the two rows' quantiles, shared among the further relays.
            "added_ms_per_hop": {
                "p50": added("p50"),
                "p99": added("p99"),
                "p999": added("p999"),
                "max": added("max"),
                "n": many_ms["n"],
            },
            // A relay in the middle passes each frame on once.
            "cpu_us_per_hop": report::round((many_us as f64 - one_us as f64) / more / frames, 2),
            "latency_ms_one": one_ms,
            "latency_ms_all": many_ms,
            "lost": one.lost + many.lost,
            "repeated": one.repeated + many.repeated,
        }),
    ))
}

/// What the sinks of a row see, and what its relays use in µs meanwhile.
async fn row(hops: u32, args: &Args) -> Outcome<(Seen, u64)> {
    let regions: Vec<Region> = (1..=hops)
        .map(|i| Region::new(&format!("region-{i}")).expect("a name"))
        .collect();
    let backbone = Backbone::start(&regions, None)?;
    let origin = backbone.edge(ORIGIN, 0).await?;
    let edges = fanout::receivers(&backbone, regions.len() - 1, args.subscribers).await?;
    let track = load::track("chain");
    let source = Source::start(origin.handle.publish(track.clone()), args.load.shape());
    let sinks = edges
        .iter()
        .map(|edge| load::subscribe(&edge.handle, track.clone()));
    eprintln!(
        "{hops} in a row: measures for {:?}",
        Duration::from_secs(args.load.seconds)
    );
    let mut cpu_us = Vec::new();
    let seen = load::measure(&source, &args.load, sinks.collect(), || {
        cpu_us.push(backbone.cpu_us()?);
        Ok(())
    })
    .await?;
    let used = cpu_us
        .last()
        .zip(cpu_us.first())
        .map_or(0, |(after, before)| after - before);
    Ok((seen, used))
}
