//! The model's delays on a TCP connection: what is written arrives a flight later, what was
//! sent to us is read a flight later. TCP repairs losses, so only delays are emulated; a cut link
//! holds everything back until it is restored.

use std::{io, net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time::Instant,
};

use crate::world::{POLL, World};

/// Bytes that wait at the near end, each way.
const BUFFER: usize = 256 << 10;
/// Chunks on their way at once, each way; a sender waits above that.
const CHUNKS: usize = 1_024;
/// Largest chunk, in bytes.
const CHUNK: usize = 16 << 10;

/// Connects `io`, which leads to `peer`, through the emulated world.
pub fn delayed<S>(io: S, peer: SocketAddr, world: World) -> DuplexStream
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (near, far) = tokio::io::duplex(BUFFER);
    let (far_read, far_write) = tokio::io::split(far);
    let (io_read, io_write) = tokio::io::split(io);
    let there = world.clone();
    tokio::spawn(fly(far_read, io_write, move || {
        there.delays(peer).map(|(out, _)| out)
    }));
    tokio::spawn(fly(io_read, far_write, move || {
        world.delays(peer).map(|(_, back)| back)
    }));
    near
}

/// Moves bytes from one side to the other, each chunk no sooner than a flight after it was read.
async fn fly<R, W, D>(mut from: R, mut to: W, delay: D)
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin,
    D: Fn() -> Option<Duration> + Send + Sync + 'static,
{
    let (send, mut arriving) = mpsc::channel::<(Instant, io::Result<Bytes>)>(CHUNKS);
    let reader = tokio::spawn(async move {
        let mut tick = tokio::time::interval(POLL);
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            let read = from.read_buf(&mut chunk).await;
            let flight = loop {
                match delay() {
                    Some(flight) => break flight,
                    // Cut: nothing moves.
                    None => tick.tick().await,
                };
            };
            let ended = !matches!(read, Ok(n) if n > 0);
            if send
                .send((Instant::now() + flight, read.map(|_| chunk.freeze())))
                .await
                .is_err()
                || ended
            {
                return;
            }
        }
    });
    while let Some((due, chunk)) = arriving.recv().await {
        tokio::time::sleep_until(due).await;
        match chunk {
            Ok(bytes) if !bytes.is_empty() => {
                if to.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            // The end, or a broken connection: the other side sees an end either way.
            _ => break,
        }
    }
    let _ = to.shutdown().await;
    reader.abort();
}

#[cfg(test)]
mod tests {
    use longspan_proto::ids::Region;

    use super::*;
    use crate::{matrix::Matrix, wan::Profile, world::State};

    #[tokio::test]
    async fn bytes_come_through_in_order_and_late() {
        let peer: SocketAddr = "127.0.0.1:7001".parse().unwrap();
        let regions = ["hk", "sg"].map(|r| Region::new(r).unwrap());
        let mut state = State::new(&Matrix::internet(), &regions, Profile::Clean, 1).unwrap();
        state.places.insert(peer, regions[1].clone());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("world.json");
        state.save(&path).unwrap();
        let world = World::load(&path, regions[0].clone()).unwrap();

        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut near = delayed(ours, peer, world);
        let sent: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        let began = std::time::Instant::now();
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).await.unwrap();
        assert!(
            began.elapsed() >= Duration::from_millis(16),
            "33 ms there and back"
        );
        assert_eq!(got, sent);
        theirs.write_all(b"answer").await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
    }
}
