//! An edge: user protocols in and out, on top of an embedded forwarding node. See ARCHITECTURE.md.
//!
//! Pure: [`media`], [`rtmp`], [`flv`], [`fmp4`], [`hls`], [`auth`], [`grants`], [`live::ring`],
//! [`door`].
//! Around them [`Edge`] drives the listeners, the streams watched here ([`live`]) and the streams
//! published here ([`publish`]).

pub mod auth;
mod clock;
mod config;
pub mod door;
mod edge;
pub mod flv;
pub mod fmp4;
mod gateway;
pub mod grants;
pub mod hls;
mod http;
mod line;
pub mod live;
pub mod media;
pub mod messages;
mod metrics;
pub mod publish;
pub mod rooms;
pub mod rtmp;
mod rtmp_server;
pub mod sample;

pub use config::{Config, Limits};
pub use edge::{Addresses, BindError, Edge, Handle};
