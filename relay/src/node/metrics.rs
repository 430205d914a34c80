//! What a node counts and measures (INTERFACES.md, "Metrics").

use std::{sync::Arc, time::Duration};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

use crate::shared::Shared;

/// The core's counts are copied so often.
const EVERY: Duration = Duration::from_secs(1);

/// Names, units and meanings. Harmless when repeated.
pub(super) fn describe() {
    describe_counter!(
        "longspan_frames_forwarded_total",
        Unit::Count,
        "Frames put on connections to neighbours, each receiver counted."
    );
    describe_counter!(
        "longspan_link_bytes_total",
        Unit::Bytes,
        "Frames and control messages sent over a link, counted by its sending end; class is \
         realtime (audio, messages), state, video or control."
    );
    describe_counter!(
        "longspan_frames_dropped_total",
        Unit::Count,
        "Frames (by reason duplicate, gap, unknown, cache_full) or whole groups of one receiver \
         (stale, evicted, broken) that were not forwarded."
    );
    describe_counter!(
        "longspan_tracks_shed_total",
        Unit::Count,
        "Tracks that were sent another way because the link they came over is full."
    );
    describe_counter!(
        "longspan_rejected_total",
        Unit::Count,
        "Connections, calls, probes and subscriptions refused, by reason."
    );
    describe_counter!(
        "longspan_config_nacks_total",
        Unit::Count,
        "Route tables refused."
    );
    describe_gauge!(
        "longspan_link_up",
        Unit::Count,
        "1 while a link that ends here lives."
    );
    describe_gauge!(
        "longspan_link_rtt_seconds",
        Unit::Seconds,
        "Smoothed round trip of the probes."
    );
    describe_gauge!(
        "longspan_link_jitter_seconds",
        Unit::Seconds,
        "95th percentile of what recent probes took beyond the quickest."
    );
    describe_gauge!(
        "longspan_link_loss_ratio",
        Unit::Count,
        "Share of probes lost, 0 to 1."
    );
    describe_gauge!(
        "longspan_subscriptions",
        Unit::Count,
        "Receivers of tracks: neighbours' subscriptions and this node's own."
    );
    describe_gauge!("longspan_tracks", Unit::Count, "Tracks known.");
    describe_gauge!(
        "longspan_cache_bytes",
        Unit::Bytes,
        "What the group caches hold."
    );
    describe_gauge!(
        "longspan_route_epoch",
        Unit::Count,
        "The table's number within its election."
    );
    describe_counter!(
        "longspan_log_packets_lost_total",
        Unit::Count,
        "Packets between members of placement groups that were lost here, by reason: full, unreachable, \
         refused (by the neighbour), busy, stranger (it may not speak for that member), stalled."
    );
    describe_counter!(
        "longspan_log_halted_total",
        Unit::Count,
        "Members of placement groups on this node that could go no further."
    );
    describe_counter!(
        "longspan_log_messages_total",
        Unit::Count,
        "Messages given their place at this node, the leader of a room's group, by class."
    );
    describe_counter!(
        "longspan_log_duplicates_total",
        Unit::Count,
        "Messages sent again and answered with their first place."
    );
    describe_counter!(
        "longspan_failovers_total",
        Unit::Count,
        "Tracks that left their upstream without a table's word, by cause: silence, one_way, \
         closed, degraded, leaving."
    );
    describe_histogram!(
        "longspan_failover_detect_seconds",
        Unit::Seconds,
        "Silence at the verdict that a link is down."
    );
    describe_histogram!(
        "longspan_failover_recover_seconds",
        Unit::Seconds,
        "From the first suspicion until a track came from elsewhere."
    );
    describe_gauge!("longspan_peers", Unit::Count, "Neighbours connected.");
}

/// Copies the core's counts until stopped.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let stats = shared.engine.view(|core| core.stats());
        gauge!("longspan_subscriptions").set(stats.subscriptions as f64);
        gauge!("longspan_tracks").set(stats.tracks as f64);
        gauge!("longspan_cache_bytes").set(stats.cache_bytes as f64);
        gauge!("longspan_peers").set(stats.peers as f64);
        gauge!("longspan_route_epoch").set(shared.routes.borrow().version.n as f64);
        for (reason, count) in [
            ("duplicate", stats.frames_duplicate),
            ("gap", stats.frames_gap),
            ("unknown", stats.frames_unknown),
            ("cache_full", stats.frames_cache_full),
            ("stale", stats.groups_stale),
            ("evicted", stats.groups_evicted),
            ("broken", stats.groups_broken),
        ] {
            counter!("longspan_frames_dropped_total", "reason" => reason).absolute(count);
        }
        counter!("longspan_tracks_shed_total").absolute(stats.shed);
        for (reason, count) in stats.refused.iter() {
            let reason = format!("subscription_{reason}");
            counter!("longspan_rejected_total", "reason" => reason).absolute(count);
        }
    }
}
