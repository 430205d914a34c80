//! All members: how they come in, and what they say.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use super::{
    super::report::Distribution,
    ears::Ears,
    hearing::Hearing,
    member::{Lost, Member},
    tally::Tally,
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

/// What all members share.
pub struct Shared {
    clock: Instant,
    room: String,
    /// Bytes of a body beside its stamp.
    pub filler: usize,
    /// Messages that were due earlier, in µs of the clock, are not counted.
    pub since: AtomicU64,
    tallies: Vec<Mutex<Tally>>,
}

impl Shared {
    pub fn now_us(&self) -> u64 {
        self.clock.elapsed().as_micros() as u64
    }

    pub fn tally(&self, number: usize) -> MutexGuard<'_, Tally> {
        let tally = &self.tallies[number % TALLIES];
        tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member, for whoever says something.
pub struct Seat {
    pub member: Member,
    pub number: usize,
    /// The number of its newest message.
    n: AtomicU64,
    /// Numbers that are not answered, and when each was due.
    unanswered: Mutex<VecDeque<(u64, u64)>>,
}

/// See the [module](self).
pub struct Crowd {
    shared: Arc<Shared>,
    seats: Vec<Arc<Seat>>,
    _ears: Ears,
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
        let (threads, ears) = (Threads::start()?, Ears::start().map_err(Failure::failed)?);
        let mut joining = JoinSet::new();
        for number in 0..count as usize {
            sleep_until(began + Duration::from_secs_f64(number as f64 / per_s)).await;
            let edge = edges[number % edges.len()].clone();
            let joins = join(shared.clone(), ears.clone(), edge, number, session());
            threads.spawn(&mut joining, async move {
                match timeout(JOIN, joins).await {
                    Ok(seat) => seat.map_err(Failure::failed),
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
            said.map_err(Failure::failed)?;
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
            said.map_err(Failure::failed)?;
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
    fn publish(
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
        self.member.say(&text)
    }

    fn unanswered(&self) -> MutexGuard<'_, VecDeque<(u64, u64)>> {
        self.unanswered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// When the message was due that is answered now.
    pub fn answered(&self, n: u64) -> Option<u64> {
        let mut unanswered = self.unanswered();
        let at = unanswered.iter().position(|(of, _)| *of == n)?;
        unanswered.remove(at).map(|(_, due)| due)
    }
}

/// Connects, and returns when the member is in and has the room's state.
async fn join(
    shared: Arc<Shared>,
    ears: Ears,
    edge: String,
    number: usize,
    session: u128,
) -> Result<Arc<Seat>, Lost> {
    let began_us = shared.now_us();
    let (member, rest) = Member::connect(&edge, &shared.room).await?;
    member.hello(session)?;
    let seat = Arc::new(Seat {
        member,
        number,
        n: AtomicU64::new(0),
        unanswered: Mutex::default(),
    });
    let (hearing, joined) = Hearing::new(shared, seat, began_us, &rest)?;
    ears.listen(hearing)?;
    // Whoever hears it tells before it is gone.
    joined.await.unwrap_or(Err(Lost::Closed))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::oneshot,
        task::JoinHandle,
    };

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

    /// A text frame from an edge (RFC 6455 §5.2).
    fn frame(text: &str) -> Vec<u8> {
        assert!(text.len() < 126);
        let mut frame = vec![0x81, text.len() as u8];
        frame.extend(text.as_bytes());
        frame
    }

    /// Somebody who takes one member, writes the first to it, the rest once told so, and closes.
    async fn edge(first: Vec<u8>, rest: Vec<u8>) -> (String, oneshot::Sender<()>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (go, told) = oneshot::channel();
        let task = tokio::spawn(async move {
            let (mut member, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                assert!(member.read_buf(&mut asked).await.unwrap() > 0);
            }
            member.write_all(&first).await.unwrap();
            let _ = told.await;
            member.write_all(&rest).await.unwrap();
            member.shutdown().await.unwrap();
            // Until the member is gone too: an early close would be a reset.
            while member.read_buf(&mut asked).await.is_ok_and(|read| read > 0) {}
        });
        (address, go, task)
    }

    async fn joined(address: &str) -> Outcome<Crowd> {
        let edges = [address.to_owned()];
        let joining = Crowd::join(&edges, "math", 4, (1, 1.0), || 7);
        joining.await.map(|(crowd, _)| crowd)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_comes_before_the_end_is_counted_and_the_end_too() {
        let event = |seq| frame(&format!(r#"{{"t":"ev","seq":{seq},"body":[0,"xxxx"]}}"#));
        let welcome = frame(r#"{"t":"welcome","seq":4,"more":false}"#);
        let first = [ANSWER, &welcome, &event(5)[..9]].concat();
        let rest = [&event(5)[9..], &event(6), &event(8)].concat();
        let (address, go, edge) = edge(first, rest).await;
        let crowd = joined(&address).await.unwrap();
        go.send(()).unwrap();
        let mut sum = Tally::default();
        let counting = async {
            while sum.lost.is_empty() {
                sum.add(&crowd.take());
                sleep(LOOK).await;
            }
        };
        timeout(LATE, counting).await.unwrap();
        assert_eq!((sum.given, sum.skipped, sum.duplicates), (3, 1, 0));
        let lost: Vec<_> = sum.lost.into_iter().collect();
        assert_eq!(lost, [("the edge closed".to_owned(), 1)]);
        drop(crowd);
        edge.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_does_not_get_in_says_why() {
        for (answer, why) in [
            (&b"HTTP/1.1 404 Not Found\r\n\r\n"[..], "404 Not Found"),
            (b"", "the edge closed"),
            (ANSWER, "the edge closed"),
        ] {
            let (address, go, edge) = edge(answer.to_vec(), Vec::new()).await;
            drop(go);
            let error = joined(&address).await.err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
            edge.await.unwrap();
        }
    }
}
