//! What members of placement groups say to each other, between two neighbours (WIRE.md, "Room
//! log"): small packets in order on one stream each way, large ones on a stream of their own.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use longspan_proto::wire::{
    Writer,
    call::MessageReader,
    room::{PACKET_STREAM, PACKETS_STREAM},
};
use quinn::{Connection, RecvStream, SendStream, WriteError};
use tokio::sync::{Notify, Semaphore};

use super::{
    limits::{self, stream},
    peer::misbehaves,
};
use crate::{
    peers::Peer,
    roomlog::{
        group::{MAX_PACKET, Packet, SMALL},
        host::port::lost,
    },
    shared::Shared,
};

/// Small packets go before everything but the control stream: an election that waits for a picture
/// is one too many.
const SMALL_PRIORITY: i32 = i32::MAX - 1;
/// Large ones go after everything: a newcomer has time.
const LARGE_PRIORITY: i32 = -1;
/// Handed to QUIC at once.
const PIECE: usize = 16 << 10;

/// One neighbour's packets, each way.
pub(crate) struct Packets {
    out: Mutex<Out>,
    small: Notify,
    large: Notify,
    /// The neighbour's small ones are being read.
    reading: AtomicBool,
    /// Places for its large ones.
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct Out {
    small: VecDeque<Bytes>,
    bytes: usize,
    large: Option<Bytes>,
    /// The neighbour takes none.
    closed: bool,
}

impl Default for Packets {
    fn default() -> Packets {
        Packets {
            out: Mutex::default(),
            small: Notify::new(),
            large: Notify::new(),
            reading: AtomicBool::new(false),
            places: Arc::new(Semaphore::new(limits::LARGE_PACKETS)),
        }
    }
}

impl Packets {
    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends it, or loses it: of small ones the newest when too many wait, of large ones the one
    /// that waits when another comes.
    pub fn push(&self, packet: &Packet) {
        let bytes = packet.encode();
        let mut out = self.out();
        if out.closed {
            return lost("refused");
        }
        if bytes.len() > SMALL {
            if out.large.replace(bytes).is_some() {
                lost("full");
            }
            return self.large.notify_one();
        }
        if out.small.len() >= limits::PACKETS || out.bytes + bytes.len() > limits::PACKET_BYTES {
            return lost("full");
        }
        out.bytes += bytes.len();
        out.small.push_back(bytes);
        self.small.notify_one();
    }

    /// What waits, as it is written: a length before each.
    fn take_small(&self) -> Option<Bytes> {
        let mut out = self.out();
        let mut written = BytesMut::new();
        while written.len() < PIECE
            && let Some(next) = out.small.pop_front()
        {
            out.bytes -= next.len();
            written.prefixed(&next);
        }
        (!written.is_empty()).then(|| written.freeze())
    }

    fn take_large(&self) -> Option<Bytes> {
        self.out().large.take()
    }

    fn close(&self) {
        let mut out = self.out();
        *out = Out {
            closed: true,
            ..Out::default()
        };
    }
}

/// Writes until the connection is gone or the neighbour takes no packets.
pub(super) async fn write(peer: &Peer) {
    let ended = tokio::select! {
        ended = small(peer) => ended,
        ended = large(peer) => ended,
    };
    let Err(error) = ended;
    tracing::debug!(peer = %peer.node, %error, "no packets of groups are sent any more");
    peer.packets.close();
}

type Never = std::convert::Infallible;

async fn small(peer: &Peer) -> Result<Never, WriteError> {
    let mut stream = None;
    loop {
        let Some(written) = peer.packets.take_small() else {
            peer.packets.small.notified().await;
            continue;
        };
        let stream = match &mut stream {
            Some(stream) => stream,
            none => none.insert(open(&peer.conn, PACKETS_STREAM, SMALL_PRIORITY).await?),
        };
        stream.write_chunk(written).await?;
    }
}

async fn large(peer: &Peer) -> Result<Never, WriteError> {
    loop {
        let Some(mut packet) = peer.packets.take_large() else {
            peer.packets.large.notified().await;
            continue;
        };
        let mut stream = open(&peer.conn, PACKET_STREAM, LARGE_PRIORITY).await?;
        while !packet.is_empty() {
            let piece = packet.split_to(packet.len().min(PIECE));
            match stream.write_chunk(piece).await {
                Ok(()) => {}
                // It has no use for this one.
                Err(WriteError::Stopped(_)) => {
                    lost("refused");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let _ = stream.finish();
    }
}

async fn open(conn: &Connection, kind: u64, priority: i32) -> Result<SendStream, WriteError> {
    let mut stream = conn.open_uni().await?;
    let _ = stream.set_priority(priority);
    let mut head = BytesMut::new();
    head.varint(kind);
    stream.write_chunk(head.freeze()).await?;
    Ok(stream)
}

/// Reads a stream of this type, of which `front` has come. It is stopped if the type is none of
/// these, or this node has no part in any group.
pub(super) async fn read(
    shared: &Shared,
    peer: &Peer,
    kind: u64,
    mut recv: RecvStream,
    front: Vec<Bytes>,
) {
    let known = kind == PACKETS_STREAM || kind == PACKET_STREAM;
    let Some(port) = shared.groups.as_ref().filter(|_| known) else {
        // Of a newer version (WIRE.md, "Streams"), or not for this node.
        let _ = recv.stop(stream::UNKNOWN.into());
        return;
    };
    if kind == PACKET_STREAM {
        return read_large(port, peer, recv, front).await;
    }
    if peer.packets.reading.swap(true, Ordering::Relaxed) {
        return misbehaves(peer, "a second stream of small packets");
    }
    let mut reader = MessageReader::new("packet of a group", SMALL);
    let mut front = front.into_iter();
    loop {
        let chunk = match front.next() {
            Some(chunk) => chunk,
            None => match recv.read_chunk(PIECE, true).await {
                Ok(Some(chunk)) => chunk.bytes,
                Ok(None) => return misbehaves(peer, "it ended the stream of small packets"),
                // The connection's own task tells its end.
                Err(_) => return,
            },
        };
        reader.push(&chunk);
        loop {
            let packet = match reader.poll() {
                Ok(None) => break,
                Ok(Some(packet)) => Packet::decode(packet),
                Err(error) => Err(error),
            };
            match packet {
                Ok(packet) => port.hear(&peer.node, packet, None),
                Err(error) => return misbehaves(peer, &format!("in a packet of a group: {error}")),
            }
        }
    }
}

async fn read_large(
    port: &crate::roomlog::host::port::Port,
    peer: &Peer,
    mut recv: RecvStream,
    front: Vec<Bytes>,
) {
    let mut packet = BytesMut::new();
    front
        .iter()
        .for_each(|chunk| packet.extend_from_slice(chunk));
    // Whoever may not speak gets no memory.
    while Packet::peek(&packet).is_none() {
        match recv.read_chunk(PIECE, true).await {
            Ok(Some(chunk)) => packet.extend_from_slice(&chunk.bytes),
            Ok(None) => return misbehaves(peer, "a large packet of a group ended in its head"),
            Err(_) => return,
        }
    }
    let fellow =
        Packet::peek(&packet).is_some_and(|(group, from)| port.is_fellow(&peer.node, group, from));
    if !fellow {
        lost("stranger");
        let _ = recv.stop(stream::UNWANTED.into());
        return;
    }
    let Ok(place) = peer.packets.places.clone().acquire_owned().await else {
        return;
    };
    loop {
        let read = recv.read_chunk(usize::MAX, true);
        match tokio::time::timeout(limits::LARGE_PACKET_STALL, read).await {
            Ok(Ok(Some(chunk))) => packet.extend_from_slice(&chunk.bytes),
            Ok(Ok(None)) => break,
            Ok(Err(_)) => return,
            Err(_) => {
                lost("stalled");
                let _ = recv.stop(stream::UNWANTED.into());
                return;
            }
        }
        if packet.len() > MAX_PACKET {
            let _ = recv.stop(stream::MALFORMED.into());
            return misbehaves(
                peer,
                &format!("a packet of a group is longer than {MAX_PACKET} bytes"),
            );
        }
    }
    match Packet::decode(packet.freeze()) {
        Ok(packet) => port.hear(&peer.node, packet, Some(place)),
        Err(error) => misbehaves(peer, &format!("in a large packet of a group: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of about this length.
    fn packet(len: usize) -> Packet {
        let mut bytes = BytesMut::new();
        bytes.varint(1);
        bytes.extend_from_slice(&[0, 1]);
        bytes.extend_from_slice(&[1, 2, 3, 0, 3]);
        bytes.extend_from_slice(&[0; 7]);
        bytes.extend_from_slice(&[0, 0]);
        let count = len / (16 << 10);
        bytes.varint(count as u64);
        for index in 0..count {
            bytes.extend_from_slice(&[0, 1]);
            bytes.varint(index as u64);
            bytes.prefixed(&vec![0; 16 << 10]);
            bytes.prefixed(&[]);
        }
        Packet::decode(bytes.freeze()).unwrap()
    }

    #[test]
    fn what_is_too_much_is_lost() {
        let packets = Packets::default();
        for _ in 0..2 * limits::PACKETS {
            packets.push(&packet(0));
        }
        assert_eq!(packets.out().small.len(), limits::PACKETS);
        let mut taken = 0;
        while let Some(written) = packets.take_small() {
            taken += written.len();
        }
        assert_eq!(taken, limits::PACKETS * (1 + packet(0).encode().len()));
        for _ in 0..1_000 {
            packets.push(&packet(32 << 10));
        }
        assert!(packets.out().bytes <= limits::PACKET_BYTES);
        assert!(packets.out().small.len() > 200);
        // Of large ones one waits: the newest.
        packets.push(&packet(80 << 10));
        packets.push(&packet(96 << 10));
        let large = packets.take_large().unwrap();
        assert_eq!(large, packet(96 << 10).encode());
        assert_eq!(packets.take_large(), None);
        packets.close();
        packets.push(&packet(0));
        assert_eq!(packets.take_small(), None);
    }
}
