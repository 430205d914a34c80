//! What is told of the links that end here: to the metrics, and to the controller.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use longspan_proto::{
    control::LinkReport,
    ids::{Net, NodeId},
};
use longspan_topology::link::Life;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Measured;
use crate::shared::Shared;

/// Reports are sent so often.
const EVERY: Duration = Duration::from_secs(1);
/// And between two, when something changed much; it is looked for so often.
const LOOK: Duration = Duration::from_millis(100);
/// A change of the delay or the round trip by more than this share is told at once.
const LARGE: f64 = 0.2;
/// What changes by less than this is no change, whatever its share: in µs.
const SMALL_US: u64 = 2_000;
/// A change of the loss by more than this is told at once: repairing it costs tens of ms on a long
/// link.
const LOSS: f64 = 0.03;

/// Reports until stopped.
pub(crate) async fn report(shared: Arc<Shared>) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<Instant> = None;
    loop {
        looks.tick().await;
        let reports = collect(&shared);
        let due = last.is_none_or(|last| last.elapsed() >= EVERY);
        if due || is_large(&shared.reports.borrow(), &reports) {
            last = Some(Instant::now());
            for report in &reports {
                measure(&shared, report);
            }
            shared.reports.send_replace(Arc::new(reports));
        }
    }
}

fn collect(shared: &Shared) -> Vec<LinkReport> {
    let net = Net::internet();
    let mut reports = Vec::new();
    let mut absent: BTreeSet<NodeId> = shared.routes.borrow().neighbours.iter().cloned().collect();
    absent.remove(&shared.config.node);
    for peer in shared.peers.all() {
        absent.remove(&peer.node);
        let Measured { life, metrics } = peer.link.measured();
        // Before the first round trip there is nothing to tell.
        let Some(metrics) = metrics else { continue };
        reports.push(LinkReport {
            from: peer.node.to_string(),
            net: net.to_string(),
            up: life != Life::Down,
            raw_delay_us: metrics.raw_delay_us,
            rtt_us: metrics.rtt_us,
            jitter_p95_us: metrics.jitter_p95_us,
            loss: metrics.loss,
            rate_bps: peer.received_bps.load(Ordering::Relaxed),
        });
    }
    reports.extend(absent.into_iter().map(|node| LinkReport {
        from: node.to_string(),
        net: net.to_string(),
        up: false,
        ..LinkReport::default()
    }));
    reports.sort_by(|a, b| a.from.cmp(&b.from));
    reports
}

fn measure(shared: &Shared, report: &LinkReport) {
    let labels = [
        ("from", report.from.clone()),
        ("to", shared.config.node.to_string()),
        ("net", report.net.clone()),
    ];
    metrics::gauge!("longspan_link_up", &labels).set(f64::from(u8::from(report.up)));
    if report.up {
        let seconds = |us: u64| us as f64 / 1e6;
        metrics::gauge!("longspan_link_rtt_seconds", &labels).set(seconds(report.rtt_us));
        metrics::gauge!("longspan_link_jitter_seconds", &labels).set(seconds(report.jitter_p95_us));
        metrics::gauge!("longspan_link_loss_ratio", &labels).set(report.loss);
    }
}

/// Whether the controller should know now.
fn is_large(old: &[LinkReport], new: &[LinkReport]) -> bool {
    let differs = |a: u64, b: u64| {
        let by = a.abs_diff(b);
        by > SMALL_US && by as f64 > LARGE * a as f64
    };
    old.len() != new.len()
        || old.iter().zip(new).any(|(a, b)| {
            // The raw difference holds the clocks' offset: its change is compared with the trip.
            let moved = a.raw_delay_us.abs_diff(b.raw_delay_us);
            a.from != b.from
                || a.up != b.up
                || (a.loss - b.loss).abs() > LOSS
                || differs(a.rtt_us, b.rtt_us)
                || (moved > SMALL_US && moved as f64 > LARGE * (a.rtt_us as f64 / 2.0))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(rtt_us: u64, raw_delay_us: i64, up: bool) -> Vec<LinkReport> {
        vec![LinkReport {
            from: "a".into(),
            net: "internet".into(),
            up,
            raw_delay_us,
            rtt_us,
            ..LinkReport::default()
        }]
    }

    #[test]
    fn a_change_above_a_fifth_is_told_at_once() {
        let old = link(100_000, -5_000_000, true);
        assert!(!is_large(&old, &link(120_000, -5_000_000, true)));
        assert!(is_large(&old, &link(120_001, -5_000_000, true)));
        assert!(!is_large(&old, &link(100_000, -4_990_000, true)));
        assert!(is_large(&old, &link(100_000, -4_989_999, true)));
        assert!(is_large(&old, &link(100_000, -5_000_000, false)));
        assert!(is_large(&old, &[]));
    }

    #[test]
    fn loss_that_comes_is_told_at_once() {
        let lossy = |loss| {
            let mut link = link(100_000, 0, true);
            link[0].loss = loss;
            link
        };
        assert!(!is_large(&lossy(0.01), &lossy(0.03)));
        assert!(is_large(&lossy(0.01), &lossy(0.05)));
        assert!(is_large(&lossy(0.15), &lossy(0.01)));
    }

    #[test]
    fn on_a_short_link_a_millisecond_is_no_news() {
        assert!(!is_large(&link(500, 250, true), &link(1_500, 750, true)));
    }
}
