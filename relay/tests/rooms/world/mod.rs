//! What the worlds of rooms share.

pub mod client;
pub mod disk;
pub mod follower;
pub mod history;
pub mod net;
pub mod record;
