//! A TCP connection whose owner may lend its writing: while the owner has nothing to say, somebody
//! who has something for many connections writes to each of them without waking its owner.
//!
//! Only whole messages are written by others, and only between two of the owner's: the owner's next
//! write takes the line back by itself.

use std::{
    future::poll_fn,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A connection as its owner reads and writes it.
pub(crate) struct Owned(Arc<Line>);

/// The connection, whose writing is to be lent.
///
/// One piece: whoever writes to a thousand of them finds each cold in memory, and pays for every piece.
pub(crate) struct Line {
    tcp: TcpStream,
    turn: Mutex<Turn>,
}

#[derive(Default)]
struct Turn {
    /// The owner has nothing under way.
    lent: bool,
    /// The rest of an offered message of which the socket took a part; the owner writes it before
    /// anything else.
    left: Bytes,
}

/// What became of an offered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It is written.
    Taken,
    /// A part is; the owner is to [finish](Line::finish) it. The line is lent no more.
    InPart,
    /// Nothing is: the line is not lent, or no more since the socket takes nothing.
    Refused,
}

impl Owned {
    pub(crate) fn new(tcp: TcpStream) -> Owned {
        Owned(Arc::new(Line {
            tcp,
            turn: Mutex::default(),
        }))
    }

    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.0
    }
}

impl Line {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the owner, while all it has written is written whole: others may write until its next
    /// write.
    pub(crate) fn lend(&self) {
        let mut turn = self.turn();
        turn.lent = turn.left.is_empty();
    }

    /// For others: writes a whole message if the line is lent and the socket takes it at once.
    pub(crate) fn offer(&self, message: &Bytes) -> Offered {
        let mut turn = self.turn();
        if !turn.lent {
            return Offered::Refused;
        }
        // Not by way of the runtime, which would first look up whether the socket takes something.
        match send(
            &self.tcp,
            message,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        ) {
            Ok(written) if written == message.len() => Offered::Taken,
            Ok(written) => {
                turn.lent = false;
                turn.left = message.slice(written..);
                Offered::InPart
            }
            // The owner waits for room, or hears that the connection broke.
            Err(_) => {
                turn.lent = false;
                Offered::Refused
            }
        }
    }

    /// For the owner: writes the rest of what was offered.
    pub(crate) async fn finish(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_finish(&mut self.turn(), context)).await
    }

    fn poll_finish(&self, turn: &mut Turn, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        turn.lent = false;
        while !turn.left.is_empty() {
            let written = ready!(self.poll_write(context, |tcp| tcp.try_write(&turn.left)))?;
            if written == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            turn.left.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(context))?;
            match write(&self.tcp) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// For the owner: takes the line back, and writes when the rest of what was offered is written.
    fn poll_own(
        &self,
        context: &mut Context<'_>,
        write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let mut turn = self.turn();
        ready!(self.poll_finish(&mut turn, context))?;
        self.poll_write(context, write)
    }
}

impl AsyncRead for Owned {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let tcp = &self.0.tcp;
        loop {
            ready!(tcp.poll_read_ready(context))?;
            match tcp.try_read_buf(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done.map(|_| ())),
            }
        }
    }
}

impl AsyncWrite for Owned {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_own(context, |tcp| tcp.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0
            .poll_own(context, |tcp| tcp.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TCP holds nothing back that could be flushed.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut turn = self.0.turn();
        ready!(self.0.poll_finish(&mut turn, context))?;
        Poll::Ready(Ok(shutdown(&self.0.tcp, Shutdown::Write)?))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (Owned, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap());
        let (ours, theirs) = tokio::join!(listener.accept(), theirs);
        (Owned::new(ours.unwrap().0), theirs.unwrap())
    }

    /// `who`, how long, and so many times `who`.
    fn message(who: u8, len: usize) -> Bytes {
        let mut message = vec![who];
        message.extend((len as u32).to_be_bytes());
        message.resize(5 + len, who);
        message.into()
    }

    #[tokio::test]
    async fn only_a_lent_line_takes_what_others_offer() {
        let (mut owned, mut theirs) = pair().await;
        let line = owned.line().clone();
        let hello = Bytes::from_static(b"hello");
        assert_eq!(line.offer(&hello), Offered::Refused);
        line.lend();
        assert_eq!(line.offer(&hello), Offered::Taken);
        assert_eq!(line.offer(&hello), Offered::Taken);
        owned.write_all(b" world").await.unwrap();
        assert_eq!(line.offer(&hello), Offered::Refused, "it was taken back");
        owned.shutdown().await.unwrap();
        let mut heard = String::new();
        theirs.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "hellohello world");
    }

    #[tokio::test]
    async fn what_a_full_socket_did_not_take_comes_before_all_else() {
        let (mut owned, mut theirs) = pair().await;
        let line = owned.line().clone();
        let large = message(1, 64 << 20);
        line.lend();
        assert_eq!(line.offer(&large), Offered::InPart);
        assert_eq!(line.offer(&large), Offered::Refused);
        line.lend();
        assert_eq!(
            line.offer(&large),
            Offered::Refused,
            "it is not written whole"
        );
        let small = message(2, 3);
        let theirs = tokio::spawn(async move {
            let mut heard = Vec::new();
            theirs.read_to_end(&mut heard).await.unwrap();
            heard
        });
        owned.write_all(&small).await.unwrap();
        line.finish().await.unwrap();
        owned.shutdown().await.unwrap();
        let heard = theirs.await.unwrap();
        assert!(heard == [&large[..], &small[..]].concat());
    }

    /// Two write at once for a while, to a reader that is slow: what comes are whole messages.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn messages_of_two_are_not_mixed() {
        const EACH: usize = 2_000;
        let (mut owned, mut theirs) = pair().await;
        let line = owned.line().clone();
        let other = tokio::spawn(async move {
            let mut offered = 0;
            for at in 0..EACH * 50 {
                let taken = line.offer(&message(7, at * 131 % 40_000));
                offered += usize::from(taken != Offered::Refused);
                tokio::task::yield_now().await;
            }
            offered
        });
        let reading = tokio::spawn(async move {
            let mut heard = [0; 8];
            loop {
                let Ok(who) = theirs.read_u8().await else {
                    return heard;
                };
                let mut body = vec![0; theirs.read_u32().await.unwrap() as usize];
                theirs.read_exact(&mut body).await.unwrap();
                assert!(body.iter().all(|byte| *byte == who), "of {who}");
                heard[who as usize] += 1;
            }
        });
        let line = owned.line().clone();
        for at in 0..EACH {
            // In pieces, as a buffer would be written.
            for piece in message(1, at * 97 % 30_000).chunks(9_000) {
                owned.write_all(piece).await.unwrap();
            }
            line.lend();
            tokio::task::yield_now().await;
        }
        let offered = other.await.unwrap();
        owned.shutdown().await.unwrap();
        let heard: [usize; 8] = reading.await.unwrap();
        assert_eq!((heard[1], heard[7]), (EACH, offered));
        assert!(offered > 0);
    }
}
