//! Group streams that arrive.

use std::sync::Arc;

use bytes::Bytes;
use longspan_proto::wire::{
    Frame, GROUP_STREAM, GroupEvent, GroupHeader, GroupReader, Stamp, peek_varint,
};
use quinn::{ReadError, RecvStream};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::{limits::stream, packets, peer::misbehaves};
use crate::{
    forward::{Input, StreamKey},
    peers::Peer,
    shared::Shared,
};

/// Chunks taken at once; each is one packet's share of the stream.
const CHUNKS: usize = 32;

/// Takes streams until the connection is gone.
pub(super) async fn groups(shared: &Arc<Shared>, tasks: &TaskTracker, peer: &Arc<Peer>) {
    while let Ok(recv) = peer.conn.accept_uni().await {
        let reading = Reading {
            stream: StreamKey(shared.engine.number()),
            shared: shared.clone(),
            peer: peer.clone(),
            recv,
            reader: GroupReader::default(),
            typed: Some(Vec::new()),
            opened: None,
        };
        tasks.spawn(reading.run());
    }
}

struct Reading {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    stream: StreamKey,
    recv: RecvStream,
    reader: GroupReader,
    /// What has arrived of the stream's type; `None` once it is known.
    typed: Option<Vec<u8>>,
    /// After the header: notified when the core does not want the rest.
    opened: Option<Arc<Notify>>,
}

impl Reading {
    async fn run(mut self) {
        let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
        loop {
            let read = match &self.opened {
                None => self.recv.read_chunks(&mut chunks).await,
                Some(stop) => tokio::select! {
                    read = self.recv.read_chunks(&mut chunks) => read,
                    () = stop.notified() => {
                        let _ = self.recv.stop(stream::UNWANTED.into());
                        return self.close(None);
                    }
                },
            };
            match read {
                Ok(Some(count)) => {
                    for at in 0..count {
                        let Err((kind, first)) = self.push(std::mem::take(&mut chunks[at])) else {
                            continue;
                        };
                        let mut front = vec![first];
                        front.extend(chunks[at + 1..count].iter().cloned());
                        let (shared, peer) = (&self.shared, &self.peer);
                        return packets::read(shared, peer, kind, self.recv, front).await;
                    }
                    if let Err(why) = self.take() {
                        return self.misbehaved(&why);
                    }
                }
                Ok(None) if self.reader.is_whole() => return self.close(Some(true)),
                Ok(None) => return self.misbehaved("it ended in the middle of a header or frame"),
                Err(ReadError::Reset(_)) => return self.close(Some(false)),
                // The core hears of the connection's end anyway.
                Err(_) => return,
            }
        }
    }

    /// Takes the stream's type off the front; the rest goes to the reader. If it is no group, the
    /// type and the rest are given back.
    fn push(&mut self, mut chunk: Bytes) -> Result<(), (u64, Bytes)> {
        if let Some(front) = &mut self.typed {
            front.extend_from_slice(&chunk);
            let Some((kind, len)) = peek_varint(front) else {
                return Ok(());
            };
            chunk = Bytes::from(self.typed.take().unwrap_or_default()).split_off(len);
            if kind != GROUP_STREAM {
                return Err((kind, chunk));
            }
        }
        self.reader.push(chunk);
        Ok(())
    }

    /// Gives what is whole to the core, under one lock.
    fn take(&mut self) -> Result<(), String> {
        let mut frames = Vec::new();
        loop {
            match self.reader.poll() {
                Ok(None) => break,
                Ok(Some(GroupEvent::Header(header))) => self.open(header),
                Ok(Some(GroupEvent::Frame(frame, stamp))) => frames.push(self.frame(frame, stamp)),
                Err(e) => return Err(e.to_string()),
            }
        }
        if !frames.is_empty() {
            self.peer.carries(self.shared.engine.clock().now());
            self.shared.engine.handle_all(frames);
        }
        Ok(())
    }

    fn open(&mut self, header: GroupHeader) {
        let (peer, stream) = (self.peer.key, self.stream);
        let input = Input::GroupOpened {
            peer,
            stream,
            header,
        };
        self.opened = Some(self.shared.engine.group_opened(peer, stream, input));
    }

    fn frame(&self, frame: Frame, stamp: Stamp) -> Input {
        Input::Frame {
            peer: self.peer.key,
            stream: self.stream,
            frame,
            age_us: self.peer.age(self.shared.engine.clock().now(), stamp),
        }
    }

    fn misbehaved(self, why: &str) {
        misbehaves(&self.peer, &format!("on a group's stream: {why}"));
        self.close(Some(false));
    }

    /// `whole`: the group is complete, or was cut; `None`: the core knows already.
    fn close(self, whole: Option<bool>) {
        if self.opened.is_none() {
            return;
        }
        let (peer, stream) = (self.peer.key, self.stream);
        let input = whole.map(|whole| match whole {
            true => Input::GroupFinished { peer, stream },
            false => Input::GroupReset { peer, stream },
        });
        self.shared.engine.group_closed(peer, stream, input);
    }
}
