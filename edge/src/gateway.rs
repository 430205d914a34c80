//! What both listeners do with a TCP connection.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::metrics::rejected;

/// How long to wait when the process is out of file descriptors: some will be given back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener that accepts a bounded number of connections at once.
pub(crate) struct Listener {
    tcp: TcpListener,
    permits: Arc<Semaphore>,
    /// The slug under which a connection over the limit is counted.
    over: &'static str,
}

/// A connection; it counts as one for as long as the permit is held.
pub(crate) struct Accepted {
    pub(crate) tcp: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) permit: OwnedSemaphorePermit,
}

impl Listener {
    pub(crate) async fn bind(
        address: SocketAddr,
        limit: usize,
        over: &'static str,
    ) -> io::Result<Listener> {
        Ok(Listener {
            tcp: TcpListener::bind(address).await?,
            permits: Arc::new(Semaphore::new(limit)),
            over,
        })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The next connection; `None` once `stop` is cancelled. One over the limit is closed
    /// unanswered: an answer would cost what the limit protects.
    pub(crate) async fn accept(&self, stop: &CancellationToken) -> Option<Accepted> {
        loop {
            let accepted = stop.run_until_cancelled(self.tcp.accept()).await?;
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = self.permits.clone().try_acquire_owned() else {
                rejected(self.over);
                continue;
            };
            // Frames are sent whole, and at once.
            if tcp.set_nodelay(true).is_ok() {
                return Some(Accepted { tcp, peer, permit });
            }
        }
    }
}
