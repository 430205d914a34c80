//! The two ends of a call.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use longspan_proto::{
    ids::NodeId,
    wire::call::{MAX_CALL_MESSAGE, MessageReader, Open, Reply, Status},
};
use quinn::{RecvStream, SendStream};
use tokio::sync::mpsc;

use crate::{calls, engine::Clock, peers::Peer, quic::limits::stream};

/// Why a call did not come about, or ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No way leads there now.
    #[error("{node} is not reachable: {why}")]
    Unreachable {
        /// The node that was called.
        node: NodeId,
        /// What the last way failed of.
        why: String,
    },
    /// It was refused.
    #[error("the call to {node} was refused: {message}")]
    Refused {
        /// The node that was called; one on the way to it may have refused.
        node: NodeId,
        /// Why.
        status: Status,
        /// The same in words.
        message: String,
    },
    /// No reply came.
    #[error("{node} did not reply within {after:?}")]
    Timeout {
        /// The node that was called.
        node: NodeId,
        /// How long was waited.
        after: Duration,
    },
    /// A message is too long to be sent.
    #[error("a message of {len} bytes; the limit is {MAX_CALL_MESSAGE}")]
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// The other end, or a node between, went away.
    #[error("the call broke: {0}")]
    Broken(String),
}

/// Messages both ways, in order, with back-pressure.
pub struct Call {
    sender: CallSender,
    receiver: CallReceiver,
}

impl Call {
    pub(crate) fn new(ends: Ends) -> Call {
        Call {
            sender: CallSender(ends.0),
            receiver: CallReceiver(ends.1),
        }
    }

    /// See [`CallSender::send`].
    pub async fn send(&mut self, message: Bytes) -> Result<(), CallError> {
        self.sender.send(message).await
    }

    /// See [`CallReceiver::recv`].
    pub async fn recv(&mut self) -> Result<Option<Bytes>, CallError> {
        self.receiver.recv().await
    }

    /// See [`CallSender::finish`].
    pub fn finish(&mut self) {
        self.sender.finish();
    }

    /// The two directions, for two tasks.
    pub fn split(self) -> (CallSender, CallReceiver) {
        (self.sender, self.receiver)
    }
}

/// The direction away from this end. Dropping it finishes it.
pub struct CallSender(Up);

impl CallSender {
    /// Sends one message of at most 1 MB; waits while the other end does not read.
    pub async fn send(&mut self, message: Bytes) -> Result<(), CallError> {
        if message.len() > MAX_CALL_MESSAGE {
            return Err(CallError::TooLarge { len: message.len() });
        }
        match &mut self.0 {
            Up::Quic(send, crossed) => {
                crossed.note();
                let write = send.write_chunk(calls::framed(&message));
                tokio::select! {
                    written = write => written.map_err(|e| CallError::Broken(e.to_string())),
                    () = crossed.is_down() => {
                        // A part of it may be out.
                        let _ = send.reset(stream::UNWANTED.into());
                        Err(link_down())
                    }
                }
            }
            Up::Local(sender) => sender
                .send(message)
                .await
                .map_err(|_| CallError::Broken("the other end is gone".into())),
            Up::Finished => Err(CallError::Broken("this end has finished".into())),
        }
    }

    /// Nothing more will be sent; the other end reads what was sent, then `None`.
    pub fn finish(&mut self) {
        if let Up::Quic(send, _) = &mut self.0 {
            // Fails only where the other end is gone.
            let _ = send.finish();
        }
        self.0 = Up::Finished;
    }
}

/// The direction towards this end. Dropping it tells the other end to stop.
pub struct CallReceiver(Down);

impl CallReceiver {
    /// The next message; `None` once the other end has finished. Cancel safe.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, CallError> {
        let (recv, reader, crossed) = match &mut self.0 {
            Down::Local(receiver) => return Ok(receiver.recv().await),
            Down::Quic(recv, reader, crossed) => (recv, reader, crossed),
        };
        loop {
            match reader.poll() {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => {}
                Err(e) => {
                    let _ = recv.stop(stream::MALFORMED.into());
                    return Err(CallError::Broken(e.to_string()));
                }
            }
            let read = tokio::select! {
                biased;
                read = recv.read_chunk(usize::MAX, true) => read,
                () = crossed.is_down() => {
                    let _ = recv.stop(stream::UNWANTED.into());
                    return Err(link_down());
                }
            };
            match read {
                Ok(Some(chunk)) => {
                    crossed.note();
                    reader.push(&chunk.bytes);
                }
                Ok(None) if reader.is_whole() => return Ok(None),
                Ok(None) => return Err(CallError::Broken("it ended inside a message".into())),
                Err(e) => return Err(CallError::Broken(e.to_string())),
            }
        }
    }
}

/// The link of the call's first connection is down: its end is not waited for.
fn link_down() -> CallError {
    CallError::Broken("the link to its next node is down".into())
}

/// The link that a stream crosses first. What crosses it is noted: a link that carries is probed as such,
/// so that its end is known in time, not only when somebody looks again.
#[derive(Clone)]
pub(crate) struct Crossed {
    peer: Arc<Peer>,
    clock: Clock,
}

impl Crossed {
    pub fn new(peer: &Arc<Peer>, clock: Clock) -> Crossed {
        Crossed {
            peer: peer.clone(),
            clock,
        }
    }

    /// Something crosses it now.
    pub fn note(&self) {
        self.peer.carries(self.clock.now());
    }

    /// Returns once it is down.
    pub async fn is_down(&self) {
        self.peer.link.down().await;
    }
}

enum Up {
    Quic(SendStream, Crossed),
    Local(mpsc::Sender<Bytes>),
    Finished,
}

enum Down {
    Quic(RecvStream, MessageReader, Crossed),
    Local(mpsc::Receiver<Bytes>),
}

/// What a call is made of.
pub(crate) struct Ends(Up, Down);

impl Ends {
    pub fn quic(send: SendStream, recv: RecvStream, crossed: Crossed) -> Ends {
        let down = Down::Quic(recv, calls::messages(), crossed.clone());
        Ends(Up::Quic(send, crossed), down)
    }

    /// Where `reader` may hold what followed the opening.
    pub fn resumed(
        send: SendStream,
        recv: RecvStream,
        mut opening: MessageReader,
        crossed: Crossed,
    ) -> Ends {
        let mut reader = calls::messages();
        reader.push(&opening.take_rest());
        let up = Up::Quic(send, crossed.clone());
        Ends(up, Down::Quic(recv, reader, crossed))
    }

    pub fn local(up: mpsc::Sender<Bytes>, down: mpsc::Receiver<Bytes>) -> Ends {
        Ends(Up::Local(up), Down::Local(down))
    }
}

/// A call to this node that was not answered yet. Dropping it leaves the caller without a reply:
/// it sees the call break.
pub struct IncomingCall {
    open: Open,
    call: Call,
}

impl IncomingCall {
    pub(crate) fn new(open: Open, ends: Ends) -> IncomingCall {
        IncomingCall {
            open,
            call: Call::new(ends),
        }
    }

    /// What is asked for, and by whom: `crossed` names the caller first.
    pub fn open(&self) -> &Open {
        &self.open
    }

    /// Takes the call.
    pub async fn accept(mut self) -> Result<Call, CallError> {
        self.reply(Reply::Accepted).await?;
        Ok(self.call)
    }

    /// Answers that it is not served, and why.
    pub async fn refuse(mut self, status: Status, message: &str) {
        let message = message.to_owned();
        // If the caller is gone there is nobody to tell.
        if self.reply(Reply::Refused { status, message }).await.is_ok() {
            self.call.finish();
        }
    }

    async fn reply(&mut self, reply: Reply) -> Result<(), CallError> {
        let mut out = BytesMut::new();
        reply.encode(&mut out);
        self.call.send(out.freeze()).await
    }
}
