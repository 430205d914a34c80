//! Calls: source-routed streams, served here or passed on (WIRE.md, "Calls").

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use longspan_proto::{
    ids::NodeId,
    wire::{
        MAX_PATH, Writer,
        call::{CALL_STREAM, MAX_CALL_MESSAGE, MAX_OPEN, MessageReader, Open, Reply, Status, Verb},
        peek_varint,
    },
};
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::task::TaskTracker;

use crate::{
    node::{Call, CallError, IncomingCall, call::Ends},
    peers::Peer,
    quic::limits::stream,
    shared::Shared,
};

/// An opening comes with the stream's first packets; whoever takes longer is cut.
const OPENING: Duration = Duration::from_secs(5);
/// The reply comes within a few round trips, whatever the path.
const REPLY: Duration = Duration::from_secs(10);
/// Most read at once while passing on; nothing is read that the other side did not accept.
const PIECE: usize = 16 << 10;
/// Messages that wait in each direction of a call inside this node.
const LOCAL_QUEUE: usize = 16;

/// A call that found no server, and what to answer.
struct Unserved {
    call: Box<IncomingCall>,
    status: Status,
    message: String,
}

/// Who serves what inside this node.
pub(crate) struct Served {
    waiting: usize,
    by_verb: Mutex<HashMap<Verb, mpsc::Sender<IncomingCall>>>,
}

impl Served {
    pub fn new(waiting: usize) -> Served {
        Served {
            waiting,
            by_verb: Mutex::default(),
        }
    }

    /// A later server of a verb takes the place of an earlier one.
    pub fn serve(&self, verb: Verb) -> mpsc::Receiver<IncomingCall> {
        let (sender, receiver) = mpsc::channel(self.waiting);
        self.by_verb
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(verb, sender);
        receiver
    }

    /// Hands a call to its server, if there is one that takes it.
    fn give(&self, call: IncomingCall) -> Result<(), Unserved> {
        let verb = call.open().verb;
        let server = self
            .by_verb
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&verb)
            .cloned();
        let Some(server) = server else {
            return Err(Unserved {
                call: Box::new(call),
                status: Status::NotServed,
                message: format!("nobody serves {verb:?} here"),
            });
        };
        server.try_send(call).map_err(|error| {
            let (status, message) = match &error {
                TrySendError::Full(_) => {
                    let waiting = self.waiting;
                    (Status::Busy, format!("{waiting} calls wait here, the limit"))
                }
                TrySendError::Closed(_) => (Status::NotServed, "its server is gone".into()),
            };
            Unserved {
                call: Box::new(error.into_inner()),
                status,
                message,
            }
        })
    }

    /// A call of this node to itself.
    pub async fn call_self(&self, me: &NodeId, mut open: Open) -> Result<Call, CallError> {
        open.path.clear();
        open.crossed = vec![me.clone()];
        let (up, from_caller) = mpsc::channel(LOCAL_QUEUE);
        let (down, from_callee) = mpsc::channel(LOCAL_QUEUE);
        let callee = IncomingCall::new(open, Ends::local(down, from_caller));
        self.give(callee)
            .map_err(|unserved| CallError::Refused {
                node: me.clone(),
                status: unserved.status,
                message: unserved.message,
            })?;
        greeted(me, Ends::local(up, from_callee)).await
    }
}

/// Opens a call over the first way whose first node is connected and that leads there.
pub(crate) async fn open(
    shared: &Shared,
    to: &NodeId,
    open: Open,
    ways: Vec<Vec<NodeId>>,
) -> Result<Call, CallError> {
    let mut last = CallError::Unreachable {
        node: to.clone(),
        why: "no way is known".into(),
    };
    for way in ways {
        let Some((first, path)) = way.split_first() else {
            continue;
        };
        let Some(peer) = shared.peers.get(first) else {
            last = CallError::Unreachable {
                node: to.clone(),
                why: format!("{first} is not connected"),
            };
            continue;
        };
        let open = Open {
            path: path.to_vec(),
            crossed: vec![shared.config.node.clone()],
            ..open.clone()
        };
        let attempt = async {
            let (send, recv) = begin(&peer, &open).await?;
            greeted(to, Ends::quic(send, recv)).await
        };
        match attempt.await {
            Err(
                error @ (CallError::Unreachable { .. }
                | CallError::Broken(_)
                | CallError::Timeout { .. }
                | CallError::Refused {
                    status: Status::Unreachable,
                    ..
                }),
            ) => last = error,
            done => return done,
        }
    }
    Err(last)
}

async fn begin(peer: &Peer, open: &Open) -> Result<(SendStream, RecvStream), CallError> {
    let broken = |e: &dyn std::fmt::Display| CallError::Broken(e.to_string());
    let opened = tokio::time::timeout(OPENING, peer.conn.open_bi()).await;
    let (mut send, recv) = opened
        .map_err(|_| CallError::Broken(format!("{} takes no more calls at present", peer.node)))?
        .map_err(|e| broken(&e))?;
    let mut out = BytesMut::new();
    open.encode(&mut out);
    send.write_chunk(out.freeze())
        .await
        .map_err(|e| broken(&e))?;
    Ok((send, recv))
}

/// Waits for the callee's reply.
async fn greeted(to: &NodeId, ends: Ends) -> Result<Call, CallError> {
    let mut call = Call::new(ends);
    let reply = tokio::time::timeout(REPLY, call.recv())
        .await
        .map_err(|_| CallError::Timeout {
            node: to.clone(),
            after: REPLY,
        })??
        .ok_or_else(|| CallError::Broken("it ended before the reply".into()))?;
    match Reply::decode(reply).map_err(|e| CallError::Broken(e.to_string()))? {
        Reply::Accepted => Ok(call),
        Reply::Refused { status, message } => Err(CallError::Refused {
            node: to.clone(),
            status,
            message,
        }),
    }
}

/// Takes a neighbour's calls until the connection is gone. How many at once is bounded by the
/// streams it may open.
pub(crate) async fn accept(shared: &Arc<Shared>, tasks: &TaskTracker, peer: &Arc<Peer>) {
    while let Ok((send, recv)) = peer.conn.accept_bi().await {
        let (shared, peer) = (shared.clone(), peer.clone());
        tasks.spawn(async move {
            take(&shared, &peer, send, recv).await;
        });
    }
}

async fn take(shared: &Shared, peer: &Peer, mut send: SendStream, mut recv: RecvStream) {
    let opening = tokio::time::timeout(OPENING, opening(&mut recv));
    let (open, reader) = match opening.await {
        Ok(Ok(opening)) => opening,
        Ok(Err(code)) => {
            metrics::counter!("longspan_rejected_total", "reason" => "call").increment(1);
            let _ = send.reset(code.into());
            let _ = recv.stop(code.into());
            return;
        }
        Err(_) => {
            let _ = send.reset(stream::MALFORMED.into());
            let _ = recv.stop(stream::MALFORMED.into());
            return;
        }
    };
    if let Err((status, message)) = check(shared, peer, &open) {
        return refuse(send, status, message).await;
    }
    if open.path.is_empty() {
        let call = IncomingCall::new(open, Ends::resumed(send, recv, reader));
        if let Err(unserved) = shared.served.give(call) {
            unserved
                .call
                .refuse(unserved.status, &unserved.message)
                .await;
        }
        return;
    }
    pass(shared, open, send, recv, reader).await;
}

/// The stream's type and the opening; the code to reset with if it is neither.
async fn opening(recv: &mut RecvStream) -> Result<(Open, MessageReader), u32> {
    let mut front = BytesMut::new();
    let (kind, at) = loop {
        if let Some(kind) = peek_varint(&front) {
            break kind;
        }
        match recv.read_chunk(PIECE, true).await {
            Ok(Some(chunk)) => front.extend_from_slice(&chunk.bytes),
            _ => return Err(stream::MALFORMED),
        }
    };
    if kind != CALL_STREAM {
        return Err(stream::UNKNOWN);
    }
    let mut reader = MessageReader::new("opening", MAX_OPEN);
    reader.push(&front[at..]);
    loop {
        match reader.poll() {
            Ok(Some(body)) => {
                let open = Open::decode(body).map_err(|_| stream::MALFORMED)?;
                return Ok((open, reader));
            }
            Ok(None) => {}
            Err(_) => return Err(stream::MALFORMED),
        }
        match recv.read_chunk(PIECE, true).await {
            Ok(Some(chunk)) => reader.push(&chunk.bytes),
            _ => return Err(stream::MALFORMED),
        }
    }
}

fn check(shared: &Shared, peer: &Peer, open: &Open) -> Result<(), (Status, String)> {
    let me = &shared.config.node;
    let bad = |why: String| Err((Status::BadPath, why));
    if open.crossed.last() != Some(&peer.node) {
        return bad(format!("the last node crossed is not {}", peer.node));
    }
    if open.crossed.contains(me) || open.path.contains(me) {
        return bad(format!("{me} would be crossed twice"));
    }
    if open.crossed.len() + open.path.len() >= MAX_PATH {
        return bad(format!("more than {MAX_PATH} nodes would be crossed"));
    }
    Ok(())
}

async fn refuse(mut send: SendStream, status: Status, message: String) {
    let mut reply = BytesMut::new();
    Reply::Refused { status, message }.encode(&mut reply);
    let mut out = BytesMut::new();
    out.prefixed(&reply);
    // If the caller is gone there is nobody to tell.
    if send.write_chunk(out.freeze()).await.is_ok() {
        let _ = send.finish();
    }
}

/// Passes a call on to the next node of its path, both ways.
async fn pass(
    shared: &Shared,
    mut open: Open,
    mut send: SendStream,
    mut recv: RecvStream,
    mut reader: MessageReader,
) {
    let next = open.path.remove(0);
    open.crossed.push(shared.config.node.clone());
    let onward = match shared.peers.get(&next) {
        None => Err(format!("{} is not connected to {next}", shared.config.node)),
        Some(peer) => begin(&peer, &open).await.map_err(|e| e.to_string()),
    };
    let (mut up, mut down) = match onward {
        Ok(ends) => ends,
        Err(why) => return refuse(send, Status::Unreachable, why).await,
    };
    let early = reader.take_rest();
    if !early.is_empty() && up.write_chunk(early).await.is_err() {
        let _ = send.reset(stream::UNWANTED.into());
        return;
    }
    tokio::join!(pipe(&mut recv, &mut up), pipe(&mut down, &mut send));
}

/// Passes bytes until one end is done; its manner of ending goes on too.
async fn pipe(from: &mut RecvStream, to: &mut SendStream) {
    loop {
        let stopped = to.stopped();
        let read = tokio::select! {
            read = from.read_chunk(PIECE, true) => read,
            stopped = stopped => {
                let code = stopped.ok().flatten().unwrap_or(stream::UNWANTED.into());
                let _ = from.stop(code);
                return;
            }
        };
        match read {
            Ok(Some(chunk)) => match to.write_chunk(chunk.bytes).await {
                Ok(()) => {}
                Err(WriteError::Stopped(code)) => {
                    let _ = from.stop(code);
                    return;
                }
                Err(_) => {
                    let _ = from.stop(stream::UNWANTED.into());
                    return;
                }
            },
            Ok(None) => {
                let _ = to.finish();
                return;
            }
            Err(ReadError::Reset(code)) => {
                let _ = to.reset(code);
                return;
            }
            Err(_) => {
                let _ = to.reset(stream::UNWANTED.into());
                return;
            }
        }
    }
}

/// One message with its length in front.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 4);
    out.prefixed(message);
    out.freeze()
}

/// For messages on a call.
pub(crate) fn messages() -> MessageReader {
    MessageReader::new("message on a call", MAX_CALL_MESSAGE)
}
