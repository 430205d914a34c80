//! What QUIC is told about a connection between neighbours.

use std::sync::Arc;

use quinn::{
    AckFrequencyConfig, IdleTimeout, TransportConfig,
    congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig},
};

use super::{controller, limits};
use crate::congestion;

/// What differs from node to node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    /// What each link carries, in bits a second. Until links are configured one by one, it is the
    /// same for all of a node's.
    pub link_capacity: u64,
    /// Who decides how much is under way.
    pub controller: Controller,
}

/// Who decides how much is under way on a connection (docs/decisions/congestion.md). All but the
/// first are there to be measured against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Controller {
    /// [`congestion::Window`].
    #[default]
    Ours,
    /// QUIC library's: RFC 9438.
    Cubic,
    /// QUIC library's: RFC 9002.
    NewReno,
    /// QUIC library's, experimental there.
    Bbr,
}

impl Default for Transport {
    fn default() -> Self {
        Transport {
            link_capacity: limits::LINK_CAPACITY,
            controller: Controller::default(),
        }
    }
}

/// As QUIC wants it; `calls` of one neighbour may be under way at once.
pub fn config(transport: &Transport, calls: u32) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(limits::UNI_STREAMS.into())
        // One more for the control stream.
        .max_concurrent_bidi_streams((calls + 1).into())
        .receive_window(limits::RECEIVE_WINDOW.into())
        .stream_receive_window(limits::STREAM_RECEIVE_WINDOW.into())
        .send_window(limits::SEND_WINDOW)
        // Within one priority, the older group's stream goes first.
        .send_fairness(false)
        .max_idle_timeout(IdleTimeout::try_from(limits::IDLE).ok())
        .keep_alive_interval(Some(limits::KEEP_ALIVE))
        .initial_mtu(limits::INITIAL_MTU)
        .ack_frequency_config(Some(AckFrequencyConfig::default()))
        .congestion_controller_factory(factory(transport))
        // Fragments are a later issue; what arrives meanwhile is bounded.
        .datagram_receive_buffer_size(Some(64 << 10));
    config
}

fn factory(transport: &Transport) -> Arc<dyn ControllerFactory + Send + Sync> {
    let initial = limits::INITIAL_WINDOW;
    match transport.controller {
        Controller::Ours => Arc::new(controller::Factory(congestion::Config {
            capacity: transport.link_capacity,
            floor: initial,
        })),
        Controller::Cubic => {
            let mut cubic = CubicConfig::default();
            cubic.initial_window(initial);
            Arc::new(cubic)
        }
        Controller::NewReno => {
            let mut new_reno = NewRenoConfig::default();
            new_reno.initial_window(initial);
            Arc::new(new_reno)
        }
        Controller::Bbr => {
            let mut bbr = BbrConfig::default();
            bbr.initial_window(initial);
            Arc::new(bbr)
        }
    }
}
