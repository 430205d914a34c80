//! The core's surface.

use longspan_proto::time::Time;

use super::{Config, Input, Output, PeerKey, Stats, TrackView, Transmit};

/// One node's forwarding: see the [module](super).
#[derive(Debug)]
pub struct Forwarder {
    config: Config,
    stats: Stats,
}

impl Forwarder {
    /// A node without peers and tracks.
    pub fn new(config: Config) -> Forwarder {
        Forwarder {
            config,
            stats: Stats::default(),
        }
    }

    /// How it was set up.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, _now: Time, _input: Input) {}

    /// What is to be done next; `None` when there is nothing left.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// What goes on this peer's connection next; `None` until the next [`Output::Ready`].
    pub fn poll_transmit(&mut self, _now: Time, _peer: PeerKey) -> Option<Transmit> {
        None
    }

    /// When `handle_timeout` is to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }

    /// Does what is due. Harmless when called early.
    pub fn handle_timeout(&mut self, _now: Time) {}

    /// Counts.
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// Every track as it stands.
    pub fn tracks(&self) -> Vec<TrackView> {
        Vec::new()
    }
}
