//! One member: a real WebSocket, spoken by hand so that ten thousand fit beside the edges.

use std::{cell::RefCell, io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
    sync::Mutex,
    time::timeout,
};

use super::{
    arrival,
    frames::{self, Reader, Said, Unreadable},
};

/// How long an edge may take to take a member's connection.
const CONNECT: Duration = Duration::from_secs(30);
/// The longest answer to an upgrade, in bytes.
const MAX_HEAD: usize = 8 << 10;
/// Bytes that are read at once, by any member of a thread.
const READ: usize = 256 << 10;

/// Text and pong frames (RFC 6455 §5.2).
const TEXT: u8 = 1;
const PONG: u8 = 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// Why a member is no member.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("not within {CONNECT:?}: the connection")]
    Slow,
    #[error("the edge answered {0:?}")]
    Refused(String),
    #[error("the edge closed")]
    Closed,
}

/// A connection whose frames are read by one task and written by several.
pub struct Member {
    stream: TcpStream,
    /// Whoever writes a frame.
    writing: Mutex<()>,
}

impl Member {
    /// Connects to an edge (`HOST:PORT`) and upgrades; what came behind the answer.
    pub async fn connect(edge: &str, room: &str) -> Result<(Member, Vec<u8>), Lost> {
        timeout(CONNECT, Member::upgrade(edge, room))
            .await
            .map_err(|_| Lost::Slow)?
    }

    async fn upgrade(edge: &str, room: &str) -> Result<(Member, Vec<u8>), Lost> {
        let mut stream = TcpStream::connect(edge).await?;
        stream.set_nodelay(true)?;
        arrival::note(&stream)?;
        // The key is RFC 6455 §1.3's: nobody looks at the answer to it here.
        let request = format!(
            "GET /rooms/{room}/messages HTTP/1.1\r\nHost: {edge}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: longspan.v1+json\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            if let Some(end) = answer.windows(4).position(|part| part == b"\r\n\r\n") {
                let rest = answer.split_off(end + 4);
                if !answer.starts_with(b"HTTP/1.1 101 ") {
                    let text = String::from_utf8_lossy(&answer);
                    let line = text.lines().next().unwrap_or_default();
                    return Err(Lost::Refused(line.to_owned()));
                }
                let writing = Mutex::new(());
                return Ok((Member { stream, writing }, rest));
            }
            if answer.len() > MAX_HEAD || stream.read_buf(&mut answer).await? == 0 {
                return Err(Lost::Closed);
            }
        }
    }

    /// Says hello under a session.
    pub async fn hello(&self, session: u128) -> io::Result<()> {
        self.say(&format!(r#"{{"t":"hello","session":"{session:032x}"}}"#))
            .await
    }

    /// Says one message.
    pub async fn say(&self, text: &str) -> io::Result<()> {
        self.write(&frames::masked(TEXT, text.as_bytes())).await
    }

    /// Answers a ping.
    pub async fn pong(&self, payload: &[u8]) -> io::Result<()> {
        self.write(&frames::masked(PONG, payload)).await
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let _one = self.writing.lock().await;
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for what comes, and hears all that there is; how long the last of it has been here.
    pub async fn hear(
        &self,
        reader: &mut Reader,
        filler: usize,
        mut hear: impl FnMut(Said),
    ) -> Result<Duration, Lost> {
        self.stream.readable().await?;
        BUFFER.with_borrow_mut(|buffer| {
            let read = || arrival::read(&self.stream, buffer);
            match self.stream.try_io(Interest::READABLE, read) {
                Ok((0, _)) => Err(Lost::Closed),
                Ok((read, since)) => {
                    reader.read(&buffer[..read], filler, &mut hear)?;
                    Ok(since)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Duration::ZERO),
                Err(error) => Err(error.into()),
            }
        })
    }
}
