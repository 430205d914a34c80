//! Our congestion controller as QUIC sees it: instants become times, and nothing is decided here.

use std::{any::Any, sync::Arc, time::Instant};

use longspan_proto::time::Time;
use quinn::congestion::{Controller, ControllerFactory};
// quinn hands it to controllers but exports it from the crate below only.
use quinn_proto::RttEstimator;

use crate::congestion::{Config, Window};

/// Makes one for each connection.
#[derive(Debug)]
pub(super) struct Factory(pub Config);

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Ours {
            began: now,
            floor: self.0.floor,
            window: Window::new(self.0.clone(), Time::ZERO, mtu),
        })
    }
}

#[derive(Clone)]
struct Ours {
    /// [`Time::ZERO`].
    began: Instant,
    floor: u64,
    window: Window,
}

impl Ours {
    fn time(&self, at: Instant) -> Time {
        Time::ZERO + at.saturating_duration_since(self.began)
    }
}

impl Controller for Ours {
    fn on_sent(&mut self, now: Instant, _bytes: u64, _last: u64) {
        self.window.handle_sent(self.time(now));
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        let (now, sent) = (self.time(now), self.time(sent));
        self.window
            .handle_ack(now, sent, bytes, rtt.get(), !app_limited);
    }

    fn on_end_acks(&mut self, now: Instant, _: u64, _: bool, _: Option<u64>) {
        self.window.handle_acks_end(self.time(now));
    }

    /// No bytes lost: a mark (RFC 9002, 7.1).
    fn on_congestion_event(&mut self, now: Instant, sent: Instant, silence: bool, lost: u64) {
        match lost {
            0 => self.window.handle_mark(self.time(sent)),
            lost => self.window.handle_loss(lost),
        }
        if silence {
            self.window.handle_silence(self.time(now));
        }
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.window.handle_mtu(mtu);
    }

    fn window(&self) -> u64 {
        self.window.bytes()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.floor
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
