//! Keys.

/// Everything of ours stands below it.
pub const ROOT: &str = "/longspan/v1/";
