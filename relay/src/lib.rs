//! One forwarding node of the backbone: used as a relay by itself, embedded in every edge.
//!
//! * [`forward`]: the pure core: subscriptions, group caches, priorities.
//! * [`congestion`]: how much may be under way on a connection; pure, too.
//! * [`node`]: the handle through which an edge publishes, subscribes and calls.
//! * [`roomlog`]: placement groups: give rooms' messages their order and keep them.
//! * [`tls`]: who a node is to others.
//! * [`quic`]: connections between neighbours; `probe`: what is measured beside them; `calls`:
//!   streams along a path; `attach`: over which relay an edge is reached; `control`: the session
//!   with the controllers; `engine`: the core's driver.

mod attach;
mod calls;
pub mod congestion;
mod control;
mod engine;
pub mod forward;
mod inbox;
pub mod node;
mod peers;
mod probe;
pub mod quic;
pub mod roomlog;
mod shared;
pub mod tables;
pub mod tls;
