//! One member: goes from edge to edge for as long as the run lasts.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use longspan_lab::history::{Event, What};
use longspan_proto::time::Time;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::talk::{Next, Talk};

/// How long an edge may take to take a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// An edge that has not welcomed by then is left: twice what it waits itself for a room.
const WELCOME: Duration = Duration::from_secs(6);
/// An edge that says nothing for so long, though it is pinged, is left.
const SILENCE: Duration = Duration::from_secs(4);
/// How often it is pinged, and looked at.
const PING: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(50);
/// What was not taken is said again so much later.
const SOON: Duration = Duration::from_millis(200);
/// Between two edges.
const PAUSE: Duration = Duration::from_millis(100);
/// One of so many that go to another edge has forgotten all; and one of so many that are told that
/// the room is unavailable goes.
const FORGETS: u32 = 12;
const GOES: u32 = 2;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What the run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Phase {
    Talk,
    /// Nothing new is said.
    Quiet,
    End,
}

/// What all members share.
pub struct Shared {
    pub began: Instant,
    /// Where members connect, an URL an edge.
    pub edges: Vec<String>,
    /// How often a member says something.
    pub every: Duration,
    pub history: Mutex<Vec<Event>>,
    /// The newest place that was acked to anybody.
    pub acked: AtomicU64,
    /// Members that have joined and wait for nothing, as far as `acked`.
    pub places: Vec<Place>,
}

/// Where a member stands, for whoever waits for all.
#[derive(Default)]
pub struct Place {
    /// The newest message it has; `u64::MAX` while it does not have everything that it waits for.
    seq: AtomicU64,
    pub connections: AtomicU64,
    pub expired: AtomicU64,
    pub relogged: AtomicU64,
}

impl Shared {
    pub fn now(&self) -> Time {
        Time::from_micros(self.began.elapsed().as_micros() as u64)
    }

    fn note(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        for event in &events {
            if let What::Acked { seq, .. } = event.what {
                self.acked.fetch_max(seq, Ordering::Relaxed);
            }
        }
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.extend(events);
    }

    /// Whether every member is in, waits for nothing and has everything that was acked.
    pub fn is_settled(&self) -> bool {
        let acked = self.acked.load(Ordering::Relaxed);
        let has = |place: &Place| match place.seq.load(Ordering::Relaxed) {
            WAITS => false,
            seq => seq >= acked,
        };
        self.places.iter().all(has)
    }

    /// Members that are in.
    pub fn joined(&self) -> usize {
        let is_in = |place: &&Place| place.connections.load(Ordering::Relaxed) > 0;
        self.places.iter().filter(is_in).count()
    }
}

/// Of a member that is not in, or that waits for an answer.
const WAITS: u64 = u64::MAX;

/// Runs a member until the end; `first` is the edge it prefers.
pub async fn run(
    shared: Arc<Shared>,
    id: u32,
    first: usize,
    seed: u64,
    mut phase: watch::Receiver<Phase>,
) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let talk = Talk::new(id, &mut rng);
    let mut member = Member {
        place: id as usize,
        shared,
        talk,
        rng,
        edge: first,
        due: Instant::now(),
        again: None,
    };
    member.stand(false);
    while *phase.borrow() < Phase::End {
        let connected = timeout(CONNECT, connect(&member.shared.edges[member.edge])).await;
        if let Ok(Some(socket)) = connected {
            // However it ended: the next edge is tried.
            let _ = member.stay(socket, &mut phase).await;
        }
        let now = *phase.borrow();
        if now < Phase::End {
            member.stand(false);
            member.go(now);
            sleep(PAUSE.mul_f64(member.rng.random_range(0.5..2.0))).await;
        }
    }
    let now = member.shared.now();
    member.talk.stays(now);
    member.write_down();
}

struct Member {
    shared: Arc<Shared>,
    /// Its number among all.
    place: usize,
    talk: Talk,
    rng: ChaCha8Rng,
    edge: usize,
    /// When it says something next.
    due: Instant,
    /// When it says again what was not taken.
    again: Option<Instant>,
}

/// The connection is over.
struct Over;

impl Member {
    /// To another edge; sometimes as somebody who knows nothing.
    fn go(&mut self, phase: Phase) {
        let edges = self.shared.edges.len();
        self.edge = (self.edge + self.rng.random_range(1..edges.max(2))) % edges;
        // At the end all are to have everything: nobody begins anew.
        if phase == Phase::Talk && self.rng.random_ratio(1, FORGETS) {
            let now = self.shared.now();
            self.talk.forget(now, &mut self.rng);
            self.write_down();
        }
    }

    fn write_down(&mut self) {
        let events = self.talk.take();
        self.shared.note(events);
    }

    /// Tells where it stands.
    fn stand(&self, connected: bool) {
        let place = &self.shared.places[self.place];
        let settled = connected && self.talk.joined() && !self.talk.waits();
        let seq = if settled { self.talk.seq() } else { WAITS };
        place.seq.store(seq, Ordering::Relaxed);
        place.expired.store(self.talk.expired, Ordering::Relaxed);
        place.relogged.store(self.talk.relogged, Ordering::Relaxed);
    }

    /// Stays at an edge for as long as that is of use.
    async fn stay(
        &mut self,
        mut socket: Socket,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<(), Over> {
        let began = Instant::now();
        let hello = self.talk.hello(self.shared.now());
        send(&mut socket, hello).await?;
        let (mut heard, mut pinged) = (began, began);
        let now = phase.clone();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                said = socket.next() => {
                    heard = Instant::now();
                    match said {
                        Some(Ok(Message::Text(text))) => self.hear(&mut socket, &text).await?,
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Over),
                        Some(Ok(_)) => {}
                    }
                }
                _ = ticks.tick() => {
                    let late = !self.talk.joined() && began.elapsed() > WELCOME;
                    if heard.elapsed() > SILENCE || late {
                        return Err(Over);
                    }
                    if pinged.elapsed() > PING {
                        pinged = Instant::now();
                        send(&mut socket, r#"{"t":"ping"}"#.to_owned()).await?;
                    }
                    let phase = *now.borrow();
                    self.speak(&mut socket, phase).await?;
                }
                () = ended(phase) => return Ok(()),
            }
            self.stand(true);
        }
    }

    async fn hear(&mut self, socket: &mut Socket, text: &str) -> Result<(), Over> {
        let said: Value = serde_json::from_str(text).map_err(|_| Over)?;
        let first = !self.talk.joined();
        let next = self.talk.hear(self.shared.now(), &said, &mut self.rng);
        self.write_down();
        if first && self.talk.joined() {
            let place = &self.shared.places[self.place];
            place.connections.fetch_add(1, Ordering::Relaxed);
        }
        match next {
            Next::Nothing => {}
            Next::Now => self.again = Some(Instant::now()),
            Next::Soon if said["error"] == "unavailable" && self.rng.random_ratio(1, GOES) => {
                return Err(Over);
            }
            Next::Soon => {
                self.again.get_or_insert(Instant::now() + SOON);
            }
            Next::Leave => return Err(Over),
        }
        self.repeat(socket).await
    }

    async fn repeat(&mut self, socket: &mut Socket) -> Result<(), Over> {
        if self.again.is_some_and(|again| again <= Instant::now()) {
            self.again = None;
            let again: Vec<String> = self.talk.again().cloned().collect();
            for text in again {
                send(socket, text).await?;
            }
        }
        Ok(())
    }

    async fn speak(&mut self, socket: &mut Socket, phase: Phase) -> Result<(), Over> {
        self.repeat(socket).await?;
        if phase != Phase::Talk || self.due > Instant::now() {
            return Ok(());
        }
        self.due = Instant::now() + self.shared.every.mul_f64(self.rng.random_range(0.5..1.5));
        let now = self.shared.now();
        if let Some(text) = self.talk.say(now, &mut self.rng) {
            // Written down before it is said: nobody may hear it earlier.
            self.write_down();
            send(socket, text).await?;
        }
        Ok(())
    }
}

/// Returns at the end of the run.
async fn ended(phase: &mut watch::Receiver<Phase>) {
    // Its sender lives as long as the run.
    let _ = phase.wait_for(|phase| *phase == Phase::End).await;
}

async fn send(socket: &mut Socket, text: String) -> Result<(), Over> {
    let sent = timeout(SILENCE, socket.send(Message::text(text))).await;
    sent.map_err(|_| Over)?.map_err(|_| Over)
}

async fn connect(url: &str) -> Option<Socket> {
    let mut request = url.into_client_request().ok()?;
    let protocol = "longspan.v1+json".parse().ok()?;
    request
        .headers_mut()
        .insert("sec-websocket-protocol", protocol);
    let (socket, _) = connect_async(request).await.ok()?;
    Some(socket)
}
