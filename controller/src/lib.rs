//! The control plane: who is there, where rooms and streams are, which way tracks take.
//!
//! * [`Config`], [`Limits`]: what it is told.
//! * [`routes`]: from measured links to tables, pure.
//! * [`Controller`]: `bind`, then `run` until shutdown.
//! * [`state`]: its pure mind; [`store`]: where records are kept. The simulation drives both.

mod backoff;
mod config;
mod controller;
mod driver;
mod grpc;
mod http;
mod limits;
mod placing;
pub mod routes;
pub mod state;
pub mod store;

pub use config::{Config, MIN_ADMIN_TOKEN, StoreConfig, Tls};
pub use controller::{BindError, Controller, Ready};
pub use limits::Limits;
pub use routes::Report;

#[cfg(test)]
mod tests;
