//! How long a newcomer waits for a picture: the first one at a cold edge, with the whole path
//! still to be subscribed, and the next one at the same edge.

use std::time::{Duration, Instant};

use longspan_lab::{
    matrix::Matrix,
    world::{Everywhere, SAME_REGION},
};
use longspan_proto::ids::Region;
use longspan_relay::{forward::LocalEvent, node::Subscription, quic::limits::INITIAL_WINDOW};
use serde_json::{Value, json};

use super::{
    backbone::{Backbone, Emulate, ORIGIN},
    load::{self, Shape, Source},
    report::{self, Distribution},
    spec::Controller,
};
use crate::failure::{Failure, Outcome, hint};

/// Over which path.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Regions from the publisher's to the viewer's, a relay in each.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "cn-beijing,cn-shanghai,hk,sg"
    )]
    path: Vec<Region>,
    /// What is laid over the links beside their delay.
    #[arg(long, default_value = "internet")]
    profile: String,
    /// Times, each on connections that carried nothing before.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    trials: u32,
    /// Who decides how much is under way.
    #[arg(long, value_enum, default_value_t)]
    congestion: Controller,
    /// For losses, jitter and the moments of joining.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The most relays a path may have (DESIGN §4).
const MAX_PATH: usize = 5;
/// 2.5 Mbit/s: key frames of 80 KB every 2 s, and at 30 frames/s the rest in between.
const SHAPE: Shape = Shape {
    fps: 30,
    group: 60,
    key: 80_000,
    size: (625_000 - 80_000) / 59,
};
/// How long a newcomer may wait before the run fails.
const WAIT: Duration = Duration::from_secs(20);
/// The viewer's edge.
const VIEWER: &str = "viewer";

/// Runs it.
pub async fn run(args: &Args) -> Outcome<Value> {
    let rtt = path_rtt(&args.path)?;
    let everywhere = Everywhere::named(&args.profile).map_err(Failure::usage)?;
    let (mut cold, mut warm) = (Distribution::new(), Distribution::new());
    for trial in 0..args.trials {
        let seed = args.seed.wrapping_add(u64::from(trial));
        let (first, second) = join(&args.path, everywhere.clone(), args.congestion, seed).await?;
        eprintln!(
            "{} of {}: cold {first:.1?}, warm {second:.1?}",
            trial + 1,
            args.trials
        );
        cold.record_us(first.as_micros() as u64);
        warm.record_us(second.as_micros() as u64);
    }
    Ok(report::report(
        args.seed,
        json!({
            "path": args.path,
            "profile": args.profile,
            "congestion": args.congestion,
            "path_rtt_ms": report::round(rtt.as_secs_f64() * 1_000.0, 1),
            "cold_ms": cold.json(),
            "warm_ms": warm.json(),
            "initial_window_bytes": INITIAL_WINDOW,
        }),
    ))
}

/// One trial on a backbone of its own: how long the first viewer waits, and the second.
async fn join(
    path: &[Region],
    everywhere: Everywhere,
    controller: Controller,
    seed: u64,
) -> Outcome<(Duration, Duration)> {
    let last = path.len() - 1;
    let edges = [(ORIGIN, 0), (VIEWER, last)];
    let backbone = Backbone::start(
        path,
        Some(Emulate {
            everywhere,
            seed,
            edges: &edges,
            rtt: None,
            controller,
        }),
    )?;
    let origin = backbone.edge(ORIGIN, 0).await?;
    let viewer = backbone.edge(VIEWER, last).await?;
    let track = load::track("join");
    let source = Source::start(origin.handle.publish(track.clone()), SHAPE);
    // A whole group first, in which the links measure themselves. Then somebody joins; the golden
    // ratio spreads evenly over the trials where in a group that is.
    let share = ((seed % 1_000_000) as f64 * 0.618_033_988_75).fract();
    let frames = f64::from(SHAPE.group) * (1.0 + share);
    source.sent(frames as u64).await?;
    let (first, held) = newest_key_frame(|| load::subscribe(&viewer.handle, track.clone())).await?;
    let (second, _) = newest_key_frame(|| load::subscribe(&viewer.handle, track.clone())).await?;
    drop(held);
    Ok((first, second))
}

/// From asking until the key frame is there whole.
async fn newest_key_frame(
    subscribe: impl FnOnce() -> Subscription,
) -> Outcome<(Duration, Subscription)> {
    let began = Instant::now();
    let mut subscription = subscribe();
    let wait = async {
        while let Some(event) = subscription.next().await {
            match event {
                LocalEvent::Frame { frame, .. } if frame.flags.key => return Ok(began.elapsed()),
                LocalEvent::End { message, .. } => return Err(Failure::failed(message)),
                _ => {}
            }
        }
        Err(Failure::failed("the subscription ended without a reason"))
    };
    let waited = tokio::time::timeout(WAIT, wait).await;
    let waited = waited.map_err(|_| Failure::failed(format!("no key frame within {WAIT:?}")))??;
    Ok((waited, subscription))
}

/// Over the links between the regions, and between each end's edge and its relay.
fn path_rtt(path: &[Region]) -> Outcome<Duration> {
    if !(2..=MAX_PATH).contains(&path.len()) {
        let found = path.len();
        return Err(Failure::usage(format!(
            "--path names {found} regions; it takes 2 to {MAX_PATH}"
        )));
    }
    let matrix = Matrix::bundled();
    let known = || matrix.places().keys().map(Region::as_str);
    let mut rtt = 4 * SAME_REGION;
    for (i, pair) in path.windows(2).enumerate() {
        if path[..=i].contains(&pair[1]) {
            return Err(Failure::usage(format!("--path names {} twice", pair[1])));
        }
        for region in pair {
            if !matrix.places().contains_key(region) {
                let hint = hint(region, known());
                return Err(Failure::not_found(format!(
                    "region {region} is not known{hint}"
                )));
            }
        }
        rtt += matrix.rtt(&pair[0], &pair[1]).unwrap_or_default();
    }
    Ok(rtt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(names: &[&str]) -> Vec<Region> {
        names
            .iter()
            .map(|name| Region::new(name).unwrap())
            .collect()
    }

    #[test]
    fn a_path_is_as_long_as_its_links_and_its_ends() {
        let rtt = path_rtt(&path(&["cn-beijing", "cn-shanghai", "hk", "sg"])).unwrap();
        assert_eq!(rtt, Duration::from_millis(110 + 38 + 33 + 1));
    }

    #[test]
    fn a_path_that_cannot_be_is_refused_by_name() {
        let why = |names: &[&str]| path_rtt(&path(names)).unwrap_err().to_string();
        assert_eq!(why(&["sg"]), "--path names 1 regions; it takes 2 to 5");
        assert_eq!(
            why(&["sg", "cn-bejing"]),
            "region cn-bejing is not known (did you mean cn-beijing?)"
        );
        assert_eq!(why(&["sg", "hk", "sg"]), "--path names sg twice");
    }

    const GROUP: Duration = Duration::from_secs(2);

    #[test]
    fn the_load_is_two_and_a_half_megabit() {
        let group = SHAPE.key + (SHAPE.group - 1) * SHAPE.size;
        let bits_per_s = f64::from(group) * 8.0 / GROUP.as_secs_f64();
        assert!((bits_per_s / 2.5e6 - 1.0).abs() < 0.001, "{bits_per_s}");
        assert_eq!(
            u64::from(SHAPE.group),
            u64::from(SHAPE.fps) * GROUP.as_secs()
        );
    }
}
