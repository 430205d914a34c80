//! What nodes reach: the service of `control.proto`.
//!
//! Only the leading controller serves. Another answers UNAVAILABLE and names the leader, where nodes
//! go at once; they have the list of all controllers besides.

mod parse;
mod serve;

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, Stream};
use longspan_proto::{
    LEADER_METADATA,
    control::{
        ClaimReply, ClaimRequest, FromNode, ReleaseReply, ReleaseRequest, ToNode, from_node,
        nodes_server::Nodes,
    },
};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    driver::{Ended, Handle, Message, Session, Standing},
    limits::Limits,
    state::{Conn, Refused},
};
pub use serve::{builder, serve};

/// How long a session may take to say who it is.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The service.
pub struct Service {
    handle: Handle,
    limits: Limits,
}

impl Service {
    /// In front of this loop.
    pub fn new(handle: Handle, limits: Limits) -> Service {
        Service { handle, limits }
    }

    fn leads(&self) -> Result<(), Status> {
        match &*self.handle.standing.borrow() {
            Standing::Leads => Ok(()),
            Standing::Follows(leader) => {
                let mut status = Status::unavailable(format!(
                    "this controller does not lead; {} at {} does",
                    leader.id, leader.url
                ));
                if let Ok(url) = leader.url.parse() {
                    status.metadata_mut().insert(LEADER_METADATA, url);
                }
                Err(status)
            }
            Standing::Unknown(why) => Err(Status::unavailable(format!("nobody leads: {why}"))),
        }
    }

    /// Asks the loop. A dropped reply: it leads no more.
    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Status> {
        self.leads()?;
        let gone = || Status::unavailable("this controller does not lead any more");
        let (reply, answer) = oneshot::channel();
        let sent = self.handle.messages.send(message(reply)).await;
        sent.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

#[tonic::async_trait]
impl Nodes for Service {
    type SessionStream = Pushes;

    async fn session(
        &self,
        request: Request<Streaming<FromNode>>,
    ) -> Result<Response<Pushes>, Status> {
        self.leads()?;
        let certificates = request.peer_certs();
        let mut said = request.into_inner();
        let first = tokio::time::timeout(JOIN_TIMEOUT, said.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no join came within 10 s"))??;
        let Some(from_node::Message::Join(join)) = first.and_then(|m| m.message) else {
            return Err(rejected("not_joined", "the first message must be join"));
        };
        let joined = parse::join(join).map_err(|why| rejected("bad_join", &why))?;
        let id = joined.node.id.clone();
        parse::certified(certificates.as_deref().map(Vec::as_slice), &id)?;

        let (pushes, queue) = mpsc::channel(self.limits.session_queue);
        let (close, closed) = oneshot::channel();
        let to = Session { pushes, close };
        let conn = self
            .ask(|reply| Message::Join {
                join: Box::new(joined),
                to,
                reply,
            })
            .await?
            .map_err(status)?;
        let (refuse, refused) = oneshot::channel();
        let reader = Reader {
            handle: self.handle.clone(),
            conn,
            max_links: self.limits.links_per_report,
        };
        let reading = tokio::spawn(reader.run(said, refuse));
        Ok(Response::new(Pushes {
            queue,
            closed: Some(closed),
            refused: Some(refused),
            reading: reading.abort_handle(),
            _left: Left {
                handle: self.handle.clone(),
                conn,
            },
        }))
    }

    async fn claim(&self, request: Request<ClaimRequest>) -> Result<Response<ClaimReply>, Status> {
        let certificates = request.peer_certs();
        let claim =
            parse::claim(request.into_inner()).map_err(|why| rejected("bad_claim", &why))?;
        parse::certified(certificates.as_deref().map(Vec::as_slice), &claim.edge)?;
        let granted = self.ask(|reply| Message::Claim(claim, reply)).await?;
        let granted = granted.map_err(status)?;
        Ok(Response::new(ClaimReply {
            generation: granted.generation.0,
            hls_base: granted.hls_base,
        }))
    }

    async fn release(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<ReleaseReply>, Status> {
        let release = request.into_inner();
        let (room, stream) =
            parse::release(&release).map_err(|why| rejected("bad_release", &why))?;
        self.ask(|reply| Message::Release {
            session: release.session,
            room,
            stream,
            generation: longspan_proto::ids::Generation(release.generation),
            reply,
        })
        .await?;
        Ok(Response::new(ReleaseReply {}))
    }
}

/// Reads what a node says, until it ends or says something that cannot be.
struct Reader {
    handle: Handle,
    conn: Conn,
    max_links: usize,
}

impl Reader {
    async fn run(self, mut said: Streaming<FromNode>, refuse: oneshot::Sender<Status>) {
        while let Ok(Some(message)) = said.message().await {
            match parse::said(message, self.max_links) {
                Ok(said) => {
                    let message = Message::Said(self.conn, said);
                    if self.handle.messages.send(message).await.is_err() {
                        return;
                    }
                }
                Err(why) => {
                    let _ = refuse.send(rejected("bad_message", &why));
                    return;
                }
            }
        }
        // The node has closed its side: so is ours.
        let _ = refuse.send(Status::cancelled("the node ended its session"));
    }
}

/// Tells the loop that a session ended, however it did.
struct Left {
    handle: Handle,
    conn: Conn,
}

impl Drop for Left {
    fn drop(&mut self) {
        let (messages, conn) = (self.handle.messages.clone(), self.conn);
        tokio::spawn(async move { messages.send(Message::Left(conn)).await });
    }
}

/// What is pushed to a node. Ends with the reason, ahead of what still waits in the queue: a node
/// that does not read it would not read the reason behind it.
pub struct Pushes {
    queue: mpsc::Receiver<ToNode>,
    closed: Option<oneshot::Receiver<Ended>>,
    refused: Option<oneshot::Receiver<Status>>,
    reading: tokio::task::AbortHandle,
    _left: Left,
}

impl Stream for Pushes {
    type Item = Result<ToNode, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(refused) = &mut this.refused
            && let Poll::Ready(told) = refused.poll_unpin(cx)
        {
            this.refused = None;
            this.queue.close();
            if let Ok(status) = told {
                return Poll::Ready(Some(Err(status)));
            }
        }
        if let Some(closed) = &mut this.closed
            && let Poll::Ready(told) = closed.poll_unpin(cx)
        {
            this.closed = None;
            this.queue.close();
            let status = match told {
                Ok(why @ Ended::Slow(_)) => Status::resource_exhausted(why.to_string()),
                Ok(why @ Ended::Closed(_)) => Status::aborted(why.to_string()),
                Err(_) => Status::unavailable("this controller does not lead any more"),
            };
            return Poll::Ready(Some(Err(status)));
        }
        this.queue.poll_recv(cx).map(|message| message.map(Ok))
    }
}

impl Drop for Pushes {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

fn rejected(reason: &'static str, why: &str) -> Status {
    metrics::counter!("longspan_rejected_total", "reason" => reason).increment(1);
    Status::invalid_argument(why)
}

fn status(refused: Refused) -> Status {
    let why = refused.to_string();
    match refused {
        Refused::Held { .. } => Status::failed_precondition(why),
        Refused::Reserved(_) => Status::invalid_argument(why),
        Refused::Limit { .. } => Status::resource_exhausted(why),
        Refused::NoSession { .. } | Refused::Unavailable(_) => Status::unavailable(why),
    }
}
