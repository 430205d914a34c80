//! One connection's prober, driven: fed, its probes sent, its events told.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use longspan_topology::link::{Event, Input};
use tokio::time::{Instant, sleep_until};

use super::rate::Rates;
use crate::{forward, peers::Peer, shared::Shared};

/// What changes slowly (what the link is needed for, its round trip, its cost) is looked at as
/// often as this.
const LOOK: Duration = Duration::from_millis(100);
/// The core is told of the round trip so often.
const TELL_RTT: Duration = Duration::from_secs(1);
/// What goes over the link is counted over so long: a group of pictures, key frame and all.
const COUNT_LOAD: Duration = Duration::from_secs(1);
/// And of a cost beyond the table's, when it changed by more than this, in µs.
const TELL_COST_US: u64 = 1_000;

/// Probes until the connection is gone.
pub(crate) async fn drive(shared: &Arc<Shared>, peer: &Arc<Peer>) {
    let clock = shared.engine.clock();
    let mut routes = shared.routes.subscribe();
    let mut looked = None::<Instant>;
    let mut told_rtt = None::<Instant>;
    let mut told_cost = 0;
    let mut counted = Instant::now();
    let mut rates = Rates::new(clock.now(), bytes(peer));
    while peer.conn.close_reason().is_none() {
        let now = clock.now();
        let link = &peer.link;
        link.feed(now, Input::Packets(peer.conn.stats().udp_rx.datagrams));
        if looked.is_none_or(|at| at.elapsed() >= LOOK) {
            looked = Some(Instant::now());
            link.feed(now, Input::Need(peer.need(now)));
            if routes.has_changed().unwrap_or(false) {
                routes.mark_unchanged();
                link.told(now);
            }
            let extra_us = link.extra_us(now);
            if extra_us.abs_diff(told_cost) > TELL_COST_US || (extra_us == 0) != (told_cost == 0) {
                told_cost = extra_us;
                let peer = peer.key;
                shared
                    .engine
                    .handle(forward::Input::Cost { peer, extra_us });
            }
        }
        link.timeout(now);
        while let Some(datagram) = link.probe(now) {
            shared.endpoint.probes.send(peer, &datagram);
        }
        while let Some(event) = link.event() {
            tell(shared, peer, event);
        }
        if told_rtt.is_none_or(|at| at.elapsed() >= TELL_RTT)
            && let Some(base) = link.baseline()
        {
            told_rtt = Some(Instant::now());
            shared.engine.handle(forward::Input::Rtt {
                peer: peer.key,
                rtt: Duration::from_micros(base.rtt_us),
            });
        }
        if counted.elapsed() >= COUNT_LOAD {
            counted = Instant::now();
            let [received_bps, sent_bps] = rates.take(clock.now(), bytes(peer));
            peer.received_bps.store(received_bps, Ordering::Relaxed);
            shared.engine.handle(forward::Input::Load {
                peer: peer.key,
                sent_bps,
                capacity_bps: shared.config.transport.link_capacity,
            });
        }
        let look = Instant::now() + LOOK;
        let due = link.due().map_or(look, |due| clock.instant(due).min(look));
        tokio::select! {
            () = sleep_until(due) => {}
            () = link.news() => {}
        }
    }
}

/// Received and sent over a connection so far, packets' overhead included.
fn bytes(peer: &Peer) -> [u64; 2] {
    let stats = peer.conn.stats();
    [stats.udp_rx.bytes, stats.udp_tx.bytes]
}

fn tell(shared: &Arc<Shared>, peer: &Peer, event: Event) {
    match event {
        Event::Up => tracing::info!(peer = %peer.node, "the link is well again"),
        Event::Suspect(why) => tracing::debug!(
            peer = %peer.node,
            cause = why.cause.as_str(),
            silence_ms = why.silence.as_millis() as u64,
            "the link is suspected"
        ),
        Event::Down(why) => {
            tracing::warn!(
                peer = %peer.node,
                cause = why.cause.as_str(),
                silence_ms = why.silence.as_millis() as u64,
                unanswered = why.unanswered,
                "the link is down"
            );
            metrics::histogram!("longspan_failover_detect_seconds").record(why.silence);
        }
    }
    shared.engine.handle(forward::Input::Link {
        peer: peer.key,
        event,
    });
    if !matches!(event, Event::Suspect(_)) {
        // Who dials it, calls over it or tells of it may care.
        shared.peers.touch();
    }
}
