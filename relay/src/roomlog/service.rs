//! Takes the calls `publish`, `state` and `move` (WIRE.md, "Room calls") and hands them to the placement groups
//! this node has a part in.

use std::sync::Arc;

use longspan_proto::wire::{
    call::{Status, Verb},
    envelope::Envelope,
    room::{PART, Part},
};
use metrics::counter;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Refusal, Snapshot, calls::Calls, host::port::Port};
use crate::node::Handle;

/// Calls served at once: one an edge and room, and state calls, which are short. When full, a
/// call is answered `busy`.
const CALLS: usize = 16_384;

/// Serves until `shutdown`. One a node.
pub(crate) async fn run(handle: Handle, groups: Option<Arc<Port>>, shutdown: CancellationToken) {
    let groups = groups.map(|port| Arc::new(Calls::new(port)));
    let mut publish = handle.serve(Verb::Publish);
    let mut state = handle.serve(Verb::State);
    let mut moves = handle.serve(Verb::Move);
    let directory = handle.directory();
    let slots = Arc::new(Semaphore::new(CALLS));
    let tasks = TaskTracker::new();
    loop {
        let call = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(call) = publish.recv() => call,
            Some(call) = state.recv() => call,
            Some(call) = moves.recv() => call,
        };
        let slot = slots.clone().try_acquire_owned();
        let (groups, shutdown) = (groups.clone(), shutdown.clone());
        let directory = directory.clone();
        tasks.spawn(async move {
            let Ok(_slot) = slot else {
                let why = format!("{CALLS} calls are served here, the limit");
                return call.refuse(Status::Busy, &why).await;
            };
            let Some(groups) = groups else {
                let group = call.open().group;
                let why = format!("this node has no part in group {group}");
                return call.refuse(Status::Unavailable, &why).await;
            };
            let serve = async {
                match call.open().verb {
                    Verb::Move => groups.take(call, &directory).await,
                    _ => groups.serve(call).await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                served = serve => if let Err(error) = served {
                    tracing::debug!(%error, "a room call ended");
                }
            }
        });
    }
    tasks.close();
    tasks.wait().await;
}

pub(super) fn parts(snapshot: Snapshot) -> impl Iterator<Item = Part> {
    let begin = Part::Begin {
        seq: snapshot.seq,
        at: snapshot.at,
    };
    std::iter::once(begin)
        .chain(cut(snapshot.keys).map(Part::Keys))
        .chain(cut(snapshot.history).map(Part::History))
        .chain(std::iter::once(Part::End))
}

/// Runs of messages of at most [`PART`] bytes, about, and one message at least.
fn cut(messages: Vec<Envelope>) -> impl Iterator<Item = Vec<Envelope>> {
    /// An envelope without its body, about.
    const HEAD: usize = 512;
    let mut rest = messages.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut part = vec![rest.next()?];
        let mut bytes = HEAD + part[0].body.len();
        while let Some(next) = rest.next_if(|next| bytes + HEAD + next.body.len() <= PART) {
            bytes += HEAD + next.body.len();
            part.push(next);
        }
        Some(part)
    })
}

pub(super) fn rejected(refusal: &Refusal) {
    counter!("longspan_rejected_total", "reason" => refusal.slug()).increment(1);
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use longspan_proto::{
        ids::{Room, RoomName, SessionId, Tenant},
        wire::envelope::Class,
    };

    use super::*;

    fn message(seq: u64, body: usize) -> Envelope {
        Envelope {
            room: RoomName {
                tenant: Tenant::default_tenant(),
                room: Room::new("math").unwrap(),
            },
            session: SessionId([1; 16]),
            n: seq,
            class: Class::Log,
            topic: "chat".into(),
            key: None,
            expected: None,
            revision: 0,
            from: "m".into(),
            recipient: None,
            at: 0,
            seq,
            body: Bytes::from(vec![0; body]),
        }
    }

    #[test]
    fn parts_are_cut_and_nothing_is_left_out() {
        let history: Vec<Envelope> = (1..=20).map(|seq| message(seq, 16 << 10)).collect();
        let keys = vec![message(3, 10)];
        let all: Vec<Part> = parts(Snapshot {
            seq: 20,
            at: 7,
            keys: keys.clone(),
            history: history.clone(),
        })
        .collect();
        assert_eq!(all[0], Part::Begin { seq: 20, at: 7 });
        assert_eq!(all[1], Part::Keys(keys));
        assert_eq!(all.last(), Some(&Part::End));
        let mut got = Vec::new();
        for part in &all[2..all.len() - 1] {
            let mut out = BytesMut::new();
            part.encode(&mut out);
            assert!(out.len() <= PART);
            let Part::History(messages) = part else {
                panic!("{part:?} after the keys")
            };
            got.extend(messages.clone());
        }
        assert_eq!(got, history);
    }
}
