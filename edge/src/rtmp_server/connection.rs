//! One RTMP connection: bytes in, bytes out, and what the client asked for.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    auth::{Access, Denied, Verb},
    clock::wall_seconds,
    edge::Shared,
    rtmp::{Error, Event, Input, Output, Session, Target, TargetError},
};
use longspan_proto::ids::Stream;

/// How much is read at a time, in bytes.
const READ: usize = 64 * 1024;

/// How long a client that was told to go may take to go. A connection that is closed with unread
/// bytes is reset, and the client may never see the reason.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a connection ended otherwise than by the client's wish.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    #[error("{0}")]
    Protocol(#[from] Error),
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    #[error("it did not ask for anything in time")]
    Setup,
    #[error("it took nothing for {0:?}")]
    Stalled(Duration),
    #[error("it sent nothing for {0:?}")]
    Idle(Duration),
    #[error("refused: {message}")]
    Refused { slug: &'static str, message: String },
}

impl Closed {
    /// For the counter; `None` if it is nobody's fault.
    pub(super) fn slug(&self) -> Option<&'static str> {
        match self {
            Closed::Protocol(_) => Some("rtmp_protocol"),
            Closed::Io(_) => None,
            Closed::Setup => Some("rtmp_setup_timeout"),
            Closed::Stalled(_) => Some("stalled"),
            Closed::Idle(_) => Some("publisher_idle"),
            Closed::Refused { slug, .. } => Some(slug),
        }
    }
}

/// What a client wants.
enum Wish {
    Publish(Target),
    Play(Target),
}

/// What a client wants, and may have.
pub(super) struct Granted {
    pub(super) access: Access,
    pub(super) stream: Stream,
}

pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) session: Session,
    pub(super) peer: SocketAddr,
    tcp: TcpStream,
    input: BytesMut,
    output: BytesMut,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, tcp: TcpStream, peer: SocketAddr) -> Connection {
        Connection {
            shared,
            session: Session::new(rand::random()),
            peer,
            tcp,
            input: BytesMut::new(),
            output: BytesMut::new(),
        }
    }

    /// Serves the client to its end.
    pub(super) async fn run(mut self) -> Result<(), Closed> {
        let stop = self.shared.stop.clone();
        let wish = tokio::select! {
            wish = timeout(self.shared.limits.setup, self.wish()) => wish,
            () = stop.cancelled() => return Ok(()),
        };
        let result = match wish {
            Err(_) => Err(Closed::Setup),
            Ok(Err(reason)) => Err(reason),
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(Wish::Publish(target)))) => self.publish(target).await,
            Ok(Ok(Some(Wish::Play(target)))) => self.play(target).await,
        };
        if !matches!(result, Err(Closed::Io(_) | Closed::Stalled(_))) {
            // What the client did wrong, or that the stream is over. It may be gone already.
            let _ = timeout(FAREWELL, self.farewell()).await;
        }
        result
    }

    /// Reads until the client says what it wants; `None` if it leaves before.
    async fn wish(&mut self) -> Result<Option<Wish>, Closed> {
        loop {
            while let Some(event) = self.next_event() {
                match event {
                    Event::Publish(target) => return Ok(Some(Wish::Publish(target))),
                    Event::Play(target) => return Ok(Some(Wish::Play(target))),
                    Event::Closed => return Ok(None),
                    Event::Metadata(_) | Event::Media { .. } => {}
                }
            }
            self.flush().await?;
            let Some(bytes) = self.read().await? else {
                return Ok(None);
            };
            self.receive(bytes)?;
        }
    }

    /// Whether the client may have what it names; if not, it is told with `code`.
    pub(super) fn grant(
        &mut self,
        target: &Target,
        verb: Verb,
        code: &'static str,
    ) -> Result<Granted, Closed> {
        let granted = self.check(target, verb);
        granted.map_err(|(slug, message)| self.refuse(code, slug, message))
    }

    fn check(&self, target: &Target, verb: Verb) -> Result<Granted, (&'static str, String)> {
        let (room, stream) = target.names().map_err(|error| {
            let slug = match &error {
                TargetError::Name(_) => "invalid_name",
                TargetError::App(_) | TargetError::Shape(_) => "invalid_target",
            };
            (slug, error.to_string())
        })?;
        let token = target.query("token").or_else(|| target.query("jwt"));
        let admitted = self
            .shared
            .auth
            .admit(token.as_deref(), &room, verb, wall_seconds());
        let access = admitted.map_err(|denied: Denied| (denied.slug(), denied.to_string()))?;
        Ok(Granted { access, stream })
    }

    /// Tells the client that it cannot have what it wants, and why.
    pub(super) fn refuse(
        &mut self,
        code: &'static str,
        slug: &'static str,
        message: String,
    ) -> Closed {
        let description = message.clone();
        // Rejecting never fails: only received bytes can be wrong.
        let _ = self.session.handle(Input::Reject { code, description });
        Closed::Refused { slug, message }
    }

    /// The next thing the client did; what is to be sent to it is kept for [`Connection::flush`].
    pub(super) fn next_event(&mut self) -> Option<Event> {
        loop {
            match self.session.poll_output()? {
                Output::Send(bytes) => self.output.extend_from_slice(&bytes),
                Output::Event(event) => return Some(event),
            }
        }
    }

    pub(super) fn receive(&mut self, bytes: Bytes) -> Result<(), Closed> {
        Ok(self.session.handle(Input::Bytes(bytes))?)
    }

    /// Some bytes; `None` at the end. Nothing is lost if this is dropped while it waits.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, Closed> {
        self.input.reserve(READ);
        let read = self.tcp.read_buf(&mut self.input).await?;
        Ok((read > 0).then(|| self.input.split().freeze()))
    }

    /// Bytes that wait to be sent.
    pub(super) fn unsent(&self) -> usize {
        self.output.len()
    }

    /// Sends what waits.
    pub(super) async fn flush(&mut self) -> Result<(), Closed> {
        let stall = self.shared.limits.stall;
        while !self.output.is_empty() {
            match timeout(stall, self.tcp.write_buf(&mut self.output)).await {
                Err(_) => return Err(Closed::Stalled(stall)),
                Ok(Ok(0)) => return Err(Closed::Io(io::ErrorKind::WriteZero.into())),
                Ok(written) => drop(written?),
            }
        }
        Ok(())
    }

    /// Sends what is left, and reads until the client has gone.
    async fn farewell(&mut self) -> Result<(), Closed> {
        while self.next_event().is_some() {}
        self.flush().await?;
        self.tcp.shutdown().await?;
        while self.read().await?.is_some() {}
        Ok(())
    }
}
