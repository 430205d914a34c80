//! Start-up and shutdown order of a controller.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::{
    config::{Config, MIN_ADMIN_TOKEN, StoreConfig},
    driver::{Driver, Handle, Me, Standing},
    grpc,
    http::{self, App},
    store::{Store, embedded::Embedded, etcd::Etcd},
};

/// How long a shutdown waits for peers to take their good-byes.
const GOODBYE: Duration = Duration::from_secs(5);

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
    server: Server,
    http: TcpListener,
    driver: Driver,
    handle: Handle,
}

/// Whether the controller serves now; for `/readyz`.
#[derive(Debug, Clone)]
pub struct Ready(watch::Receiver<Standing>);

impl Ready {
    /// `Err` says why not. A controller that follows another serves no node, but is ready: it
    /// tells nodes who leads.
    pub fn check(&self) -> Result<(), String> {
        match &*self.0.borrow() {
            Standing::Leads | Standing::Follows(_) => Ok(()),
            Standing::Unknown(why) => Err(why.to_string()),
        }
    }

    /// Returns when the controller is ready (at once if it is already), or when it has ended.
    pub async fn wait(&mut self) {
        let ready = |standing: &Standing| !matches!(standing, Standing::Unknown(_));
        let _ = self.0.wait_for(ready).await;
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
        let server = grpc::builder(config.tls.as_ref())
            .map_err(|e| BindError::Tls(format!("the certificates for gRPC: {e}")))?;
        let grpc = listen("gRPC (nodes)", config.grpc_listen).await?;
        let http = listen("HTTP (operators)", config.http_listen).await?;
        let store = open(&config).await.map_err(BindError::Store)?;
        let url = config.grpc_url.clone().unwrap_or_else(|| {
            let scheme = if config.tls.is_some() {
                "https"
            } else {
                "http"
            };
            let addr = grpc.local_addr().unwrap_or(config.grpc_listen);
            format!("{scheme}://{addr}")
        });
        let limits = config.limits.clone();
        // The listener's own address, unless it is every one of the machine.
        let operators = http
            .local_addr()
            .ok()
            .filter(|addr| !addr.ip().is_unspecified());
        let me = Me {
            id: config.id.clone(),
            url,
            http: operators.map(|addr| format!("http://{addr}")),
        };
        let (driver, handle) = Driver::new(me, limits, store);
        Ok(Controller {
            config,
            grpc,
            server,
            http,
            driver,
            handle,
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
        Ready(self.handle.standing.clone())
    }

    /// Serves until `shutdown`, then says good-bye: sessions end, the election is given up.
    pub async fn run(self, shutdown: CancellationToken) {
        let Config {
            limits,
            admin_token,
            clear_leases,
            ..
        } = self.config;
        let service = grpc::Service::new(self.handle.clone(), limits);
        let app = App::new(self.handle, &admin_token, shutdown.clone());
        let leading = self.driver.run(clear_leases, shutdown.clone());
        let nodes = async {
            let served = grpc::serve(self.server, self.grpc, service, shutdown.clone()).await;
            if let Err(why) = served {
                tracing::error!(%why, "the gRPC listener broke");
            }
        };
        let operators = async {
            if let Err(why) = http::serve(app, self.http).await {
                tracing::error!(%why, "the HTTP listener broke");
            }
        };
        let all = async { tokio::join!(leading, nodes, operators) };
        let patience = async {
            shutdown.cancelled().await;
            tokio::time::sleep(GOODBYE).await;
        };
        tokio::select! {
            _ = all => {}
            () = patience => tracing::warn!("connections that did not end in time are cut"),
        }
    }
}

async fn open(config: &Config) -> Result<Arc<dyn Store>, String> {
    Ok(match &config.store {
        StoreConfig::Embedded { path } => Arc::new(Embedded::open(path).await?),
        StoreConfig::Etcd { endpoints } => {
            Arc::new(Etcd::open(endpoints, config.limits.store_timeout).await?)
        }
    })
}

async fn listen(what: &'static str, addr: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(addr)
        .await
        .map_err(|source| BindError::Listen { what, addr, source })
}
