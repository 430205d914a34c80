//! Probes beside QUIC on the same socket (WIRE.md, "Probes"): they neither wait for the congestion
//! window nor die with lost acknowledgements.
//!
//! * [`Socket`]: takes them off what arrives, and sends them.
//! * [`Link`]: one connection's prober, which decides (`longspan_topology::link`).
//! * `drive`: feeds it, sends its probes, tells its events.
//! * `need`: which links are needed as backups; `rate`: how much goes over them.
//! * `report`: tells metrics and controllers.

mod drive;
mod link;
mod need;
mod rate;
mod report;
mod socket;

pub(crate) use drive::drive;
pub(crate) use link::{Link, Measured};
pub(crate) use need::keep_needs;
pub(crate) use report::report;
pub(crate) use socket::Socket;
