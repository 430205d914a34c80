//! The controller's mind: pure.

pub mod key;
