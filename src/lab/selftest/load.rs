//! What the lab carries on this machine: rising loads from one host to another, until it loses.

use std::time::Duration;

use longspan_lab::tun::Lab;
use serde::Serialize;

use super::udp::{Plan, stream};
use crate::{
    bench::usage::Usage,
    failure::{Failure, Outcome},
};

/// Packets a second that are offered.
const OFFERED: [u32; 6] = [1_000, 5_000, 10_000, 20_000, 40_000, 80_000];

/// Bytes of payload: what media over QUIC fills a packet with.
const BYTES: usize = 1_200;

/// What became of one load.
#[derive(Debug, Serialize)]
pub struct Carried {
    offered_per_s: u32,
    sent_per_s: u32,
    arrived_per_s: u32,
    arrived_mbit_per_s: f64,
    /// The lab's own losses, as a share.
    lost: f64,
    /// Beyond the delay that is set, in ms.
    late_p50_ms: f64,
    late_p99_ms: f64,
    /// Of the lab and of both ends.
    cpu_cores: f64,
}

/// Seconds of CPU that this process has used.
fn cpu() -> Outcome<f64> {
    let usage = Usage::of(std::process::id());
    let usage = usage.ok_or_else(|| Failure::failed("cannot read /proc/self/stat"))?;
    Ok(usage.cpu_us as f64 / 1e6)
}

/// Offers each load for `seconds`; `delay` (ms) is what lies between the hosts.
pub fn run(lab: &Lab, from: &str, to: &str, delay: f64, seconds: f64) -> Outcome<Vec<Carried>> {
    let loads = OFFERED.iter().map(|offered| {
        let plan = Plan {
            packets: (f64::from(*offered) * seconds) as usize,
            every: Duration::from_secs(1) / *offered,
            bytes: BYTES,
        };
        let before = cpu()?;
        let run = stream(lab, from, to, plan)?;
        let used = cpu()? - before;
        let mut late: Vec<f64> = run.delays().iter().map(|took| took - delay).collect();
        late.sort_by(f64::total_cmp);
        let took = run.took().as_secs_f64();
        Ok(Carried {
            offered_per_s: *offered,
            sent_per_s: (plan.packets as f64 / took) as u32,
            arrived_per_s: (run.arrived() as f64 / took) as u32,
            arrived_mbit_per_s: run.rate() / 1e6,
            lost: run.unexplained() as f64 / plan.packets as f64,
            late_p50_ms: super::quantile(&late, 0.5),
            late_p99_ms: super::quantile(&late, 0.99),
            cpu_cores: used / took,
        })
    });
    loads.collect()
}
