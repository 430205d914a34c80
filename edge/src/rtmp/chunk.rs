//! The chunk stream: messages cut into chunks (§5.3).

/// The most bytes of unfinished messages a peer may make us hold, over all its chunk streams.
pub const MAX_PARTIAL: usize = 8 << 20;
