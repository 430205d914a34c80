//! Real processes, real clients: `longspan up` with ffmpeg, etcd and Chromium around it.
//!
//! Every process belongs to a guard that kills it; every wait has a bound and names what it
//! waited for; all ports are chosen free, so the cases run beside each other.

mod backbone;
mod chromium;
mod flv;
mod http;
mod media;
mod obs;
mod process;

mod controllers;
mod crowd;
mod drain;
mod drain_edge;
mod lesson;
mod messages;
mod moves;
mod page;
mod pause;
mod policy;
mod publishers;
mod refusals;
mod refused_messages;
mod stop;
mod store;
mod takeover;
