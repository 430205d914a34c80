//! A member's WebSocket: the driver of [`Member`].

use std::{
    collections::VecDeque,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{
        Path, RawQuery, State,
        rejection::PathRejection,
        ws::{
            CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade,
            rejection::WebSocketUpgradeRejection,
        },
    },
    http::{HeaderMap, StatusCode, header},
    response::Response,
    routing::get,
};
use longspan_proto::{
    ids::Room,
    time::Time,
    wire::{envelope::MAX_MEMBER, room::Request},
};
use metrics::counter;
use tokio::time::{Instant, error::Elapsed, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

use super::{
    Crowded, Messages,
    hub::{FromLeader, NotAsked, Place},
    member::{Action, CLOSE_AWAY, CLOSE_POLICY, Member},
    seat::Seat,
    wire::{self, Encoding, Invalid, Outgoing},
};
use crate::{
    auth::{self, Access},
    http::{ApiError, Caller},
    line::Line,
    metrics::{Session, rejected},
};

/// A WebSocket message above this ends the connection (RFC 6455 §7.4.1, 1009); between
/// [`wire::MAX_MESSAGE`] and this it is answered with an error.
const MAX_FRAME: usize = 1 << 20;

/// What is read of a member's at once, in bytes; each connection holds so many.
const READ_BUFFER: usize = 4 << 10;

/// The other end broke the protocol of frames (RFC 6455 §7.4.1).
const CLOSE_PROTOCOL: u16 = 1002;
/// A text frame held something else than UTF-8.
const CLOSE_NOT_TEXT: u16 = 1007;
/// See [`MAX_FRAME`].
const CLOSE_TOO_BIG: u16 = 1009;

/// How long a member that was told to go may take to go. A connection that is closed with unread
/// bytes is reset, and the member may never see the reason.
const FAREWELL: Duration = Duration::from_secs(1);

/// `GET /rooms/ROOM/messages`.
pub(crate) fn router(messages: Arc<Messages>) -> Router {
    Router::new()
        .route("/rooms/{room}/messages", get(open))
        .with_state(messages)
}

impl From<Crowded> for ApiError {
    fn from(crowded: Crowded) -> ApiError {
        match crowded {
            Crowded::Rooms(rooms) => rooms.into(),
            Crowded::Leaving(away) => away.into(),
            Crowded::Members { limit } => ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_members",
                crowded.to_string(),
            )
            .with_limit(limit),
        }
    }
}

async fn open(
    State(messages): State<Arc<Messages>>,
    room: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    line: Option<Extension<Arc<Line>>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let room = Room::new(&room?.0)?;
    let caller = Caller::new(&headers, query.as_deref());
    let (token, skips) = (caller.token(), caller.skips());
    let access = (messages.authorize)(token, &room)?;
    let upgrade =
        upgrade.map_err(|e| ApiError::new(e.status(), "not_a_websocket", e.body_text()))?;
    let (upgrade, encoding) = negotiate(upgrade, &headers)?;
    let name = name(&access)?;
    let seat = Seat::new(line.map(|Extension(line)| line), encoding);
    let place = messages.enter(&access.room, seat)?;
    let tasks = messages.tasks.clone();
    Ok(upgrade
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .read_buffer_size(READ_BUFFER)
        .on_upgrade(move |socket| {
            tasks.track_future(async move {
                let now = messages.now();
                let limits = messages.limits.member;
                let (room, grants) = (access.room.clone(), access.grants.clone());
                let member = Member::new(now, limits, room, name, grants).skipping(skips);
                Connection {
                    messages: &messages,
                    session: Session::new("ws"),
                    socket,
                    encoding,
                    member,
                    place,
                    hidden: access.hidden,
                }
                .run(expiry(&access))
                .await;
            })
        }))
}

/// Chooses the encoding; whoever offers only subprotocols that are not known is told.
fn negotiate(
    upgrade: WebSocketUpgrade,
    headers: &HeaderMap,
) -> Result<(WebSocketUpgrade, Encoding), ApiError> {
    let upgrade = upgrade.protocols(Encoding::PROTOCOLS);
    let chosen = upgrade
        .selected_protocol()
        .and_then(|protocol| protocol.to_str().ok())
        .and_then(Encoding::of);
    if let Some(encoding) = chosen {
        return Ok((upgrade, encoding));
    }
    match headers.get(header::SEC_WEBSOCKET_PROTOCOL) {
        None => Ok((upgrade, Encoding::Json)),
        Some(offered) => {
            let known = Encoding::PROTOCOLS.join(", ");
            let why = format!("no subprotocol of {offered:?} is known; these are: {known}");
            Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "unknown_subprotocol",
                why,
            ))
        }
    }
}

/// The member's name: the token's subject, else a random one.
fn name(access: &Access) -> Result<Arc<str>, ApiError> {
    if access.identity.is_empty() {
        return Ok(format!("m-{:016x}", rand::random::<u64>()).into());
    }
    let len = access.identity.len();
    if len > MAX_MEMBER {
        let why = format!("the token's subject has {len} bytes; {MAX_MEMBER} is the limit here");
        let refused = ApiError::new(StatusCode::FORBIDDEN, "name_too_long", why);
        return Err(refused.with_limit(MAX_MEMBER));
    }
    Ok(access.identity.as_str().into())
}

/// Returns when the token is over.
fn expiry(access: &Access) -> impl Future<Output = ()> + use<> {
    let left = access.expires.map(|expires| {
        let now = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.as_secs());
        Duration::from_secs(expires.saturating_add(auth::LEEWAY).saturating_sub(now))
    });
    async move {
        match left {
            Some(left) => sleep(left).await,
            None => std::future::pending().await,
        }
    }
}

struct Connection<'a> {
    messages: &'a Messages,
    session: Session,
    socket: WebSocket,
    encoding: Encoding,
    member: Member,
    place: Place,
    /// Presence does not tell of this member.
    hidden: bool,
}

/// The connection is over.
struct Over;

impl Connection<'_> {
    async fn run(mut self, expired: impl Future<Output = ()>) {
        // If the other end is gone already there is nobody to tell.
        let _ = self.talk(expired).await;
        // What the hub wrote since this task last looked.
        if let Some((_, bytes)) = self.place.seat.take() {
            self.session.sent(bytes);
        }
    }

    async fn talk(&mut self, expired: impl Future<Output = ()>) -> Result<(), Over> {
        tokio::pin!(expired);
        let stop = self.messages.stop.clone();
        let mut leaving = self.messages.leaving.subscribe();
        // Told while the connection was being made.
        leaving.mark_changed();
        let mut timer = Box::pin(sleep_until(self.clock(self.member.poll_timeout())));
        let mut more = false;
        loop {
            let actions = tokio::select! {
                said = self.socket.recv() => self.said(said).await?,
                Some(news) = self.place.answers.recv() => match news {
                    FromLeader::Answer(answer) => self.member.answer(answer),
                    FromLeader::Unavailable { n } => self.member.unavailable(n),
                },
                () = self.place.seat.woken() => Vec::new(),
                () = std::future::ready(()), if more => Vec::new(),
                () = &mut timer => {
                    let actions = self.member.tick(self.messages.now());
                    timer.as_mut().reset(self.clock(self.member.poll_timeout()));
                    actions
                }
                () = &mut expired => {
                    return self.close(CLOSE_POLICY, "token_expired", "the token is over").await;
                }
                Ok(()) = leaving.changed() => match &*leaving.borrow_and_update() {
                    Some(leaving) => self.member.goaway(leaving),
                    None => Vec::new(),
                },
                () = stop.cancelled() => {
                    return self.close(CLOSE_AWAY, "going_away", "this edge shuts down").await;
                }
            };
            self.take_back().await?;
            self.act(actions).await?;
            let now = self.messages.now();
            let news = self.place.hub.view(|view| self.member.pull(now, view));
            more = !news.is_empty();
            if let Some(name) = self.member.present().filter(|_| !self.hidden) {
                self.place.is_present(name);
            }
            self.act(news).await?;
            // What was said moves it further away; then it goes off too early, and is set anew.
            let due = self.clock(self.member.poll_timeout());
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            more = more || !self.place.seat.give(self.member.cursor());
        }
    }

    fn clock(&self, time: Time) -> Instant {
        Instant::from_std(self.messages.started) + time.saturating_since(Time::ZERO)
    }

    /// From here on this task writes to the member.
    async fn take_back(&mut self) -> Result<(), Over> {
        let Some((cursor, bytes)) = self.place.seat.take() else {
            return Ok(());
        };
        self.member.fed(cursor);
        self.session.sent(bytes);
        let finished = timeout(self.messages.limits.write, self.place.seat.finish()).await;
        taken(finished.map(|finished| finished.map_err(|_| Over)))
    }

    async fn said(
        &mut self,
        said: Option<Result<Message, axum::Error>>,
    ) -> Result<Vec<Action>, Over> {
        let now = self.messages.now();
        let said = match said {
            None | Some(Ok(Message::Close(_))) => return Err(Over),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                self.member.alive(now);
                return Ok(Vec::new());
            }
            Some(Ok(Message::Text(text))) if self.encoding == Encoding::Json => {
                wire::decode(self.encoding, text.as_bytes())
            }
            Some(Ok(Message::Binary(bytes))) if self.encoding == Encoding::Cbor => {
                wire::decode(self.encoding, &bytes)
            }
            Some(Ok(Message::Text(_))) => Err(wrong_frame("text", "longspan.v1+cbor")),
            Some(Ok(Message::Binary(_))) => Err(wrong_frame("binary", "longspan.v1+json")),
            Some(Err(error)) => return Err(self.broken(error).await),
        };
        Ok(self.member.receive(now, said))
    }

    async fn act(&mut self, actions: Vec<Action>) -> Result<(), Over> {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(message) => self.write(message.write(self.encoding)).await?,
                Action::Deliver(batch) => {
                    let written = wire::batch(self.encoding, &batch.events, batch.skipped);
                    self.write(written).await?;
                }
                Action::Ask { lead, request } => actions.extend(self.ask(lead, &request)),
                Action::Ping => self.send(Message::Ping(Bytes::new())).await?,
                Action::CountGap => counter!("longspan_log_gaps_total").increment(1),
                Action::Close {
                    code,
                    slug,
                    message,
                } => {
                    self.close(code, slug, &message).await?;
                    return Err(Over);
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, lead: Option<Request>, request: &Request) -> Vec<Action> {
        let now = self.messages.now();
        let asked = self.place.hub.ask(now, self.place.key, lead, request);
        match (asked, request) {
            (Ok(()), _) => Vec::new(),
            (Err(NotAsked::Busy { limit }), Request::Publish(message)) => {
                self.member.busy(message.n, limit)
            }
            (Err(NotAsked::TooFast { limit }), Request::Publish(message)) => {
                self.member.room_too_fast(message.n, limit)
            }
            (Err(_), _) => self.member.unavailable(0),
        }
    }

    async fn write(&mut self, written: Bytes) -> Result<(), Over> {
        self.session.sent(written.len());
        let message = match self.encoding {
            Encoding::Cbor => Message::Binary(written),
            Encoding::Json => Message::Text(
                // JSON is written as UTF-8.
                Utf8Bytes::try_from(written).map_err(|_| Over)?,
            ),
        };
        self.send(message).await
    }

    /// Sends; whoever does not take it for too long is gone.
    async fn send(&mut self, message: Message) -> Result<(), Over> {
        let sent = timeout(self.messages.limits.write, self.socket.send(message)).await;
        taken(sent.map(|sent| sent.map_err(|_| Over)))
    }

    /// The connection broke, or the other end broke the protocol: then it is told how.
    async fn broken(&mut self, error: axum::Error) -> Over {
        let message = error.to_string();
        let error = error.into_inner().downcast::<tungstenite::Error>();
        let (code, limit) = match error.as_deref() {
            Ok(
                tungstenite::Error::Io(_)
                | tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
            ) => return Over,
            Ok(tungstenite::Error::Capacity(_)) => (CLOSE_TOO_BIG, Some(MAX_FRAME as u64)),
            Ok(tungstenite::Error::Utf8(_)) => (CLOSE_NOT_TEXT, None),
            _ => (CLOSE_PROTOCOL, None),
        };
        let told = self.tell_end(code, "invalid_frame", &message, limit).await;
        if told.is_ok() {
            // Nothing more can be read: the bytes that follow have no frames.
            sleep(FAREWELL).await;
        }
        Over
    }

    /// Says why, closes, and waits for the other end to have heard it.
    async fn close(&mut self, code: u16, slug: &'static str, message: &str) -> Result<(), Over> {
        self.tell_end(code, slug, message, None).await?;
        let going = async { while let Some(Ok(_)) = self.socket.recv().await {} };
        // Whoever does not go is left.
        let _ = timeout(FAREWELL, going).await;
        Ok(())
    }

    async fn tell_end(
        &mut self,
        code: u16,
        slug: &'static str,
        message: &str,
        limit: Option<u64>,
    ) -> Result<(), Over> {
        rejected(slug);
        let told = Outgoing::Err {
            n: None,
            error: slug.into(),
            message: message.to_owned(),
            limit,
        };
        self.write(told.write(self.encoding)).await?;
        let frame = CloseFrame {
            code,
            reason: slug.into(),
        };
        self.send(Message::Close(Some(frame))).await
    }
}

/// Whether the member took what was written.
fn taken(written: Result<Result<(), Over>, Elapsed>) -> Result<(), Over> {
    written.unwrap_or_else(|_| {
        rejected("too_slow");
        Err(Over)
    })
}

fn wrong_frame(kind: &str, protocol: &str) -> Invalid {
    Invalid {
        n: None,
        slug: "wrong_frame",
        message: format!("a {kind} frame does not belong to {protocol}"),
        limit: None,
    }
}
