//! A controller by hand.

use std::net::SocketAddr;

use longspan_proto::{
    LEADER_METADATA,
    control::{
        self, ClaimReply, ClaimRequest, FromNode, ReleaseReply, ReleaseRequest, ToNode, Welcome,
        from_node, nodes_server, to_node,
    },
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::world::soon;

/// One session as the controller sees it.
pub struct Seen {
    pub words: Streaming<FromNode>,
    say: mpsc::Sender<Result<ToNode, Status>>,
}

impl Seen {
    /// The next word that is neither heartbeat nor report nor status.
    pub async fn word(&mut self) -> from_node::Message {
        loop {
            let word = soon("a word", self.words.message()).await.unwrap().unwrap();
            match word.message.unwrap() {
                from_node::Message::Heartbeat(_)
                | from_node::Message::Links(_)
                | from_node::Message::Status(_) => {}
                word => return word,
            }
        }
    }

    pub async fn say(&self, message: to_node::Message) {
        let word = ToNode {
            message: Some(message),
        };
        self.say.send(Ok(word)).await.unwrap();
    }

    pub async fn welcome(&mut self, session: i64) -> control::Join {
        let join = match self.word().await {
            from_node::Message::Join(join) => join,
            other => panic!("a join was expected: {other:?}"),
        };
        self.say(to_node::Message::Welcome(Welcome {
            session,
            ttl_ms: 600,
            ticket_key: Vec::new().into(),
        }))
        .await;
        join
    }
}

struct Service {
    sessions: mpsc::Sender<Seen>,
}

#[tonic::async_trait]
impl nodes_server::Nodes for Service {
    type SessionStream = ReceiverStream<Result<ToNode, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<FromNode>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (say, said) = mpsc::channel(16);
        let words = request.into_inner();
        let seen = Seen { words, say };
        self.sessions
            .send(seen)
            .await
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(said)))
    }

    async fn claim(&self, request: Request<ClaimRequest>) -> Result<Response<ClaimReply>, Status> {
        let request = request.into_inner();
        assert_eq!((request.session, request.edge.as_str()), (7, "a"));
        match request.identity.as_str() {
            "teacher" => Ok(Response::new(ClaimReply {
                generation: 3,
                hls_base: 40,
            })),
            "late" => Err(Status::failed_precondition("teacher holds it")),
            _ => Err(Status::permission_denied("who is that?")),
        }
    }

    async fn release(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<ReleaseReply>, Status> {
        assert_eq!(request.into_inner().generation, 3);
        Ok(Response::new(ReleaseReply {}))
    }
}

/// A controller that does not lead, and says that the one at this URL does.
pub struct Follower(pub String);

#[tonic::async_trait]
impl nodes_server::Nodes for Follower {
    type SessionStream = ReceiverStream<Result<ToNode, Status>>;

    async fn session(
        &self,
        _: Request<Streaming<FromNode>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut status = Status::unavailable("another leads");
        let leader = self.0.parse().unwrap();
        status.metadata_mut().insert(LEADER_METADATA, leader);
        Err(status)
    }

    async fn claim(&self, _: Request<ClaimRequest>) -> Result<Response<ClaimReply>, Status> {
        Err(Status::unavailable("another leads"))
    }

    async fn release(&self, _: Request<ReleaseRequest>) -> Result<Response<ReleaseReply>, Status> {
        Err(Status::unavailable("another leads"))
    }
}

pub struct Controller {
    pub address: SocketAddr,
    sessions: mpsc::Receiver<Seen>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Controller {
    pub async fn start(address: SocketAddr) -> Controller {
        // The port of one that was just stopped is free at once (tokio sets SO_REUSEADDR).
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, sessions) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let service = nodes_server::NodesServer::new(Service { sessions: sender });
            let serve = tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener));
            tokio::select! {
                served = serve => served.unwrap(),
                () = stopped.cancelled() => {}
            }
        });
        Controller {
            address,
            sessions,
            stop,
            task,
        }
    }

    pub async fn session(&mut self) -> Seen {
        soon("a session", self.sessions.recv()).await.unwrap()
    }

    /// Breaks every connection.
    pub async fn kill(self) -> SocketAddr {
        self.stop.cancel();
        self.task.await.unwrap();
        self.address
    }
}
