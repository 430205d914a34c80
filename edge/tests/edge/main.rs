//! One edge with a controller of the test's own, real sockets and real clients (ffmpeg). What
//! several nodes do together is tested in the workspace's `tests`.

mod backbone;
mod bad_input;
mod client;
mod draining;
mod events;
mod feeding;
mod generations;
mod grants;
mod leaders;
mod leaving;
mod logs;
mod moves;
mod presence;
mod publishers;
mod refused;
mod skipping;
mod viewers;
