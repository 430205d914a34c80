//! A whole backbone in virtual time: the real pure cores (forwarding, link probing, the controller's
//! state over the real store engine), joined by links of the lab's WAN model.
//!
//! Everything random comes from one seed. Nothing reads a clock, nothing is a thread: the same seed
//! and the same operations give the same run, bit for bit ([`World::hash`] tells).
//!
//! * [`Layout`]: who is where, and which links there can be; [`World`]: all of it, running.
//! * [`Plan`]: a sequence of [`Op`]s from a seed; [`run`]: plays it, checks the laws, and shrinks
//!   what fails.
//! * [`law`]: what must always hold, by its number in DESIGN §8.
//! * [`failover`]: single faults, measured.
//!
//! What is modelled rather than run: QUIC (as lanes over packets, `pipe`), the handshake (`conn`),
//! the drivers' few decisions (whom to dial, when to redial: `conn`, `session`), the election's loop
//! (`plane`). Each of these says which driver it stands for.

mod clock;
mod conn;
mod consumer;
mod data;
mod dice;
pub mod failover;
mod hand;
pub mod law;
mod layout;
mod node;
mod op;
mod people;
mod pipe;
mod plan;
mod plane;
mod probing;
mod queue;
mod run;
mod session;
mod store;
mod world;

pub use consumer::Consumer;
pub use dice::Dice;
pub use layout::{Layout, Link, Placed};
pub use op::{Op, What};
pub use people::FRAME_EVERY;
pub use plan::{Plan, Size};
pub use run::{Failure, Outcome, run, run_watched, shrink};
pub use world::{Setup, TRACE, Tables, World};
