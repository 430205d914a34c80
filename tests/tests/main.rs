//! What no single crate can show.
//!
//! * `bench`: each verb of `longspan bench` once.
//! * `lab`: unmodified programs between hosts of an emulated network; needs /dev/net/tun.
//! * `structure`: the arrows between crates and the purity of cores, as ARCHITECTURE.md tells them.
//! * `congestion`: congestion controllers over an emulated link in virtual time.
//! * `sim`: a whole backbone in virtual time.
//! * `cli`: the command line as scripts see it.
//! * `e2e`: `longspan up` with real clients.
//! * `up`: a backbone of real processes is started, watched, stopped.

mod bench;
mod cli;
mod congestion;
mod e2e;
mod lab;
mod sim;
mod structure;
mod up;
