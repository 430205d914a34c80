//! A connection whose reader must not sleep.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// Fails a write that has taken no byte for a while. So a client that stopped reading gives its
/// connection back, whatever is being sent to it.
pub(super) struct Stalling<S> {
    inner: S,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    /// The last write took nothing; the timer runs since then.
    waiting: bool,
}

impl<S> Stalling<S> {
    pub(super) fn new(inner: S, limit: Duration) -> Stalling<S> {
        Stalling {
            inner,
            limit,
            timer: Box::pin(sleep(limit)),
            waiting: false,
        }
    }

    fn judge(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.waiting = false;
            return written;
        }
        if !self.waiting {
            self.waiting = true;
            self.timer.as_mut().reset(Instant::now() + self.limit);
        }
        match self.timer.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                crate::metrics::rejected("stalled");
                let why = format!("the client took nothing for {:?}", self.limit);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_reader_that_sleeps_fails_the_write() {
        let (ours, mut theirs) = duplex(4);
        let mut stalling = Stalling::new(ours, Duration::from_millis(20));
        // It sleeps after the first byte: the clock starts anew at each byte taken.
        let written = tokio::spawn(async move {
            stalling.write_all(b"12345").await?;
            stalling.write_all(b"6789").await
        });
        assert_eq!(theirs.read_u8().await.unwrap(), b'1');
        let error = written.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_reader_that_reads_is_left_alone() {
        let (ours, mut theirs) = duplex(4);
        let mut stalling = Stalling::new(ours, Duration::from_secs(60));
        let written = tokio::spawn(async move { stalling.write_all(b"123456789").await });
        let mut read = [0; 9];
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"123456789");
        assert!(written.await.unwrap().is_ok());
    }
}
