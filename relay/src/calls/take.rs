//! Calls of neighbours: served here, or passed on.

use std::sync::Arc;

use bytes::BytesMut;
use longspan_proto::wire::{
    MAX_PATH, Writer,
    call::{CALL_STREAM, MAX_OPEN, MessageReader, Open, Reply, Status},
    peek_varint,
};
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use tokio_util::task::TaskTracker;

use super::{
    OPENING,
    dial::{begin, usable},
};
use crate::{
    node::{
        IncomingCall,
        call::{Crossed, Ends},
    },
    peers::Peer,
    quic::limits::stream,
    shared::Shared,
};

/// Most read at once while passing on; nothing is read that the other side did not accept.
const PIECE: usize = 16 << 10;

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

async fn take(shared: &Shared, peer: &Arc<Peer>, mut send: SendStream, mut recv: RecvStream) {
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
        let crossed = Crossed::new(peer, shared.engine.clock());
        let ends = Ends::resumed(send, recv, reader, crossed);
        let call = IncomingCall::new(open, ends);
        if let Err(unserved) = shared.served.give(call) {
            unserved
                .call
                .refuse(unserved.status, &unserved.message)
                .await;
        }
        return;
    }
    pass(shared, peer, open, (send, recv, reader)).await;
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
    from: &Arc<Peer>,
    mut open: Open,
    (mut send, mut recv, mut reader): (SendStream, RecvStream, MessageReader),
) {
    let next = open.path.remove(0);
    open.crossed.push(shared.config.node.clone());
    let onward = async {
        let peer = usable(shared, &next)?;
        let ends = begin(&peer, &open).await.map_err(|e| e.to_string())?;
        Ok::<_, String>((peer, ends))
    };
    let (to, (mut up, mut down)) = match onward.await {
        Ok(onward) => onward,
        Err(why) => return refuse(send, Status::Unreachable, why).await,
    };
    let early = reader.take_rest();
    if !early.is_empty() && up.write_chunk(early).await.is_err() {
        let _ = send.reset(stream::UNWANTED.into());
        return;
    }
    let broken = {
        // Messages cross both links, whichever way they go.
        let crossed = [from, &to].map(|peer| Crossed::new(peer, shared.engine.clock()));
        let both = async {
            tokio::join!(
                pipe(&mut recv, &mut up, &crossed),
                pipe(&mut down, &mut send, &crossed)
            )
        };
        tokio::select! {
            _ = both => false,
            () = from.link.down() => true,
            () = to.link.down() => true,
        }
    };
    if broken {
        // The ends must not wait for what does not get through: they call again, another way.
        for stream in [&mut send, &mut up] {
            let _ = stream.reset(stream::UNWANTED.into());
        }
        for stream in [&mut recv, &mut down] {
            let _ = stream.stop(stream::UNWANTED.into());
        }
    }
}

/// Passes bytes until one end is done; its manner of ending goes on too.
async fn pipe(from: &mut RecvStream, to: &mut SendStream, crossed: &[Crossed]) {
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
        crossed.iter().for_each(Crossed::note);
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
