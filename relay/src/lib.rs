//! One forwarding node of the backbone: used as a relay by itself, embedded in every edge.
//!
//! * [`forward`]: the pure core: subscriptions, group caches, priorities.
//! * [`node`]: the handle through which an edge publishes, subscribes and calls.

pub mod forward;
pub mod node;
