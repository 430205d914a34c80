//! A whole backbone in virtual time (`sim/`): scenarios told exactly, and plans drawn from seeds.
//!
//! A plan that fails is shrunk, and printed with the command that plays it again.

mod random;
mod scenarios;
