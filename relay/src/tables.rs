//! What a node makes of the tables it is told: pure.

pub use crate::control::table::{Invalid, derive, parse};
