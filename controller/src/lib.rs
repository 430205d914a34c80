//! The control plane: who is there, where rooms and streams are, which way tracks take.
//!
//! * [`Config`], [`Limits`]: what it is told.
//! * [`routes`]: from measured links to tables, pure.
//! * [`Controller`]: `bind`, then `run` until shutdown.

mod backoff;
mod config;
mod controller;
mod driver;
mod grpc;
mod http;
mod limits;
pub mod routes;
mod state;
mod store;

pub use config::{Config, MIN_ADMIN_TOKEN, StoreConfig, Tls};
pub use controller::{BindError, Controller, Ready};
pub use limits::Limits;

#[cfg(test)]
mod tests;
