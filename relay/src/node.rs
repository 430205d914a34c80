//! The handle of a running forwarding node: what an edge builds on.
