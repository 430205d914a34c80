//! What a client names when it publishes or plays.

use longspan_proto::ids::{NameError, Room, Stream};

/// The application every stream is under: `rtmp://HOST/live/…`.
pub const APP: &str = "live";

/// What a client wants to publish or play, however it split the URL between `app` and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `app` of `connect`, as said.
    pub app: String,
    /// The name in `publish` or `play`, as said.
    pub key: String,
    /// `tcUrl` of `connect`, as said.
    pub tc_url: String,
    /// `flashVer` of `connect`: the client's program.
    pub client: String,
}

/// Why a target names no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not under [`APP`].
    #[error("application {0:?} is unknown; use rtmp://HOST/{APP} with key ROOM/STREAM")]
    App(String),
    /// Not two names.
    #[error("{0:?} does not name a stream; use rtmp://HOST/{APP} with key ROOM/STREAM")]
    Shape(String),
    /// A name that is not allowed.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Target {
    /// The room and the stream it names.
    pub fn names(&self) -> Result<(Room, Stream), TargetError> {
        Err(TargetError::Shape(self.key.clone()))
    }

    /// A parameter of the query, which clients put behind the key or behind the app.
    pub fn query(&self, _name: &str) -> Option<String> {
        None
    }
}
