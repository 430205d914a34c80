//! Calls to a placement group that this node has a part in: the leader serves them, whoever does
//! not lead says who does (WIRE.md, "Room calls").

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use longspan_proto::{
    ids::{Generation, NodeId, RoomName},
    wire::{
        call::{Open, Status, Verb},
        room::{Answer, Lead, Request},
    },
};
use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::{
    Refusal, Snapshot,
    group::Unserved,
    host::port::{Ask, Entered, NotHere, Place, Port, Standing},
    machine::Command,
    service::{parts, rejected},
};
use crate::node::{Call, CallError, CallReceiver, CallSender, IncomingCall};

/// Requests of one call that wait for their answer. When full, no more are read of it: the edge
/// waits. An edge holds as many for a room.
const UNANSWERED: usize = 4_096;

/// Bytes of messages, of all calls of a node, that were proposed and wait for their answer. When
/// full, no more are read: below what a leader takes (8 MB), so that none is turned away.
const PROPOSED: usize = 4 << 20;

/// A call that finds no leader waits so long for one: as long as most elections inside a region take,
/// and less than an edge waits for whoever it calls (1 s). The edge hears of a new leader at once
/// then, and not at its next attempt.
pub(super) const ELECTION: Duration = Duration::from_millis(400);

/// Whoever is in a room that is moved waits so long for it to go, or to stay: longer than most moves
/// take, and less than an edge lets a call be silent (2 s).
const MOVE: Duration = Duration::from_secs(1);

/// What is asked of groups.
pub(super) struct Calls {
    pub(super) port: Arc<Port>,
    proposed: Arc<Semaphore>,
}

type Reply = oneshot::Sender<Result<Option<Answer>, Unserved>>;

/// An answer that will be there.
struct Pending {
    answer: oneshot::Receiver<Result<Option<Answer>, Unserved>>,
    _room: OwnedSemaphorePermit,
}

/// Why a call ended.
enum Over {
    /// The caller has finished and has all answers.
    Done,
    /// This node leads no more.
    Elsewhere,
    /// The room is moved.
    Moving,
}

impl Calls {
    pub fn new(port: Arc<Port>) -> Calls {
        Calls {
            port,
            proposed: Arc::new(Semaphore::new(PROPOSED)),
        }
    }

    /// Serves a call to a group until it ends.
    pub async fn serve(&self, call: IncomingCall) -> Result<(), CallError> {
        let open = call.open().clone();
        let entered = match self.enter(&open).await {
            Err(NotHere::Leaderless(mut standing)) => {
                elected(&mut standing, ELECTION).await;
                self.enter(&open).await
            }
            Err(NotHere::Moving(mut place)) => {
                decided(&mut place, ELECTION).await;
                self.enter(&open).await
            }
            entered => entered,
        };
        let entered = match entered {
            Ok(entered) => entered,
            Err(not_here) => return refuse(call, not_here).await,
        };
        let mut call = call.accept().await?;
        let (generation, came) = (entered.generation, entered.came);
        call.send(encoded(&Lead::Under { generation, came }))
            .await?;
        match open.verb {
            Verb::State => self.state(&open, &entered, call).await,
            _ => self.publish(&open, &entered, call).await,
        }
    }

    async fn enter(&self, open: &Open) -> Result<Entered, NotHere> {
        let (reply, entered) = oneshot::channel();
        let (group, room) = (open.group, open.room.clone());
        self.port.ask(Ask::Enter { group, room, reply }).await;
        let gone = |_| NotHere::Unavailable("this node is shutting down".into());
        entered.await.map_err(gone)?
    }

    async fn state(&self, open: &Open, entered: &Entered, mut call: Call) -> Result<(), CallError> {
        let (reply, state) = oneshot::channel();
        let ask = Ask::Read {
            group: open.group,
            generation: entered.generation,
            room: open.room.clone(),
            reply,
        };
        self.port.ask(ask).await;
        let mut standing = entered.standing.clone();
        let read: Option<Snapshot> = tokio::select! {
            read = state => read.ok().and_then(Result::ok),
            () = lost(&mut standing, entered) => None,
        };
        let Some(state) = read else {
            call.send(elsewhere(&standing)).await?;
            call.finish();
            return Ok(());
        };
        for part in parts(state) {
            let mut out = BytesMut::new();
            part.encode(&mut out);
            call.send(out.freeze()).await?;
        }
        call.finish();
        Ok(())
    }

    async fn publish(&self, open: &Open, entered: &Entered, call: Call) -> Result<(), CallError> {
        let (mut up, mut down) = call.split();
        let (pending, mut answers) = mpsc::channel(UNANSWERED);
        let mut standing = entered.standing.clone();
        let mut place = entered.place.clone();
        let asking = async {
            match self.ask(open, entered, &mut down, pending).await {
                // What was asked is to be answered yet.
                Ok(()) => std::future::pending().await,
                Err(error) => error,
            }
        };
        let over = tokio::select! {
            over = answer(&mut up, &mut answers) => over?,
            () = lost(&mut standing, entered) => Over::Elsewhere,
            () = gone(&mut place) => Over::Moving,
            error = asking => return Err(error),
        };
        if let Over::Moving = over {
            decided(&mut place, MOVE).await;
            if let Err(NotHere::Moved(moved)) = self.enter(open).await {
                up.send(encoded(&Lead::Moved(moved))).await?;
                up.finish();
                return Ok(());
            }
        }
        if let Over::Elsewhere | Over::Moving = over {
            up.send(elsewhere(&standing)).await?;
        }
        up.finish();
        Ok(())
    }

    /// Takes what the caller asks.
    async fn ask(
        &self,
        open: &Open,
        entered: &Entered,
        down: &mut CallReceiver,
        pending: mpsc::Sender<Pending>,
    ) -> Result<(), CallError> {
        while let Some(body) = down.recv().await? {
            let size = u32::try_from(body.len().clamp(1, PROPOSED)).unwrap_or(u32::MAX);
            let request = Request::decode(body).map_err(|e| {
                counter!("longspan_rejected_total", "reason" => "room_request").increment(1);
                CallError::Broken(e.to_string())
            })?;
            let Ok(room) = self.proposed.clone().acquire_many_owned(size).await else {
                return Ok(());
            };
            let (reply, answer) = oneshot::channel();
            match check_room(&open.room, &request) {
                Ok(()) => self.port.ask(ask(open, entered, request, reply)).await,
                Err(refused) => drop(reply.send(Ok(Some(refused)))),
            }
            let waits = Pending {
                answer,
                _room: room,
            };
            if pending.send(waits).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Says why a call is not served.
pub(super) async fn refuse(call: IncomingCall, not_here: NotHere) -> Result<(), CallError> {
    let group = call.open().group;
    let (status, why) = match not_here {
        NotHere::Moved(moved) => {
            let mut call = call.accept().await?;
            call.send(encoded(&Lead::Moved(moved))).await?;
            call.finish();
            return Ok(());
        }
        NotHere::Elsewhere(node) => {
            let node = node.map_or_else(String::new, |node| node.to_string());
            (Status::Elsewhere, node)
        }
        NotHere::Leaderless(_) => {
            let why = format!("group {group} has no leader now");
            (Status::Unavailable, why)
        }
        NotHere::Moving(_) => (Status::Unavailable, "the room is being moved".into()),
        NotHere::Unavailable(why) => (Status::Unavailable, why),
    };
    call.refuse(status, &why).await;
    Ok(())
}

/// Gives the answers in the order of the requests.
async fn answer(
    up: &mut CallSender,
    answers: &mut mpsc::Receiver<Pending>,
) -> Result<Over, CallError> {
    while let Some(pending) = answers.recv().await {
        match pending.answer.await {
            Ok(Ok(Some(answer))) => {
                if let Answer::Refused { slug, .. } = &answer {
                    counter!("longspan_rejected_total", "reason" => slug.clone()).increment(1);
                }
                let mut out = BytesMut::new();
                answer.encode(&mut out);
                up.send(out.freeze()).await?;
            }
            Ok(Ok(None)) => {}
            Ok(Err(Unserved::Moving)) => return Ok(Over::Moving),
            // Whatever waits is asked of the next leader, or of this one again.
            Ok(Err(_)) | Err(_) => return Ok(Over::Elsewhere),
        }
    }
    Ok(Over::Done)
}

/// What is asked of the host for a request.
fn ask(open: &Open, entered: &Entered, request: Request, reply: Reply) -> Ask {
    let (group, generation, room) = (open.group, entered.generation, open.room.clone());
    let command = match request {
        Request::Publish(message) => Command::Publish(message),
        Request::PassOver {
            session,
            first,
            last,
        } => Command::PassOver {
            room,
            session,
            first,
            last,
        },
        Request::Ask { session } => Command::Ask { room, session },
        Request::Roster(roster) => Command::Roster { room, roster },
        Request::Beat { session } => {
            return Ask::Beat {
                group,
                generation,
                room,
                session,
                reply,
            };
        }
    };
    Ask::Do {
        group,
        generation,
        command,
        reply,
    }
}

/// A message may only be for the room that the call is about.
fn check_room(room: &RoomName, request: &Request) -> Result<(), Answer> {
    match request {
        Request::Publish(message) if message.room != *room => {
            let refusal = Refusal::WrongClass("the message is for another room");
            rejected(&refusal);
            Err(refusal.answer(message.session, message.n))
        }
        _ => Ok(()),
    }
}

/// Returns once somebody leads, or after `bound`.
pub(super) async fn elected(standing: &mut watch::Receiver<Standing>, bound: Duration) {
    let leads = |now: &Standing| now.leads || now.elsewhere.is_some();
    // An error: the group is gone from here. It is asked again in any case.
    let _ = tokio::time::timeout(bound, standing.wait_for(leads)).await;
}

/// Returns once a room that is moved is here, or gone, or after `bound`.
async fn decided(place: &mut watch::Receiver<Place>, bound: Duration) {
    // An error: it is gone.
    let here = place.wait_for(|place| *place == Place::Here);
    let _ = tokio::time::timeout(bound, here).await;
}

/// Returns once the room is not here any more.
async fn gone(place: &mut watch::Receiver<Place>) {
    while place.changed().await.is_ok() {}
}

/// Returns once this node does not lead under the generation that the call was told.
async fn lost(standing: &mut watch::Receiver<Standing>, entered: &Entered) {
    no_lead(standing, entered.generation).await;
}

/// The same.
pub(super) async fn no_lead(standing: &mut watch::Receiver<Standing>, generation: Generation) {
    let other = |now: &Standing| !now.leads || now.generation != generation;
    // An error: the group is gone from here.
    let _ = standing.wait_for(other).await;
}

pub(super) fn elsewhere(standing: &watch::Receiver<Standing>) -> Bytes {
    let node: Option<NodeId> = standing.borrow().elsewhere.clone();
    encoded(&Lead::Elsewhere { node })
}

pub(super) fn encoded(lead: &Lead) -> Bytes {
    let mut out = BytesMut::new();
    lead.encode(&mut out);
    out.freeze()
}

#[cfg(test)]
mod tests {

    use super::*;

    fn standing(leads: bool, elsewhere: Option<&str>) -> Standing {
        Standing {
            leads,
            generation: Generation::default(),
            elsewhere: elsewhere.map(|name| NodeId::new(name).unwrap()),
        }
    }

    #[tokio::test]
    async fn a_call_waits_for_an_election_and_no_longer() {
        let (tell, mut told) = watch::channel(standing(false, None));
        elected(&mut told, Duration::ZERO).await;
        for new in [standing(true, None), standing(false, Some("relay-2"))] {
            tell.send_replace(standing(false, None));
            let waiting = tokio::spawn({
                let mut told = told.clone();
                async move { elected(&mut told, Duration::from_secs(3_600)).await }
            });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished(), "nobody leads yet");
            tell.send_replace(new);
            waiting.await.unwrap();
        }
        tell.send_replace(standing(false, None));
        drop(tell);
        elected(&mut told, Duration::from_secs(3_600)).await;
    }
}
