//! Start-up and shutdown order of a controller.

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, MIN_ADMIN_TOKEN};

/// Why a controller did not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A port is taken, or may not be used.
    #[error("cannot listen on {addr} for {what}: {source}")]
    Listen {
        /// What listens there.
        what: &'static str,
        /// The address asked for.
        addr: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// gRPC without certificates on an address others reach.
    #[error(
        "gRPC on {0} needs certificates (ca, cert, key): without them it listens on loopback only"
    )]
    NeedsTls(SocketAddr),
    /// The admin token can be guessed.
    #[error("the admin token is {0} bytes long; at least {MIN_ADMIN_TOKEN} are needed")]
    WeakToken(usize),
    /// The store cannot be opened.
    #[error("{0}")]
    Store(String),
    /// A certificate or key is not usable.
    #[error("{0}")]
    Tls(String),
}

/// A controller that has its ports and its store.
pub struct Controller {
    config: Config,
    grpc: TcpListener,
    http: TcpListener,
    ready: watch::Sender<Result<(), Arc<str>>>,
}

/// Whether the controller serves now; for `/readyz`.
#[derive(Debug, Clone)]
pub struct Ready(watch::Receiver<Result<(), Arc<str>>>);

impl Ready {
    /// `Err` says why not.
    pub fn check(&self) -> Result<(), String> {
        self.0.borrow().clone().map_err(|why| why.to_string())
    }

    /// Returns when the controller serves (at once if it does already), or when it has ended.
    pub async fn wait(&mut self) {
        let _ = self.0.wait_for(Result::is_ok).await;
    }
}

impl Controller {
    /// Takes the ports and opens the store.
    pub async fn bind(config: Config) -> Result<Controller, BindError> {
        if config.admin_token.len() < MIN_ADMIN_TOKEN {
            return Err(BindError::WeakToken(config.admin_token.len()));
        }
        if config.tls.is_none() && !config.grpc_listen.ip().is_loopback() {
            return Err(BindError::NeedsTls(config.grpc_listen));
        }
        let grpc = listen("gRPC (nodes)", config.grpc_listen).await?;
        let http = listen("HTTP (operators)", config.http_listen).await?;
        let (ready, _) = watch::channel(Err("starting".into()));
        Ok(Controller {
            config,
            grpc,
            http,
            ready,
        })
    }

    /// Where nodes reach it.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc.local_addr().unwrap_or(self.config.grpc_listen)
    }

    /// Where operators reach it.
    pub fn http_addr(&self) -> SocketAddr {
        self.http.local_addr().unwrap_or(self.config.http_listen)
    }

    /// Whether it serves; keep it before `run` takes the controller.
    pub fn ready(&self) -> Ready {
        Ready(self.ready.subscribe())
    }

    /// Serves until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
    }
}

async fn listen(what: &'static str, addr: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(addr)
        .await
        .map_err(|source| BindError::Listen { what, addr, source })
}
