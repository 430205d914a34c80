//! Groups that leave: what the core gives is put on streams, little at a time, so that priority
//! and staleness are decided in the core and as late as possible.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use longspan_proto::wire::{Frame, GroupHeader, Priority, Stamp};
use quinn::{SendStream, WriteError};
use tokio::sync::Notify;

use super::{
    limits::{self, stream},
    waiting::Waiting,
};
use crate::{
    forward::{StreamKey, Transmit, urgency},
    peers::Peer,
    shared::Shared,
};

/// One group on its way.
struct Sending {
    send: SendStream,
    /// As QUIC was told.
    urgency: i32,
    group: u64,
    /// The group's timestamp, against which its frames' are coded.
    timestamp: u64,
    /// What QUIC has not accepted yet.
    waiting: Waiting,
    /// Nothing more will be added.
    finished: bool,
    /// The peer does not want it any more.
    stopped: bool,
}

/// Counters, looked up once.
struct Counters {
    frames: metrics::Counter,
    /// By [`Priority`].
    bytes: [metrics::Counter; 4],
}

impl Counters {
    fn new(shared: &Shared, peer: &Peer) -> Counters {
        let bytes = |class| shared.link_bytes(&peer.node, class);
        Counters {
            frames: metrics::counter!("longspan_frames_forwarded_total"),
            bytes: [
                bytes("realtime"),
                bytes("state"),
                bytes("video"),
                bytes("video"),
            ],
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    counters: Counters,
    sending: BTreeMap<StreamKey, Sending>,
    /// Bytes and pieces in all `waiting`.
    bytes: usize,
    pieces: usize,
    window: u64,
    scratch: BytesMut,
}

/// Writes until the connection is gone.
pub(super) async fn groups(shared: Arc<Shared>, peer: Arc<Peer>, ready: Arc<Notify>) {
    let mut writer = Writer {
        counters: Counters::new(&shared, &peer),
        shared,
        peer: peer.clone(),
        sending: BTreeMap::new(),
        bytes: 0,
        pieces: 0,
        window: limits::SEND_WINDOW,
        scratch: BytesMut::new(),
    };
    tokio::select! {
        // The connection's own task tells its end.
        Err(_) = writer.run(&ready) => {}
        _ = peer.conn.closed() => {}
    }
}

/// The connection is gone.
type Gone = quinn::ConnectionError;

impl Writer {
    async fn run(&mut self, ready: &Notify) -> Result<(), Gone> {
        loop {
            let drained = self.take().await?;
            if drained && self.pieces == 0 {
                ready.notified().await;
                continue;
            }
            self.fit_window();
            if drained {
                // Something more urgent may come while QUIC is full.
                tokio::select! {
                    () = ready.notified() => {}
                    handed = poll_fn(|cx| self.hand_over(cx)) => handed?,
                }
            } else {
                poll_fn(|cx| self.hand_over(cx)).await?;
            }
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= limits::IN_HAND
    }

    /// Takes from the core while little is in hand; true: the core has nothing more.
    async fn take(&mut self) -> Result<bool, Gone> {
        while !self.is_full() {
            match self.shared.engine.poll_transmit(self.peer.key) {
                None => return Ok(true),
                Some(Transmit::Open {
                    stream,
                    header,
                    urgency,
                }) => self.open(stream, &header, urgency).await?,
                Some(Transmit::Frame {
                    stream,
                    frame,
                    age_us,
                }) => self.frame(stream, frame, age_us),
                Some(Transmit::Finish { stream }) => {
                    if let Some(sending) = self.sending.get_mut(&stream) {
                        sending.finished = true;
                        if sending.waiting.is_empty() {
                            self.end(stream);
                        }
                    }
                }
                Some(Transmit::Reset { stream }) => {
                    if let Some(mut sending) = self.remove(stream) {
                        let _ = sending.send.reset(stream::STALE.into());
                    }
                }
            }
        }
        Ok(false)
    }

    async fn open(
        &mut self,
        stream: StreamKey,
        header: &GroupHeader,
        urgency: i32,
    ) -> Result<(), Gone> {
        // Waits only where the peer has its 16,384 streams open.
        let send = self.peer.conn.open_uni().await?;
        let _ = send.set_priority(urgency);
        self.sending.insert(
            stream,
            Sending {
                send,
                urgency,
                group: header.group,
                timestamp: header.timestamp,
                waiting: Waiting::default(),
                finished: false,
                stopped: false,
            },
        );
        header.encode(&mut self.scratch);
        let header = self.scratch.split().freeze();
        self.add(stream, header, urgency);
        Ok(())
    }

    fn frame(&mut self, stream: StreamKey, frame: Frame, age_us: u64) {
        let Some(sending) = self.sending.get(&stream).filter(|s| !s.stopped) else {
            return;
        };
        let urgency = urgency(frame.priority, sending.group);
        let now = self.shared.engine.clock().now();
        let stamp = Stamp::new(now, age_us);
        frame.encode_header(sending.timestamp, stamp, &mut self.scratch);
        let header = self.scratch.split().freeze();
        self.counters.frames.increment(1);
        self.counters.bytes[frame.priority as usize]
            .increment((header.len() + frame.payload.len()) as u64);
        self.peer.carries(now);
        self.add(stream, header, urgency);
        self.add(stream, frame.payload, urgency);
    }

    fn add(&mut self, stream: StreamKey, piece: Bytes, urgency: i32) {
        if let Some(sending) = self.sending.get_mut(&stream)
            && !piece.is_empty()
        {
            self.bytes += piece.len();
            self.pieces += 1;
            sending.waiting.push(piece, urgency);
        }
    }

    fn remove(&mut self, stream: StreamKey) -> Option<Sending> {
        let sending = self.sending.remove(&stream)?;
        self.pieces -= sending.waiting.pieces();
        self.bytes -= sending.waiting.bytes();
        Some(sending)
    }

    /// All of the stream was accepted.
    fn end(&mut self, stream: StreamKey) {
        if let Some(mut sending) = self.remove(stream) {
            let _ = sending.send.finish();
        }
    }

    /// QUIC accepts what the congestion window lets out and a little more.
    fn fit_window(&mut self) {
        let window = (self.peer.conn.stats().path.cwnd + limits::UNSENT).min(limits::SEND_WINDOW);
        if window.abs_diff(self.window) > self.window / 8 {
            self.window = window;
            self.peer.conn.set_send_window(window);
        }
    }

    /// Gives QUIC what it accepts, the most urgent first; ready once it took anything.
    fn hand_over(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let mut order: Vec<(i32, StreamKey)> = self
            .sending
            .iter()
            .filter_map(|(key, sending)| Some((-sending.waiting.urgency()?, *key)))
            .collect();
        order.sort_unstable();
        let mut progress = order.is_empty();
        for (_, key) in order {
            let Some(sending) = self.sending.get_mut(&key) else {
                continue;
            };
            let before = (sending.waiting.pieces(), sending.waiting.bytes());
            let written = sending.write(cx);
            let after = (sending.waiting.pieces(), sending.waiting.bytes());
            self.pieces -= before.0 - after.0;
            self.bytes -= before.1 - after.1;
            progress |= before != after;
            match written {
                Ok(()) => {}
                Err(WriteError::ConnectionLost(e)) => return Poll::Ready(Err(e)),
                // STOP_SENDING: the core hears of it by UNSUBSCRIBE, or has said it all.
                Err(_) => {
                    progress = true;
                    sending.stopped = true;
                    self.pieces -= after.0;
                    self.bytes -= after.1;
                    sending.waiting.clear();
                }
            }
            if sending.finished && sending.waiting.is_empty() {
                self.end(key);
            }
        }
        match progress {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}

impl Sending {
    /// Writes until all is accepted or QUIC is full.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), WriteError> {
        while let Some(urgency) = self.waiting.urgency() {
            // What follows a key frame on its stream must not keep its urgency.
            if urgency != self.urgency {
                self.urgency = urgency;
                let _ = self.send.set_priority(urgency);
            }
            let written = pin!(self.send.write_chunks(self.waiting.next())).poll(cx);
            match written {
                Poll::Pending => break,
                Poll::Ready(Err(e)) => return Err(e),
                Poll::Ready(Ok(written)) => self.waiting.accepted(written.chunks, written.bytes),
            }
        }
        Ok(())
    }
}

/// A [`Priority`] fits the counters.
const _: () = assert!(Priority::VideoDelta as usize == 3);
