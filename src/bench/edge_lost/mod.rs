//! What users notice when the edge they are at is lost: a viewer that knows two edges, and viewers
//! everywhere when the publisher comes back at another edge.
//!
//! A whole `longspan up` with its controller (a publisher's claim needs one) is started and its
//! edges are killed, or frozen: a frozen process answers neither users nor relays, and its
//! connections stay as they are, which is what is seen of an edge behind a blackhole. (Its system
//! still completes TCP handshakes; nobody here makes one with it.)
//!
//! * `world`: the backbone and the fault. `viewer`, `publisher`: clients. `watch`, `publish`:
//!   the two runs.

mod publish;
mod publisher;
mod viewer;
mod watch;
mod world;

use std::time::Duration;

use longspan_proto::ids::Region;
use serde_json::{Value, json};

use self::world::World;
use super::report::{self, Distribution};
use crate::failure::{Failure, Outcome};

/// Whose edge, and what happens to it.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What happens to the edge
    #[arg(long, value_enum, default_value_t = Fault::Kill)]
    fault: Fault,
    /// The publisher's edge, and the publisher comes back at another one; without it a viewer's
    #[arg(long)]
    publisher: bool,
    /// Times
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    trials: u32,
    /// The lesson is published in the first. A viewer's edge is the last, its other edge the one
    /// before. A publisher goes between the first two, and is watched from the others
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "cn-beijing,cn-shanghai,hk,sg"
    )]
    regions: Vec<Region>,
    /// What is laid over the links between nodes beside their delay
    #[arg(long, default_value = "internet")]
    profile: String,
    /// Somebody else watches at the viewer's other edge already
    #[arg(long, conflicts_with = "publisher")]
    warm: bool,
    /// For the moments of the faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What happens to an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Fault {
    /// Its process is killed: connections are reset
    Kill,
    /// It is frozen: nothing is answered, nothing is closed
    Blackhole,
}

/// The fewest regions: the publisher's, and two more edges.
const MIN_REGIONS: usize = 3;

/// Runs it.
pub async fn run(args: &Args) -> Outcome<Value> {
    if args.regions.len() < MIN_REGIONS {
        let named = args.regions.len();
        return Err(Failure::usage(format!(
            "--regions names {named}; it takes {MIN_REGIONS} at least"
        )));
    }
    let world = World::start(&args.regions, &args.profile, !args.publisher).await?;
    let figures = match args.publisher {
        false => watch::run(args, &world).await?,
        true => publish::run(args, &world).await?,
    };
    world.end().await;
    let mut all = json!({
        "fault": match args.fault { Fault::Kill => "kill", Fault::Blackhole => "blackhole" },
        "regions": args.regions,
        "profile": args.profile,
        "trials": args.trials,
    });
    if let (Value::Object(all), Value::Object(figures)) = (&mut all, figures) {
        all.extend(figures);
    }
    Ok(report::report(args.seed, all))
}

/// When in a trial the fault strikes: the golden ratio spreads evenly over a group of pictures
/// where that is.
fn moment(seed: u64, trial: u32) -> Duration {
    /// The sample lesson has a key frame every two seconds.
    const GROUP: f64 = 2.0;
    let n = seed.wrapping_add(u64::from(trial)) % 1_000_000;
    Duration::from_secs_f64(1.0 + GROUP * (n as f64 * 0.618_033_988_75).fract())
}

fn record(distribution: &mut Distribution, took: Duration) {
    distribution.record_us(took.as_micros() as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_strike_everywhere_in_a_group() {
        let mut moments: Vec<_> = (0..20).map(|trial| moment(7, trial)).collect();
        moments.sort();
        assert!(moments[0] >= Duration::from_secs(1));
        assert!(moments[19] < Duration::from_secs(3));
        let widest = moments.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(widest < Some(Duration::from_millis(250)), "{widest:?}");
    }
}
