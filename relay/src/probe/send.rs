//! How often a link is probed.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use longspan_proto::time::Time;
use longspan_topology::estimator::Life;
use tokio::time::{Instant, sleep_until};

use crate::{forward::Input, peers::Peer, shared::Shared};

/// A link that carries no track.
const IDLE: Duration = Duration::from_secs(1);
/// A fresh connection, for [`SETTLING_FOR`], so that its measures are good early.
const SETTLING: Duration = Duration::from_millis(200);
const SETTLING_FOR: Duration = Duration::from_secs(5);
/// A link that carried a frame within [`CARRYING_FOR`].
const CARRYING: Duration = Duration::from_millis(50);
const CARRYING_FOR: Duration = Duration::from_secs(2);
/// A link that is suspected: a verdict is wanted.
const SUSPECT: Duration = Duration::from_millis(5);
/// The core is told of the round trip so often.
const TELL_RTT: Duration = Duration::from_secs(1);

fn interval(now: Time, peer: &Peer, life: Life) -> Duration {
    let carried = Time::from_micros(peer.carried.load(Ordering::Relaxed));
    let carrying = carried != Time::ZERO && now.saturating_since(carried) < CARRYING_FOR;
    match life {
        Life::Suspect => SUSPECT,
        // The verdict stands: no need to hurry.
        Life::Down => SETTLING,
        Life::Up if carrying => CARRYING,
        Life::Up if now.saturating_since(peer.since) < SETTLING_FOR => SETTLING,
        Life::Up => IDLE,
    }
}

/// Probes until the connection is gone.
pub(crate) async fn send(shared: &Arc<Shared>, peer: &Arc<Peer>) {
    let clock = shared.engine.clock();
    let mut suspect = false;
    let mut told = Instant::now();
    let mut last = Instant::now();
    while peer.conn.close_reason().is_none() {
        let now = clock.now();
        peer.link.packets(now, peer.conn.stats().udp_rx.datagrams);
        shared.endpoint.probes.send(peer, &peer.link.probe(now));
        last = last.max(Instant::now());

        let measured = peer.link.measured(now);
        if suspect != (measured.life != Life::Up) {
            suspect = !suspect;
            tracing::info!(peer = %peer.node, suspect, "the link's life is in question");
            shared.engine.handle(Input::Suspect {
                peer: peer.key,
                suspect,
            });
        }
        if told.elapsed() >= TELL_RTT
            && let Some(base) = peer.link.baseline()
        {
            told = Instant::now();
            shared.engine.handle(Input::Rtt {
                peer: peer.key,
                rtt: Duration::from_micros(base.rtt_us),
            });
        }
        // In short steps, so that a link that begins to carry is probed at once as such.
        loop {
            let wait = interval(clock.now(), peer, measured.life);
            let due = last + wait;
            let step = (Instant::now() + SETTLING).min(due);
            sleep_until(step).await;
            if Instant::now() >= due || measured.life != Life::Up {
                break;
            }
        }
        last = Instant::now();
    }
}
