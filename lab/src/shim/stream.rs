//! The TCP half: both directions of a stream as queues of chunks with the time they arrive.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use longspan_proto::{ids::Net, time::Time};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split},
    net::TcpStream,
    sync::mpsc,
    time::sleep_until,
};

use super::Shim;
use crate::{
    delay::Began,
    wan::Verdict,
    world::{Followed, POLL},
};

/// A stream that takes its time. Both ends of the real one end with it.
pub type Delayed = DuplexStream;

/// Chunks under way in one direction. When they are full the sender waits, as with TCP's window.
pub const MAX_CHUNKS: usize = 64;

/// Bytes in one chunk.
const CHUNK: usize = 16 << 10;

pub(super) fn delay(shim: Shim, inner: TcpStream) -> Delayed {
    let (peer, net) = inner.peer_addr().map_or_else(
        |_| (shim.me.clone(), Net::internet()),
        |addr| shim.who(addr),
    );
    let live = &shim.live;
    let out = live.follow(shim.me.clone(), peer.clone(), net.clone());
    let back = live.follow(peer, shim.me.clone(), net);
    let (ours, theirs) = duplex(CHUNK);
    let (from_tcp, to_tcp) = inner.into_split();
    let (from_us, to_us) = split(theirs);
    tokio::spawn(carry(shim.clone(), out, from_us, to_tcp));
    tokio::spawn(carry(shim, back, from_tcp, to_us));
    ours
}

/// Moves bytes from `from` to `to`, each as late as `lane` says, until one of them ends.
async fn carry(
    shim: Shim,
    mut lane: Followed,
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin,
) {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Bytes)>(MAX_CHUNKS);
    let reading = tokio::spawn(async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            match from.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let chunk = buffer.split().freeze();
            let at = arrival(shim.began, &mut lane, chunk.len()).await;
            if sender.send((shim.began.instant(at), chunk)).await.is_err() {
                return;
            }
        }
    });
    while let Some((at, chunk)) = chunks.recv().await {
        sleep_until(at.into()).await;
        if to.write_all(&chunk).await.is_err() {
            reading.abort();
            return;
        }
    }
    // The end of the stream takes no time of its own: it follows the last byte.
    let _ = to.shutdown().await;
}

/// When a chunk arrives. A lost one is sent again at once, so losses change nothing but the
/// jitter; a link that carries nothing at all is asked again until it does.
async fn arrival(began: Began, lane: &mut Followed, bytes: usize) -> Time {
    /// Beyond what the worst loss that still carries anything asks for.
    const TRIES: usize = 1_000;
    /// As long as the world takes to change.
    const AGAIN: Duration = POLL;
    loop {
        for _ in 0..TRIES {
            if let Verdict::Deliver(at) = lane.send(began.time(), bytes) {
                return at;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
