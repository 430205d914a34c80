//! The world as a graph: pure, no clock, no socket.
//!
//! * [`graph`]: nodes and measured links; [`cost`]: what a link costs.
//! * [`policy`]: what a room asks of its paths.
//! * [`paths`]: the best path and a backup between every two nodes.
//! * [`neighbours`]: whom relays are connected to.
//! * [`routes`]: what one node knows of the ways to others (its route table, as data).
//! * [`tables`]: checking route tables; [`encoding`]: how they travel.
//! * [`hysteresis`]: when a better path is worth moving to.
//! * [`ring`]: which placement group keeps a room's log.
//! * [`link`]: one end of a link: its delay, jitter and loss out of probes, and whether it lives.

mod clocks;
pub mod cost;
pub mod encoding;
pub mod graph;
pub mod hysteresis;
pub mod link;
pub mod neighbours;
pub mod paths;
pub mod policy;
pub mod ring;
pub mod routes;
pub mod tables;
