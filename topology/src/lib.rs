//! The world as a graph: pure, no clock, no socket.
//!
//! * [`routes`]: what one node knows of the ways to others (its route table, as data).

pub mod routes;
