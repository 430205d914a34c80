//! What every bench prints: one object, its figures beside what is needed to repeat it.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// A distribution in ms, recorded in µs.
pub struct Distribution(Histogram<u64>);

impl Default for Distribution {
    fn default() -> Distribution {
        Distribution::new()
    }
}

impl Distribution {
    /// Nothing recorded. Keeps three digits up to a minute; above, a minute.
    pub fn new() -> Distribution {
        Distribution(Histogram::new_with_bounds(1, 60_000_000, 3).expect("fixed bounds are valid"))
    }

    /// Records one value.
    pub fn record_us(&mut self, us: u64) {
        self.0.saturating_record(us.max(1));
    }

    /// Adds another's values.
    pub fn add(&mut self, other: &Distribution) {
        self.0.add(&other.0).expect("the same bounds");
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// `p50`, `p99`, `p999`, `max` in ms, and `n`.
    pub fn json(&self) -> Value {
        let ms = |us: u64| (us as f64 / 10.0).round() / 100.0;
        json!({
            "p50": ms(self.0.value_at_quantile(0.5)),
            "p99": ms(self.0.value_at_quantile(0.99)),
            "p999": ms(self.0.value_at_quantile(0.999)),
            "max": ms(self.0.max()),
            "n": self.0.len(),
        })
    }
}

/// The figures of one run, with what is needed to repeat it.
pub fn report(seed: u64, figures: Value) -> Value {
    let mut all = Map::new();
    all.insert(
        "command".into(),
        std::env::args().collect::<Vec<_>>().join(" ").into(),
    );
    all.insert("machine".into(), machine());
    all.insert("seed".into(), seed.into());
    if let Value::Object(figures) = figures {
        all.extend(figures);
    }
    Value::Object(all)
}

/// To so many digits behind the point: what is noise is not printed.
pub fn round(value: f64, digits: i32) -> f64 {
    let unit = 10f64.powi(digits);
    (value * unit).round() / unit
}

/// CPU for a gigabit of payload.
pub fn cpu_s_per_gbit(cpu_us: u64, frames: u64, size: u32) -> f64 {
    let gbit = frames as f64 * f64::from(size) * 8.0 / 1e9;
    round(cpu_us as f64 / 1e6 / gbit, 3)
}

fn machine() -> Value {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!({ "cpu": model.trim_start_matches([' ', '\t', ':']), "cores": cores, "load": load() })
}

/// How busy it was in the last minute (proc(5)): runnable tasks, ours among them.
fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_told_in_ms() {
        let mut distribution = Distribution::new();
        for us in 1..=1_000 {
            distribution.record_us(us * 1_000);
        }
        let json = distribution.json();
        assert_eq!(json["n"], 1_000);
        for (key, ms) in [("p50", 500.0), ("p99", 990.0), ("max", 1_000.0)] {
            let found = json[key].as_f64().unwrap();
            assert!((found / ms - 1.0).abs() < 0.002, "{key}: {found}");
        }
    }

    #[test]
    fn figures_come_with_what_repeats_them() {
        let report = report(7, json!({ "lost": 0 }));
        assert_eq!((&report["seed"], &report["lost"]), (&json!(7), &json!(0)));
        assert!(report["machine"]["cores"].as_u64() > Some(0), "{report}");
        assert!(report["command"].is_string());
    }

    #[test]
    fn a_gigabit_is_a_million_datagrams_of_125_bytes() {
        assert_eq!(cpu_s_per_gbit(2_000_000, 1_000_000, 125), 2.0);
        assert_eq!(round(1.237, 2), 1.24);
    }
}
