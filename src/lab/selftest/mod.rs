//! `longspan lab selftest`: proves that between two hosts happens what the model was told, with
//! plain UDP through the kernel, the TUN devices and back.

mod load;
mod udp;

use std::{process::exit, time::Duration};

use longspan_lab::{
    matrix::{Matrix, Split},
    tun::{self, Lab, Spec, space},
    wan::{Jitter, Loss, Profile, Rate},
    world::{Change, Effect, Everywhere, World},
};
use serde::Serialize;
use serde_json::{Value, json};

use self::udp::{Plan, SMALLEST, Stream, stream};
use crate::{
    cli::{Context, Format, output},
    failure::{Failure, Outcome},
};

/// How far the median of a direction's delay may be off, in ms.
const DELAY: f64 = 0.5;

/// How far the rate of a full bottleneck may be off, as a share.
const RATE: f64 = 0.01;

/// How many standard deviations a mean of random draws may be off: by chance, once in 10⁹ checks.
const SIGMAS: f64 = 6.0;

/// Measures the emulated network against what it is told, in two hosts of a lab of its own: delay,
/// loss, bursts, rate, jitter, order; exits with 1 where a figure is outside its tolerance
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Fewer packets, and wider tolerances where chance decides: some seconds
    #[arg(long)]
    short: bool,
    /// Measures instead what the lab carries on this machine, from both ends: rising loads
    #[arg(long, conflicts_with = "short")]
    load: bool,
}

/// One figure.
#[derive(Debug, Serialize)]
struct Check {
    what: String,
    unit: &'static str,
    set: f64,
    measured: f64,
    tolerance: f64,
    ok: bool,
}

/// Runs all checks in a lab of its own.
pub fn run(options: &Options, context: &Context) -> Outcome {
    if !space::is_inner() {
        exit(super::run::enter()?.into());
    }
    let hosts = [("a", "cn-beijing"), ("b", "sg")].map(|(name, region)| {
        Ok(Spec {
            name: name.parse().map_err(Failure::failed)?,
            region: region.parse().map_err(Failure::failed)?,
            zone: None,
            lines: Vec::new(),
        })
    });
    let hosts = hosts.into_iter().collect::<Outcome<Vec<_>>>()?;
    let placed = tun::place(&hosts).map_err(Failure::failed)?;
    let everywhere = Everywhere::Same(Profile::default());
    let world = World::new(&Matrix::bundled(), Split::Half, &everywhere, placed, 1);
    let bench = Bench {
        lab: Lab::start(world).map_err(Failure::failed)?,
        scale: if options.short { 1 } else { 4 },
    };
    if options.load {
        return bench.load(context.format);
    }
    let checks = bench.all()?;
    let ok = checks.iter().all(|check| check.ok);
    report(&checks, ok, context.format)?;
    if ok {
        Ok(())
    } else {
        let wrong: Vec<&str> = checks
            .iter()
            .filter(|check| !check.ok)
            .map(|check| check.what.as_str())
            .collect();
        Err(Failure::failed(format!(
            "outside their tolerance: {}",
            wrong.join(", ")
        )))
    }
}

struct Bench {
    lab: Lab,
    /// Multiplies the number of packets.
    scale: usize,
}

impl Bench {
    fn all(&self) -> Outcome<Vec<Check>> {
        let mut checks = Vec::new();
        self.delays(&mut checks)?;
        self.losses(&mut checks)?;
        self.rate(&mut checks)?;
        self.jitter(&mut checks)?;
        self.order(&mut checks)?;
        self.one_way_blackhole(&mut checks)?;
        let faulty = self.lab.faulty().map_err(Failure::failed)?;
        let own = faulty.overrun + faulty.overflowed;
        checks.push(exact("dropped by the lab itself", "packets", 0, own as i64));
        Ok(checks)
    }

    fn load(&self, format: Format) -> Outcome {
        const DELAY_MS: f64 = 20.0;
        self.set("a", "b", Profile::default(), DELAY_MS)?;
        let carried = load::run(&self.lab, "a", "b", DELAY_MS, 3.0)?;
        let rows: Vec<Value> = carried.iter().map(|carried| json!(carried)).collect();
        let columns = [
            ("OFFERED/S", "/offered_per_s"),
            ("SENT/S", "/sent_per_s"),
            ("ARRIVED/S", "/arrived_per_s"),
            ("MBIT/S", "/arrived_mbit_per_s"),
            ("LOST", "/lost"),
            ("LATE P50 MS", "/late_p50_ms"),
            ("LATE P99 MS", "/late_p99_ms"),
            ("CPU CORES", "/cpu_cores"),
        ];
        output::list(format, &rows, &columns)
    }

    /// Different delays in the two directions; without jitter.
    fn delays(&self, checks: &mut Vec<Check>) -> Outcome {
        let plan = Plan {
            packets: 50 * self.scale,
            every: Duration::from_millis(10),
            bytes: 200,
        };
        for (there, back) in [(1.0, 3.0), (20.0, 20.0), (119.0, 60.0), (5.0, 222.0)] {
            self.set("a", "b", Profile::default(), there)?;
            self.set("b", "a", Profile::default(), back)?;
            let mut rtt = 0.0;
            for (from, to, set) in [("a", "b", there), ("b", "a", back)] {
                let run = self.stream(from, to, plan, checks)?;
                let mut delays = run.delays();
                delays.sort_by(f64::total_cmp);
                let median = quantile(&delays, 0.5);
                rtt += median;
                checks.push(near(
                    format!("{from} → {to}, median delay"),
                    "ms",
                    set,
                    median,
                    DELAY,
                ));
                let p90 = quantile(&delays, 0.9);
                // A measure of the machine, not of the model: told, and wide.
                checks.push(near(
                    format!("{from} → {to}, 90th percentile"),
                    "ms",
                    set,
                    p90,
                    20.0 * DELAY,
                ));
                let early = delays.iter().filter(|delay| **delay < set).count();
                checks.push(exact("arrived early", "packets", 0, early as i64));
            }
            checks.push(near(
                "round trip".to_owned(),
                "ms",
                there + back,
                rtt,
                2.0 * DELAY,
            ));
        }
        Ok(())
    }

    fn losses(&self, checks: &mut Vec<Check>) -> Outcome {
        let packets = 5_000 * self.scale;
        let plan = Plan {
            packets,
            every: Duration::from_micros(500),
            bytes: SMALLEST,
        };
        let bursts = |mean, burst| Loss::GilbertElliott { mean, burst };
        let cases = [
            ("none", Loss::None, 0.0, 1.0),
            (
                "5 % independent",
                Loss::Bernoulli { mean: 0.05 },
                0.05,
                1.0 / 0.95,
            ),
            ("15 % in bursts of 4", bursts(0.15, 4.0), 0.15, 4.0),
            ("40 % in bursts of 10", bursts(0.4, 10.0), 0.4, 10.0),
        ];
        for (name, loss, mean, burst) in cases {
            let profile = Profile {
                loss,
                ..Profile::default()
            };
            self.set("a", "b", profile, 5.0)?;
            let run = self.stream("a", "b", plan, checks)?;
            let (share, run_length) = run.losses();
            let (by, by_burst) = deviations(packets as f64, mean, burst);
            checks.push(near(
                format!("loss, {name}"),
                "share",
                mean,
                share,
                SIGMAS * by,
            ));
            if mean > 0.0 {
                let what = format!("burst, {name}");
                checks.push(near(what, "packets", burst, run_length, SIGMAS * by_burst));
            }
        }
        Ok(())
    }

    fn rate(&self, checks: &mut Vec<Check>) -> Outcome {
        for mbit in [2.0, 20.0] {
            let rate = Rate {
                bits_per_s: (mbit * 1e6) as u64,
                queue: Duration::from_millis(100),
            };
            let profile = Profile {
                rate: Some(rate),
                ..Profile::default()
            };
            self.set("a", "b", profile, 5.0)?;
            // One and a half times what it carries.
            let bytes = 1_200;
            let every = Duration::from_secs_f64(bytes as f64 * 8.0 / (mbit * 1.5e6));
            let seconds = 1.0 + self.scale as f64 / 2.0;
            let plan = Plan {
                packets: (seconds / every.as_secs_f64()) as usize,
                every,
                bytes,
            };
            let run = self.stream("a", "b", plan, checks)?;
            let what = format!("rate, {mbit} Mbit/s");
            checks.push(near(what, "Mbit/s", mbit, run.rate() / 1e6, mbit * RATE));
            let mut delays = run.delays();
            delays.sort_by(f64::total_cmp);
            // The delay, the full queue, and the packet's own time on the link.
            let own = (bytes + 8) as f64 * 8.0 / (mbit * 1e3);
            let full = quantile(&delays, 0.95);
            let what = format!("delay behind a full queue, {mbit} Mbit/s");
            checks.push(near(what, "ms", 105.0 + own, full, own + 2.0));
        }
        Ok(())
    }

    fn jitter(&self, checks: &mut Vec<Check>) -> Outcome {
        // 1 % of a round trip of 200 ms; packets ten times as far apart seldom wait for another.
        let profile = Profile {
            jitter: Jitter::Exponential { share_of_rtt: 0.01 },
            ..Profile::default()
        };
        self.set("a", "b", profile, 100.0)?;
        let plan = Plan {
            packets: 100 * self.scale,
            every: Duration::from_millis(20),
            bytes: 200,
        };
        let run = self.stream("a", "b", plan, checks)?;
        let delays = run.delays();
        let mean = delays.iter().sum::<f64>() / delays.len().max(1) as f64;
        let by = DELAY + SIGMAS * 2.0 / (plan.packets as f64).sqrt();
        checks.push(near(
            "mean delay with jitter of 2 ms".to_owned(),
            "ms",
            102.0,
            mean,
            by,
        ));
        Ok(())
    }

    fn order(&self, checks: &mut Vec<Check>) -> Outcome {
        let plan = Plan {
            packets: 1_000 * self.scale,
            every: Duration::from_millis(1),
            bytes: 200,
        };
        for reorder in [false, true] {
            let profile = Profile {
                jitter: Jitter::Exponential { share_of_rtt: 0.05 },
                reorder,
                ..Profile::default()
            };
            self.set("a", "b", profile, 50.0)?;
            let run = self.stream("a", "b", plan, checks)?;
            let overtaken = run.overtaken();
            if reorder {
                // The model's own share of this, ± a quarter.
                let share = overtaken as f64 / plan.packets as f64;
                let set = self.overtaken_in_the_model(plan)?;
                checks.push(near(
                    "overtaken, where asked for".to_owned(),
                    "share",
                    set,
                    share,
                    set / 4.0,
                ));
            } else {
                checks.push(exact("overtaken", "packets", 0, overtaken as i64));
            }
        }
        Ok(())
    }

    /// What the pure model makes of the same stream without a kernel in between.
    fn overtaken_in_the_model(&self, plan: Plan) -> Outcome<f64> {
        use longspan_lab::{wan::Verdict, world::Lane};
        use longspan_proto::{ids::Net, time::Time};
        let world = self.lab.world();
        let who = |name: &str| {
            let (node, placed) = world
                .nodes
                .get_key_value(name)
                .ok_or_else(|| Failure::failed(format!("no host {name}")))?;
            Ok::<_, Failure>(placed.who(node))
        };
        let mut lane = Lane::new(&world, who("a")?, who("b")?, Net::internet());
        let mut arrivals: Vec<(Time, usize)> = (0..plan.packets)
            .filter_map(|n| {
                let now = Time::ZERO + plan.every * n as u32;
                match lane.send(now, plan.bytes) {
                    Verdict::Deliver(at) => Some((at, n)),
                    Verdict::Drop(_) => None,
                }
            })
            .collect();
        arrivals.sort();
        let mut latest = 0;
        let late = arrivals.iter().filter(|(_, n)| {
            let late = *n < latest;
            latest = latest.max(*n);
            late
        });
        Ok(late.count() as f64 / plan.packets as f64)
    }

    fn one_way_blackhole(&self, checks: &mut Vec<Check>) -> Outcome {
        self.set("a", "b", Profile::default(), 5.0)?;
        self.set("b", "a", Profile::default(), 5.0)?;
        self.lab
            .apply(&Change::cut("a", "b").one_way())
            .map_err(Failure::failed)?;
        let plan = Plan {
            packets: 100,
            every: Duration::from_millis(1),
            bytes: 200,
        };
        for (from, to, set) in [("a", "b", 0), ("b", "a", 100)] {
            let run = self.stream(from, to, plan, checks)?;
            let what = format!("{from} → {to} while a → b is cut");
            checks.push(exact(&what, "packets", set, run.arrived() as i64));
        }
        Ok(())
    }

    fn set(&self, from: &str, to: &str, profile: Profile, delay: f64) -> Outcome {
        let effect = Effect {
            profile: Some(profile),
            delay_ms: Some(delay),
            ..Effect::default()
        };
        let change = Change::lay(from, to, effect).one_way();
        self.lab.apply(&change).map_err(Failure::failed)
    }

    fn stream(&self, from: &str, to: &str, plan: Plan, checks: &mut Vec<Check>) -> Outcome<Stream> {
        let run = stream(&self.lab, from, to, plan)?;
        if run.unexplained() != 0 {
            let what = format!("{from} → {to}, lost but not by the model");
            checks.push(exact(&what, "packets", 0, run.unexplained()));
        }
        Ok(run)
    }
}

/// Standard deviations of the share lost and of the mean burst, of `packets` packets in a two-state
/// chain: neighbours correlate by 1 − 1/burst − p, where p is the chance to leave the good state.
fn deviations(packets: f64, mean: f64, burst: f64) -> (f64, f64) {
    if mean == 0.0 {
        return (0.0, 0.0);
    }
    let correlation = 1.0 - 1.0 / burst - mean / (burst * (1.0 - mean));
    let spread = (1.0 + correlation) / (1.0 - correlation);
    let share = (mean * (1.0 - mean) / packets * spread).sqrt();
    // Lengths are geometric; there are about packets · mean / burst of them.
    let length = burst * (1.0 - 1.0 / burst).sqrt() / (packets * mean / burst).sqrt();
    (share, length)
}

fn near(what: String, unit: &'static str, set: f64, measured: f64, tolerance: f64) -> Check {
    Check {
        ok: (measured - set).abs() <= tolerance,
        what,
        unit,
        set,
        measured,
        tolerance,
    }
}

fn exact(what: &str, unit: &'static str, set: i64, measured: i64) -> Check {
    near(what.to_owned(), unit, set as f64, measured as f64, 0.0)
}

/// Of sorted values; NaN, which is never within a tolerance, if there are none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(index.min(last)).copied().unwrap_or(f64::NAN)
}

fn report(checks: &[Check], ok: bool, format: Format) -> Outcome {
    let round = |value: f64| (value * 10_000.0).round() / 10_000.0;
    let rows: Vec<Value> = checks
        .iter()
        .map(|check| {
            json!({
                "what": check.what,
                "unit": check.unit,
                "set": round(check.set),
                "measured": round(check.measured),
                "tolerance": round(check.tolerance),
                "ok": check.ok,
            })
        })
        .collect();
    if format == Format::Json {
        return output::json(&json!({ "ok": ok, "checks": rows }));
    }
    output::list(
        format,
        &rows,
        &[
            ("WHAT", "/what"),
            ("UNIT", "/unit"),
            ("SET", "/set"),
            ("MEASURED", "/measured"),
            ("±", "/tolerance"),
            ("OK", "/ok"),
        ],
    )
}
