//! One member: a real WebSocket, spoken by hand so that ten thousand fit beside the edges.

use std::{
    io::{self, Write},
    net::TcpStream,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    arrival,
    frames::{self, Unreadable},
};

/// How long an edge may take to take a member's connection.
const CONNECT: Duration = Duration::from_secs(30);
/// The longest answer to an upgrade, in bytes.
const MAX_HEAD: usize = 8 << 10;
/// How long an edge may take nothing of what a member says.
const WRITE: Duration = Duration::from_secs(30);

/// Text and pong frames (RFC 6455 §5.2).
const TEXT: u8 = 1;
const PONG: u8 = 10;

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

/// A connection whose frames are read by one thread and written by several.
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
        let mut stream = tokio::net::TcpStream::connect(edge).await?;
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
                let (stream, writing) = (stream.into_std()?, Mutex::new(()));
                // Reads say themselves that they do not wait.
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(WRITE))?;
                return Ok((Member { stream, writing }, rest));
            }
            if answer.len() > MAX_HEAD || stream.read_buf(&mut answer).await? == 0 {
                return Err(Lost::Closed);
            }
        }
    }

    /// To be read from.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Says hello under a session.
    pub fn hello(&self, session: u128) -> io::Result<()> {
        self.say(&format!(r#"{{"t":"hello","session":"{session:032x}"}}"#))
    }

    /// Says one message. Blocks its thread while the socket takes nothing.
    pub fn say(&self, text: &str) -> io::Result<()> {
        self.write(&frames::masked(TEXT, text.as_bytes()))
    }

    /// Answers a ping.
    pub fn pong(&self, payload: &[u8]) -> io::Result<()> {
        self.write(&frames::masked(PONG, payload))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.stream).write_all(bytes)
    }
}
