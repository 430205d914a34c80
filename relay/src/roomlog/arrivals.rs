//! Takes rooms that other groups hand over: what comes is put into the group's log, and answered by
//! what the log holds then (WIRE.md, "Moving a room").

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use longspan_proto::wire::{
    Role,
    call::{Open, Status},
    moving::{Arrived, Carry},
    room::{Answer, Lead},
};
use metrics::counter;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    calls::{Calls, ELECTION, elected, elsewhere, encoded, no_lead, refuse},
    group::Unserved,
    host::port::{Ask, Led, NotHere},
    mover,
};
use crate::node::{CallError, CallReceiver, CallSender, Directory, IncomingCall};

/// Words of one call that wait for the log. When full, no more are read of it. A mover has half as
/// many without an answer.
const UNANSWERED: usize = 64;

/// A word that is being put into the log, and which move it is about.
struct Pending {
    word: u64,
    done: oneshot::Receiver<Result<Option<Answer>, Unserved>>,
}

impl Calls {
    /// Serves a call from another group until it ends.
    pub async fn take(
        &self,
        call: IncomingCall,
        directory: &watch::Receiver<Arc<Directory>>,
    ) -> Result<(), CallError> {
        let open = call.open().clone();
        let stranger = stranger(&open, &directory.borrow()).cloned();
        if let Some(stranger) = stranger {
            counter!("longspan_rejected_total", "reason" => "room_move").increment(1);
            let why = format!("{stranger} is no relay: rooms are moved by relays only");
            call.refuse(Status::Forbidden, &why).await;
            return Ok(());
        }
        let led = match self.lead(&open).await {
            Err(NotHere::Leaderless(mut standing)) => {
                elected(&mut standing, ELECTION).await;
                self.lead(&open).await
            }
            led => led,
        };
        let led = match led {
            Ok(led) => led,
            Err(not_here) => return refuse(call, not_here).await,
        };
        let mut call = call.accept().await?;
        let under = Lead::Under {
            generation: led.generation,
            came: None,
        };
        call.send(encoded(&under)).await?;
        let (mut up, mut down) = call.split();
        let (pending, mut words) = mpsc::channel(UNANSWERED);
        let mut standing = led.standing.clone();
        let hear = async {
            match self.hear(&open, &led, &mut down, pending).await {
                // What was said is to be answered yet.
                Ok(()) => std::future::pending().await,
                Err(error) => error,
            }
        };
        let leads = tokio::select! {
            leads = self.answer(&open, &mut up, &mut words) => leads?,
            () = no_lead(&mut standing, led.generation) => false,
            error = hear => return Err(error),
        };
        if !leads {
            up.send(elsewhere(&standing)).await?;
        }
        up.finish();
        Ok(())
    }

    async fn lead(&self, open: &Open) -> Result<Led, NotHere> {
        let (reply, led) = oneshot::channel();
        let group = open.group;
        self.port.ask(Ask::Lead { group, reply }).await;
        let gone = |_| NotHere::Unavailable("this node is shutting down".into());
        led.await.map_err(gone)?
    }

    /// Puts what the caller says into the log.
    async fn hear(
        &self,
        open: &Open,
        led: &Led,
        down: &mut CallReceiver,
        pending: mpsc::Sender<Pending>,
    ) -> Result<(), CallError> {
        while let Some(body) = down.recv().await? {
            let carry = Carry::decode(body).map_err(|e| {
                counter!("longspan_rejected_total", "reason" => "room_move").increment(1);
                CallError::Broken(e.to_string())
            })?;
            let word = carry.word();
            let (reply, done) = oneshot::channel();
            // In the order in which they came: the log takes parts in no other.
            let ask = Ask::Do {
                group: open.group,
                generation: led.generation,
                command: mover::command(open.room.clone(), carry),
                reply,
            };
            self.port.ask(ask).await;
            if pending.send(Pending { word, done }).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Answers in order; whether this node leads until the caller has finished.
    async fn answer(
        &self,
        open: &Open,
        up: &mut CallSender,
        words: &mut mpsc::Receiver<Pending>,
    ) -> Result<bool, CallError> {
        while let Some(Pending { word, done }) = words.recv().await {
            let arrived = match done.await {
                Ok(Ok(Some(Answer::Refused { message, .. }))) => Arrived::Refused(message),
                // Where too much waits nothing was done; what is there says so.
                Ok(Ok(_) | Err(Unserved::Busy { .. })) => match self.arrived(open, word).await {
                    Some(arrived) => arrived,
                    None => return Ok(false),
                },
                Ok(Err(_)) | Err(_) => return Ok(false),
            };
            up.send(written(&arrived)).await?;
        }
        Ok(true)
    }

    async fn arrived(&self, open: &Open, word: u64) -> Option<Arrived> {
        let (reply, arrived) = oneshot::channel();
        let (group, room) = (open.group, open.room.clone());
        let ask = Ask::Arrived {
            group,
            room,
            word,
            reply,
        };
        self.port.ask(ask).await;
        arrived.await.ok()
    }
}

/// A node that the call has crossed, and that is not known as a relay. An edge passes nothing on: one
/// that is there made the call, and edges move no rooms.
fn stranger<'a>(open: &'a Open, directory: &Directory) -> Option<&'a longspan_proto::ids::NodeId> {
    let is_relay = |node| {
        let known = directory.get(node);
        known.is_some_and(|known| known.role == Role::Relay)
    };
    open.crossed.iter().find(|node| !is_relay(node))
}

fn written(arrived: &Arrived) -> Bytes {
    let mut out = BytesMut::new();
    arrived.encode(&mut out);
    out.freeze()
}
