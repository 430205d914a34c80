//! One end of one link: how it does, and whether it lives. Pure.
//!
//! * [`Prober`]: schedule, estimators and detector together. Feed it [`Input`]s with the time, send
//!   what `poll_probe` gives, take [`Event`]s, call `handle_timeout` at `poll_timeout`.
//! * [`estimator`]: delay, jitter and loss of one direction out of the probes that arrive.
//! * [`detector`]: when silence is suspicious, and when it is a verdict.
//! * [`drift`]: by how much a link costs more now than when the route table was made.

pub mod detector;
pub mod drift;
pub mod estimator;
mod loss;
mod prober;
#[cfg(test)]
mod tests;

pub use detector::{Cause, Event, Life, Why};
pub use loss::Loss;
pub use prober::{Baseline, Cadence, Foreign, Input, Measures, Need, Prober};
