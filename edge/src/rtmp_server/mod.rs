//! RTMP over TCP: each connection drives one [`rtmp::Session`](crate::rtmp::Session).

mod connection;
mod play;
mod publish;

use std::sync::Arc;

use self::connection::Connection;
use crate::{edge::Shared, gateway::Listener, metrics::rejected};

/// Accepts connections until the edge stops.
pub(crate) async fn serve(shared: Arc<Shared>, listener: Listener) {
    while let Some(accepted) = listener.accept(&shared.stop).await {
        let shared = shared.clone();
        shared.tasks.clone().spawn(async move {
            let _permit = accepted.permit;
            let peer = accepted.peer;
            let connection = Connection::new(shared, accepted.tcp, peer);
            match connection.run().await {
                Ok(()) => tracing::debug!(%peer, "RTMP connection done"),
                Err(reason) => {
                    if let Some(slug) = reason.slug() {
                        rejected(slug);
                    }
                    tracing::info!(%peer, %reason, "RTMP connection closed");
                }
            }
        });
    }
}
