//! The node's side of the control plane: one session with some controller, for as long as the
//! node runs. Whatever happens to it, everything that runs goes on.

mod connect;
mod last_good;
mod session;
mod table;

use std::{sync::Arc, time::Duration};

use longspan_proto::{
    control::{ClaimRequest, ReleaseRequest, nodes_client::NodesClient},
    ids::{Generation, RoomName, Stream},
};
use longspan_topology::routes::Version;
use tokio::sync::watch;
use tonic::{Code, transport::Channel};

use crate::{
    node::{BindError, Claim, ClaimError},
    quic::jittered,
    shared::Shared,
};
pub(crate) use connect::Controllers;
pub(crate) use last_good::LastGood;
pub(crate) use table::{derive, parse};

/// The first pause after a controller was not reached; doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A claim or release takes at most so long, waiting for a session included.
const ASK: Duration = Duration::from_secs(5);

/// A session that stands.
#[derive(Clone)]
pub(crate) struct Current {
    client: NodesClient<Channel>,
    id: i64,
}

/// See the [module](self).
pub(crate) struct Link {
    controllers: Controllers,
    last_good: LastGood,
    current: watch::Sender<Option<Current>>,
    /// Why there is no session; for people.
    trouble: watch::Sender<String>,
    /// The version of the last table taken from a controller by this process. What was kept on
    /// disk does not count: after a store was made anew its versions may be lower.
    held: watch::Sender<Option<Version>>,
}

impl Link {
    pub fn new(config: &crate::node::Config) -> Result<Link, BindError> {
        Ok(Link {
            controllers: Controllers::new(config)?,
            last_good: LastGood::new(config.data_dir.as_deref()),
            current: watch::Sender::new(None),
            trouble: watch::Sender::new("no controller was asked yet".into()),
            held: watch::Sender::new(None),
        })
    }

    pub fn last_good(&self) -> &LastGood {
        &self.last_good
    }

    /// Whether a session stands; else why not.
    pub fn state(&self) -> Result<(), String> {
        match self.current.borrow().is_some() {
            true => Ok(()),
            false => Err(self.trouble.borrow().clone()),
        }
    }

    async fn session(&self) -> Result<Current, ClaimError> {
        let mut current = self.current.subscribe();
        let stands = current.wait_for(Option::is_some);
        let stands = tokio::time::timeout(ASK / 2, stands).await;
        stands
            .ok()
            .and_then(Result::ok)
            .and_then(|current| current.clone())
            .ok_or_else(|| ClaimError::Unavailable(self.trouble.borrow().clone()))
    }

    pub async fn claim(
        &self,
        edge: &str,
        room: &RoomName,
        stream: &Stream,
        identity: &str,
    ) -> Result<Claim, ClaimError> {
        let Current { mut client, id } = self.session().await?;
        let asked = client.claim(ClaimRequest {
            session: id,
            edge: edge.into(),
            tenant: room.tenant.to_string(),
            room: room.room.to_string(),
            stream: stream.to_string(),
            identity: identity.into(),
        });
        let reply = answered(asked).await?;
        Ok(Claim {
            generation: Generation(reply.generation),
            hls_base: reply.hls_base,
        })
    }

    pub async fn release(
        &self,
        room: &RoomName,
        stream: &Stream,
        generation: Generation,
    ) -> Result<(), ClaimError> {
        let Current { mut client, id } = self.session().await?;
        let asked = client.release(ReleaseRequest {
            session: id,
            tenant: room.tenant.to_string(),
            room: room.room.to_string(),
            stream: stream.to_string(),
            generation: generation.0,
        });
        answered(asked).await.map(drop)
    }
}

async fn answered<T>(
    asked: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, ClaimError> {
    let unavailable = |why: String| Err(ClaimError::Unavailable(why));
    match tokio::time::timeout(ASK, asked).await {
        Err(_) => unavailable(format!("no answer within {ASK:?}")),
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => {
            let message = status.message().to_owned();
            match status.code() {
                Code::FailedPrecondition => Err(ClaimError::Held { message }),
                Code::InvalidArgument
                | Code::PermissionDenied
                | Code::ResourceExhausted
                | Code::Unauthenticated => Err(ClaimError::Refused { message }),
                _ => unavailable(message),
            }
        }
    }
}

/// Holds a session with one of the controllers. Never returns while there are any.
pub(crate) async fn run(shared: Arc<Shared>) {
    let link = &shared.control;
    if link.controllers.is_empty() {
        return;
    }
    let mut pause = PAUSE_FIRST;
    let mut id = 0;
    let mut reached = None;
    for turn in 0usize.. {
        let (url, connecting) = link.controllers.connect(turn);
        let outcome = match connecting.await {
            Ok(channel) => session::hold(&shared, channel, &mut id).await,
            Err(why) => session::Over { stood: false, why },
        };
        link.current.send_replace(None);
        if outcome.stood {
            pause = PAUSE_FIRST;
        }
        let why = format!("{url}: {}", outcome.why);
        // Once for each change of state, not for each attempt.
        if outcome.stood || reached != Some(false) {
            reached = Some(false);
            tracing::warn!("no session with a controller, what runs goes on: {why}");
        } else {
            tracing::debug!("no session with a controller: {why}");
        }
        link.trouble.send_replace(why);
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
