//! All members, and what they count together.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use super::{
    super::report::Distribution,
    frames::{Reader, Said},
    member::{Lost, Member},
    threads::{self, Threads},
};
use crate::failure::{Failure, Outcome};

/// How long a member may take to have joined: the room's first one waits for its log to be placed.
const JOIN: Duration = Duration::from_secs(60);
/// How long what was said last may take to be answered and given to everybody.
const LATE: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Members count into so many places, so that they do not wait for each other.
const TALLIES: usize = 32;
/// Messages that one member says in a second, of the 50 that it may.
const EACH: u32 = 20;

/// What was counted.
#[derive(Default)]
pub struct Tally {
    /// From when a message was due to be said until a member has it.
    pub delivery: Distribution,
    /// And until it has come to the member's socket: the member itself shares the edges' cores.
    pub arrival: Distribution,
    /// And until its publisher has its ack.
    pub ack: Distribution,
    /// When each acked message was due, and when its ack came, by the crowd's clock in µs.
    pub acks: Vec<(u64, u64)>,
    /// From connecting until the whole state is there.
    pub join: Distribution,
    /// Messages that were given.
    pub given: u64,
    /// Gaps that were told.
    pub gaps: u64,
    /// Messages that were given twice.
    pub duplicates: u64,
    /// Messages that were left out without a word.
    pub skipped: u64,
    /// Refused messages by reason.
    pub errors: BTreeMap<String, u64>,
    /// Connections that ended by themselves, by reason.
    pub lost: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.delivery.add(&other.delivery);
        self.arrival.add(&other.arrival);
        self.ack.add(&other.ack);
        self.acks.extend(&other.acks);
        self.join.add(&other.join);
        self.given += other.given;
        self.gaps += other.gaps;
        self.duplicates += other.duplicates;
        self.skipped += other.skipped;
        for (into, from) in [
            (&mut self.errors, &other.errors),
            (&mut self.lost, &other.lost),
        ] {
            for (reason, count) in from {
                *into.entry(reason.clone()).or_default() += count;
            }
        }
    }

    /// Messages that their publisher has heard of.
    fn answered(&self) -> u64 {
        self.ack_count() + self.errors.values().sum::<u64>()
    }

    /// Messages that were acked.
    pub fn ack_count(&self) -> u64 {
        self.ack.count()
    }
}

/// What all members share.
struct Shared {
    clock: Instant,
    room: String,
    /// Bytes of a body beside its stamp.
    filler: usize,
    /// Messages that were due earlier, in µs of the clock, are not counted.
    since: AtomicU64,
    tallies: Vec<Mutex<Tally>>,
}

impl Shared {
    fn now_us(&self) -> u64 {
        self.clock.elapsed().as_micros() as u64
    }

    fn tally(&self, number: usize) -> MutexGuard<'_, Tally> {
        let tally = &self.tallies[number % TALLIES];
        tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member that joined.
struct Seat {
    member: Member,
    number: usize,
    /// The number of its newest message.
    n: AtomicU64,
    /// Numbers that are not answered, and when each was due.
    unanswered: Mutex<VecDeque<(u64, u64)>>,
}

/// See the [module](self).
pub struct Crowd {
    shared: Arc<Shared>,
    seats: Vec<Arc<Seat>>,
    /// Each hears what one member is told.
    _ears: JoinSet<()>,
    _threads: Threads,
}

/// How all came in.
pub struct Joined {
    /// From the first one's beginning until the last one had joined.
    pub took: Duration,
    /// For each.
    pub join: Distribution,
}

impl Crowd {
    /// Lets `count` members join at so many a second, one edge after the other. `session` draws a
    /// session.
    pub async fn join(
        edges: &[String],
        room: &str,
        filler: usize,
        (count, per_s): (u32, f64),
        mut session: impl FnMut() -> u128,
    ) -> Outcome<(Crowd, Joined)> {
        let shared = Arc::new(Shared {
            clock: Instant::now(),
            room: room.to_owned(),
            filler,
            since: AtomicU64::new(0),
            tallies: (0..TALLIES).map(|_| Mutex::default()).collect(),
        });
        let began = tokio::time::Instant::now();
        let threads = Threads::start()?;
        let (mut joining, mut ears) = (JoinSet::new(), JoinSet::new());
        for number in 0..count as usize {
            sleep_until(began + Duration::from_secs_f64(number as f64 / per_s)).await;
            let edge = edges[number % edges.len()].clone();
            let (tell, joined) = oneshot::channel();
            let hear = hear(shared.clone(), edge, number, session(), tell);
            threads.spawn(&mut ears, hear);
            joining.spawn(async move {
                match timeout(JOIN, joined).await {
                    Ok(Ok(seat)) => seat.map_err(Failure::failed),
                    Ok(Err(_)) => Err(Failure::failed("a member ended before it joined")),
                    Err(_) => Err(Failure::failed(format!(
                        "a member is not in within {JOIN:?}"
                    ))),
                }
            });
        }
        let mut seats = Vec::new();
        while let Some(seat) = joining.join_next().await {
            seats.push(seat.map_err(Failure::failed)??);
        }
        seats.sort_by_key(|seat| seat.number);
        let took = began.elapsed();
        let crowd = Crowd {
            shared,
            seats,
            _ears: ears,
            _threads: threads,
        };
        let join = crowd.take().join;
        Ok((crowd, Joined { took, join }))
    }

    /// How many members.
    pub fn count(&self) -> usize {
        self.seats.len()
    }

    /// The time by the crowd's clock, in µs.
    pub fn now_us(&self) -> u64 {
        self.shared.now_us()
    }

    /// Takes what was counted so far, and begins anew.
    fn take(&self) -> Tally {
        let mut sum = Tally::default();
        for number in 0..TALLIES {
            sum.add(&std::mem::take(&mut *self.shared.tally(number)));
        }
        sum
    }

    fn so_far(&self) -> (u64, u64) {
        let tallies = (0..TALLIES).map(|number| self.shared.tally(number));
        tallies.fold((0, 0), |(answered, given), tally| {
            (answered + tally.answered(), given + tally.given)
        })
    }

    /// Says `rate` messages a second for so long, to everybody; how many, and what came of them.
    pub async fn talk(&self, rate: u32, seconds: u64) -> Outcome<(u64, Tally)> {
        self.take();
        let shared = &self.shared;
        shared.since.store(shared.now_us(), Ordering::Relaxed);
        let talkers = self.seats.len().min(rate.div_ceil(EACH).max(6) as usize);
        let x = "x".repeat(shared.filler);
        let began = tokio::time::Instant::now();
        let began_us = shared.now_us();
        let count = u64::from(rate) * seconds;
        for message in 0..count {
            let due = Duration::from_secs_f64(message as f64 / f64::from(rate));
            threads::until(began + due).await;
            let seat = &self.seats[message as usize % talkers];
            let stamp = began_us + due.as_micros() as u64;
            let body = format!(r#"[{stamp},"{x}"]"#);
            let said = seat.publish(stamp, &body, "log", None);
            said.await.map_err(Failure::failed)?;
        }
        let wanted = (count, count * self.seats.len() as u64);
        self.until(|so_far| so_far.0 >= wanted.0 && so_far.1 >= wanted.1)
            .await;
        Ok((count, self.take()))
    }

    /// Fills the room's state with so many bytes.
    pub async fn fill(&self, bytes: usize, value: usize) -> Outcome {
        let body = format!("\"{}\"", "x".repeat(value));
        let keys = bytes.div_ceil(value);
        for key in 0..keys {
            let seat = &self.seats[key % self.seats.len()];
            let key = format!("key-{key}");
            let now = self.shared.now_us();
            let said = seat.publish(now, &body, "state", Some(&key));
            said.await.map_err(Failure::failed)?;
            // Slower than the edge's limit of 50 a second.
            sleep(Duration::from_millis(25)).await;
        }
        self.until(|so_far| so_far.0 >= keys as u64).await;
        let tally = self.take();
        match tally.ack_count() == keys as u64 {
            true => Ok(()),
            false => Err(Failure::failed(format!(
                "of {keys} keys {} were taken: {:?}",
                tally.ack_count(),
                tally.errors
            ))),
        }
    }

    async fn until(&self, is: impl Fn((u64, u64)) -> bool) {
        let waiting = async {
            while !is(self.so_far()) {
                sleep(LOOK).await;
            }
        };
        // What is missing then is missing in the figures.
        let _ = timeout(LATE, waiting).await;
    }
}

impl Seat {
    async fn publish(
        &self,
        due_us: u64,
        body: &str,
        class: &str,
        key: Option<&str>,
    ) -> std::io::Result<()> {
        let n = self.n.fetch_add(1, Ordering::Relaxed) + 1;
        self.unanswered().push_back((n, due_us));
        let key = key.map_or(String::new(), |key| format!(r#","key":"{key}""#));
        let text = format!(
            r#"{{"t":"pub","n":{n},"class":"{class}","topic":"bench"{key},"body":{body}}}"#
        );
        self.member.say(&text).await
    }

    fn unanswered(&self) -> MutexGuard<'_, VecDeque<(u64, u64)>> {
        self.unanswered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// When the message was due that is answered now.
    fn answered(&self, n: u64) -> Option<u64> {
        let mut unanswered = self.unanswered();
        let at = unanswered.iter().position(|(of, _)| *of == n)?;
        unanswered.remove(at).map(|(_, due)| due)
    }
}

/// Joins, and hears until the connection is over.
async fn hear(
    shared: Arc<Shared>,
    edge: String,
    number: usize,
    session: u128,
    tell: oneshot::Sender<Result<Arc<Seat>, Lost>>,
) {
    let mut tell = Some(tell);
    let lost = listen(&shared, &edge, number, session, &mut tell).await;
    match tell.take() {
        // Nobody waits any more where this fails.
        Some(tell) => drop(tell.send(Err(lost))),
        None => {
            let mut tally = shared.tally(number);
            *tally.lost.entry(lost.to_string()).or_default() += 1;
        }
    }
}

async fn listen(
    shared: &Shared,
    edge: &str,
    number: usize,
    session: u128,
    tell: &mut Option<oneshot::Sender<Result<Arc<Seat>, Lost>>>,
) -> Lost {
    let began = shared.now_us();
    let listening = async {
        let (member, rest) = Member::connect(edge, &shared.room).await?;
        member.hello(session).await?;
        let seat = Arc::new(Seat {
            member,
            number,
            n: AtomicU64::new(0),
            unanswered: Mutex::default(),
        });
        let (mut reader, mut ears) = (Reader::default(), Ears::default());
        let mut pings = Vec::new();
        let mut said = Vec::new();
        reader.read(&rest, shared.filler, |heard| said.push(heard))?;
        let mut since = Duration::ZERO;
        loop {
            if !said.is_empty() {
                ears.hear(shared, &seat, (said.drain(..), since), &mut pings)?;
            }
            for ping in pings.drain(..) {
                seat.member.pong(&ping).await?;
            }
            if ears.whole
                && let Some(tell) = tell.take()
            {
                let took = shared.now_us() - began;
                shared.tally(number).join.record_us(took);
                // Nobody waits any more where this fails.
                let _ = tell.send(Ok(seat.clone()));
            }
            let heard = |heard| said.push(heard);
            since = seat.member.hear(&mut reader, shared.filler, heard).await?;
        }
    };
    let listened: Result<std::convert::Infallible, Lost> = listening.await;
    match listened {
        Ok(never) => match never {},
        Err(lost) => lost,
    }
}

/// Where a member stands.
#[derive(Default)]
struct Ears {
    last: u64,
    welcomed: bool,
    /// All of the state is there.
    whole: bool,
}

impl Ears {
    fn hear(
        &mut self,
        shared: &Shared,
        seat: &Seat,
        (said, since): (impl Iterator<Item = Said>, Duration),
        pings: &mut Vec<Vec<u8>>,
    ) -> Result<(), Lost> {
        let now = shared.now_us();
        let come = now.saturating_sub(since.as_micros() as u64);
        let counted = shared.since.load(Ordering::Relaxed);
        let mut tally = shared.tally(seat.number);
        for said in said {
            match said {
                Said::Welcome { seq, more } => {
                    (self.last, self.welcomed) = (seq, true);
                    self.whole = !more;
                }
                Said::State { more } => self.whole |= self.welcomed && !more,
                Said::Event { seq, stamp } => {
                    tally.duplicates += u64::from(seq <= self.last);
                    tally.skipped += seq.saturating_sub(self.last + 1);
                    self.last = self.last.max(seq);
                    if let Some(stamp) = stamp.filter(|stamp| *stamp >= counted) {
                        tally.given += 1;
                        tally.delivery.record_us(now.saturating_sub(stamp));
                        tally.arrival.record_us(come.saturating_sub(stamp));
                    }
                }
                Said::Ack { n } => {
                    if let Some(due) = seat.answered(n) {
                        tally.ack.record_us(now.saturating_sub(due));
                        tally.acks.push((due, now));
                    }
                }
                Said::Gap { to, .. } => {
                    tally.gaps += 1;
                    self.last = to;
                }
                Said::Error { n, error } => {
                    // Without a number it is about the connection: the room is not there yet.
                    if n.is_some_and(|n| seat.answered(n).is_some()) {
                        *tally.errors.entry(error).or_default() += 1;
                    }
                }
                Said::Ping(payload) => pings.push(payload),
                Said::Close => return Err(Lost::Closed),
                Said::Other => {}
            }
        }
        Ok(())
    }
}
