//! A stream's viewers.

pub mod ring;
