//! Probes beside QUIC on the same socket (WIRE.md, "Probes"): they neither wait for the congestion
//! window nor die with lost acknowledgements.
//!
//! * [`Socket`]: takes them off what arrives, and sends them.
//! * [`Link`]: what one connection's probes tell.
//! * `send`: sends them, as often as the link deserves.
//! * `report`: tells metrics and controllers.

mod link;
mod report;
mod send;
mod socket;

pub(crate) use link::{Link, Measured};
pub(crate) use report::report;
pub(crate) use send::send;
pub(crate) use socket::Socket;
