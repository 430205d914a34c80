//! Calls: source-routed streams, served here or passed on (WIRE.md, "Calls").
//!
//! * [`Served`]: who serves what inside this node.
//! * `dial`: opens calls of this node's own.
//! * `take`: takes neighbours' calls, to serve them or to pass them on.

mod dial;
mod take;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use longspan_proto::{
    ids::NodeId,
    wire::{
        Writer,
        call::{MAX_CALL_MESSAGE, MessageReader, Open, Status, Verb},
    },
};
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::node::{Call, CallError, IncomingCall, call::Ends};
pub(crate) use dial::open;
pub(crate) use take::accept;

/// An opening comes with the stream's first packets; whoever takes longer is cut.
const OPENING: Duration = Duration::from_secs(5);
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
                    (
                        Status::Busy,
                        format!("{waiting} calls wait here, the limit"),
                    )
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
        self.give(callee).map_err(|unserved| CallError::Refused {
            node: me.clone(),
            status: unserved.status,
            message: unserved.message,
        })?;
        dial::greeted(me, Ends::local(up, from_callee)).await
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
