//! The one forwarding core of a node and what stands around it: a lock, a timer, and a place for
//! each of its outputs. It decides nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use longspan_proto::{
    time::Time,
    wire::{EndReason, Message},
};
use tokio::sync::{Notify, mpsc};

use crate::{
    forward::{Forwarder, Input, LocalEvent, LocalKey, Output, PeerKey, StreamKey, Transmit},
    inbox::Inbox,
};

/// This process's monotonic clock: it counts from its start and, where it is told so, is ahead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    base: Instant,
    ahead: Duration,
}

impl Clock {
    pub fn new(ahead: Duration) -> Clock {
        Clock {
            base: Instant::now(),
            ahead,
        }
    }

    pub fn now(&self) -> Time {
        Time::from_micros((self.base.elapsed() + self.ahead).as_micros() as u64)
    }

    /// The moment as tokio's timers know it.
    pub fn instant(&self, at: Time) -> tokio::time::Instant {
        (self.base + Duration::from_micros(at.as_micros()).saturating_sub(self.ahead)).into()
    }
}

/// Control messages that wait for one connection. More are waiting only if the neighbour stopped
/// reading: it is disconnected then (it resubscribes on a fresh connection, nothing is lost).
pub(crate) const CONTROL_QUEUE: usize = 32_768;

/// Where the core's words to one connection go.
pub(crate) struct PeerPort {
    /// To its writer task.
    pub control: mpsc::Sender<Message>,
    /// Wakes its writer task.
    pub ready: Arc<Notify>,
    /// Closes it, with what it did wrong.
    pub kick: mpsc::Sender<String>,
    /// Group streams that are being read; notified when the rest is not wanted.
    pub reading: HashMap<StreamKey, Arc<Notify>>,
}

struct State {
    core: Forwarder,
    peers: HashMap<PeerKey, PeerPort>,
    locals: HashMap<LocalKey, Arc<Inbox>>,
}

/// See the [module](self).
pub(crate) struct Engine {
    clock: Clock,
    state: Mutex<State>,
    /// The core wants to be woken earlier than the timer task knows.
    timer: Notify,
    numbers: AtomicU64,
}

impl Engine {
    pub fn new(core: Forwarder, clock: Clock) -> Arc<Engine> {
        Arc::new(Engine {
            clock,
            state: Mutex::new(State {
                core,
                peers: HashMap::new(),
                locals: HashMap::new(),
            }),
            timer: Notify::new(),
            numbers: AtomicU64::new(1),
        })
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// A number that was never given before.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside the core is a bug that its own tests look for; the other tasks of this
        // node still serve better with what is there than by dying with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `f` on the core, then puts every output in its place.
    fn with<R>(&self, f: impl FnOnce(&mut State, Time) -> R) -> R {
        let mut state = self.lock();
        let before = state.core.poll_timeout();
        let result = f(&mut state, self.clock.now());
        state.drain();
        let after = state.core.poll_timeout();
        drop(state);
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.timer.notify_one();
        }
        result
    }

    pub fn handle(&self, input: Input) {
        self.with(|state, now| state.core.handle(now, input));
    }

    /// Several inputs under one lock.
    pub fn handle_all(&self, inputs: impl IntoIterator<Item = Input>) {
        self.with(|state, now| {
            for input in inputs {
                state.core.handle(now, input);
            }
        });
    }

    pub fn peer_up(&self, peer: PeerKey, port: PeerPort, input: Input) {
        self.with(|state, now| {
            state.peers.insert(peer, port);
            state.core.handle(now, input);
        });
    }

    pub fn peer_down(&self, peer: PeerKey) {
        self.with(|state, now| {
            state.core.handle(now, Input::PeerDown { peer });
            state.peers.remove(&peer);
        });
    }

    /// A group's stream was opened; the returned signal says that the rest is not wanted.
    pub fn group_opened(&self, peer: PeerKey, stream: StreamKey, input: Input) -> Arc<Notify> {
        let stop = Arc::new(Notify::new());
        self.with(|state, now| {
            if let Some(port) = state.peers.get_mut(&peer) {
                port.reading.insert(stream, stop.clone());
                state.core.handle(now, input);
            }
        });
        stop
    }

    /// A group's stream ended, one way or the other.
    pub fn group_closed(&self, peer: PeerKey, stream: StreamKey, input: Option<Input>) {
        self.with(|state, now| {
            let Some(port) = state.peers.get_mut(&peer) else {
                return;
            };
            port.reading.remove(&stream);
            if let Some(input) = input {
                state.core.handle(now, input);
            }
        });
    }

    pub fn poll_transmit(&self, peer: PeerKey) -> Option<Transmit> {
        self.with(|state, now| state.core.poll_transmit(now, peer))
    }

    pub fn subscribe(&self, local: LocalKey, inbox: Arc<Inbox>, input: Input) {
        self.with(|state, now| {
            state.locals.insert(local, inbox);
            state.core.handle(now, input);
        });
    }

    pub fn unsubscribe(&self, local: LocalKey) {
        self.with(|state, now| {
            state.locals.remove(&local);
            state.core.handle(now, Input::Unsubscribe { local });
        });
    }

    /// Reads something off the core.
    pub fn view<R>(&self, f: impl FnOnce(&Forwarder) -> R) -> R {
        f(&self.lock().core)
    }

    /// Says something of the driver's own on a peer's control stream.
    pub fn say(&self, peer: PeerKey, message: Message) {
        if let Some(port) = self.lock().peers.get(&peer) {
            port.say(message);
        }
    }

    /// Says to every consumer that nothing more will come.
    pub fn end_locals(&self, message: &str) {
        for inbox in self.lock().locals.values() {
            inbox.push(LocalEvent::End {
                reason: EndReason::Unreachable,
                message: message.to_owned(),
            });
        }
    }

    /// Calls the core's timeouts. Never returns.
    pub async fn keep_time(&self) {
        loop {
            let due = self.lock().core.poll_timeout();
            let earlier = self.timer.notified();
            match due {
                None => earlier.await,
                Some(due) => {
                    tokio::select! {
                        () = earlier => {}
                        () = tokio::time::sleep_until(self.clock.instant(due)) => {
                            self.with(|state, now| state.core.handle_timeout(now));
                        }
                    }
                }
            }
        }
    }
}

impl State {
    fn drain(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Control { peer, message } => {
                    if let Some(port) = self.peers.get(&peer) {
                        port.say(message);
                    }
                }
                Output::Ready { peer } => {
                    if let Some(port) = self.peers.get(&peer) {
                        port.ready.notify_one();
                    }
                }
                Output::Stop { peer, stream } => {
                    if let Some(stop) = self
                        .peers
                        .get_mut(&peer)
                        .and_then(|port| port.reading.remove(&stream))
                    {
                        stop.notify_one();
                    }
                }
                Output::Disconnect { peer, reason } => {
                    if let Some(port) = self.peers.get(&peer) {
                        port.close(reason);
                    }
                }
                Output::Healed { trouble, took } => {
                    metrics::counter!("longspan_failovers_total", "cause" => trouble.as_str())
                        .increment(1);
                    metrics::histogram!("longspan_failover_recover_seconds").record(took);
                }
                Output::Local { local, event } => {
                    if let Some(inbox) = self.locals.get(&local) {
                        inbox.push(event);
                    }
                }
            }
        }
    }
}

impl PeerPort {
    fn say(&self, message: Message) {
        match self.control.try_send(message) {
            Ok(()) => self.ready.notify_one(),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.close(format!("{CONTROL_QUEUE} control messages wait for it"));
            }
            // The connection is going down; the core is told by its task.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    fn close(&self, reason: String) {
        // One reason is enough.
        let _ = self.kick.try_send(reason);
    }
}
