//! The emulated world.
//!
//! * [`matrix`]: where regions are and how far apart, read from CSV.
//! * [`wan`]: the pure model of one direction of a link: delay, jitter, loss, rate.
//! * [`world`]: a whole emulated world in one file, which may change while it is used.
//! * [`shim`]: lays that world over real UDP sockets and TCP streams.
//! * [`history`]: what a room's members said and heard, and whether that keeps a room log's laws.
//! * [`tun`]: lays it between hosts in network namespaces, under programs that know nothing of it.
//!
//! [`history`], [`wan`], and [`world`] without its files, are pure: a simulation uses them as they are.

mod delay;
pub mod history;
pub mod matrix;
pub mod shim;
pub mod tun;
pub mod wan;
pub mod world;
