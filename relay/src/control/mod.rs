//! The node's side of the control plane: one session with some controller, for as long as the
//! node runs. Whatever happens to it, everything that runs goes on.

mod connect;
mod last_good;
mod session;
mod status;
pub mod table;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use longspan_proto::{
    control::{ClaimRequest, HeldStream, ReleaseRequest, nodes_client::NodesClient},
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
/// The longest such pause: a controller that begins to lead hears of all nodes before it stops
/// settling (10 s), and 1,000 nodes without a controller make at most 1,000 attempts a second.
const PAUSE_MAX: Duration = Duration::from_secs(2);
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
    /// The streams this node was given and has not given back; told to each controller.
    streams: Mutex<BTreeMap<(RoomName, Stream), HeldStream>>,
}

impl Link {
    pub fn new(config: &crate::node::Config) -> Result<Link, BindError> {
        Ok(Link {
            controllers: Controllers::new(config)?,
            last_good: LastGood::new(config.data_dir.as_deref()),
            current: watch::Sender::new(None),
            trouble: watch::Sender::new("no controller was asked yet".into()),
            held: watch::Sender::new(None),
            streams: Mutex::default(),
        })
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<(RoomName, Stream), HeldStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Whether or not a controller hears of it now, the next one shall not be told otherwise.
    fn given_back(&self, room: &RoomName, stream: &Stream, generation: Generation) {
        let key = (room.clone(), stream.clone());
        let mut streams = self.streams();
        if streams
            .get(&key)
            .is_some_and(|held| held.generation <= generation.0)
        {
            streams.remove(&key);
        }
    }

    /// At most `most` of the streams this node was given.
    fn held_streams(&self, most: usize) -> Vec<HeldStream> {
        self.streams().values().take(most).cloned().collect()
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
        let held = HeldStream {
            tenant: room.tenant.to_string(),
            room: room.room.to_string(),
            stream: stream.to_string(),
            generation: reply.generation,
            hls_base: reply.hls_base,
            identity: identity.into(),
        };
        self.streams().insert((room.clone(), stream.clone()), held);
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
        self.given_back(room, stream, generation);
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
    let mut turns = 0usize..;
    // Who leads, as a controller that does not said; asked next, without a pause.
    let mut leader: Option<String> = None;
    loop {
        let named = leader.take();
        let (url, connecting) = match named.as_deref().map(|url| link.controllers.named(url)) {
            Some(Ok(named)) => named,
            _ => link.controllers.connect(turns.next().unwrap_or_default()),
        };
        let outcome = match connecting.await {
            Ok(channel) => session::hold(&shared, channel, &mut id).await,
            Err(why) => session::Over {
                stood: false,
                why,
                leader: None,
            },
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
        // Two that name each other are not run between without pause.
        if named.is_none() && outcome.leader.is_some() {
            leader = outcome.leader;
            continue;
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
