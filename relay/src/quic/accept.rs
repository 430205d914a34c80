//! Who dials this node.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{hello, limits, peer, refusal::Refusal};
use crate::shared::Shared;

/// Takes connections until the token is cancelled.
pub(crate) async fn accept(shared: Arc<Shared>, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        let incoming = tokio::select! {
            () = stop.cancelled() => return,
            incoming = shared.endpoint.quic.accept() => match incoming {
                Some(incoming) => incoming,
                None => return,
            },
        };
        let (shared, tracker) = (shared.clone(), tasks.clone());
        tasks.spawn(async move {
            let address = incoming.remote_address();
            let greet = async {
                let conn = incoming.accept()?.await?;
                let greeted = hello::acceptor(&conn, &shared.config).await;
                Ok::<_, Refusal>((conn, greeted))
            };
            match tokio::time::timeout(limits::HANDSHAKE, greet).await {
                Ok(Ok((conn, greeted))) => {
                    let begun = greeted
                        .and_then(|g| peer::begin(&shared, &tracker, conn.clone(), g, false));
                    if let Err(refusal) = begun {
                        refuse(&conn, &refusal);
                    }
                }
                Ok(Err(refusal)) => refusal.tell(address),
                // Dropping the half-made connection closes it.
                Err(_) => Refusal::Timeout(limits::HANDSHAKE).tell(address),
            }
        });
    }
}

/// Tells both sides why.
pub(super) fn refuse(conn: &quinn::Connection, refusal: &Refusal) {
    refusal.tell(conn.remote_address());
    conn.close(refusal.code().into(), refusal.to_string().as_bytes());
}
