//! What one member hears, and what of it is counted.

use std::{
    io::ErrorKind,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    arrival,
    crowd::{Seat, Shared},
    frames::{Reader, Said},
    member::{Lost, Member},
};

/// Bytes that are read at once.
const READ: usize = 256 << 10;

/// How a member came in.
pub type Joined = oneshot::Receiver<Result<Arc<Seat>, Lost>>;

/// Room for what is read; one for all members of a thread.
pub struct Scratch {
    bytes: Vec<u8>,
    said: Vec<Said>,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch {
            bytes: vec![0; READ],
            said: Vec::new(),
        }
    }
}

/// See the [module](self).
pub struct Hearing {
    shared: Arc<Shared>,
    seat: Arc<Seat>,
    reader: Reader,
    /// The newest message that it was given.
    last: u64,
    welcomed: bool,
    /// All of the state is there.
    whole: bool,
    /// When it began to connect, by the crowd's clock.
    began_us: u64,
    /// Who waits until it is in.
    tell: Option<oneshot::Sender<Result<Arc<Seat>, Lost>>>,
}

impl Hearing {
    /// A member that said hello; `rest` came behind the answer to its upgrade.
    pub fn new(
        shared: Arc<Shared>,
        seat: Arc<Seat>,
        began_us: u64,
        rest: &[u8],
    ) -> Result<(Hearing, Joined), Lost> {
        let (tell, joined) = oneshot::channel();
        let mut hearing = Hearing {
            shared,
            seat,
            reader: Reader::default(),
            last: 0,
            welcomed: false,
            whole: false,
            began_us,
            tell: Some(tell),
        };
        hearing.take(rest, Duration::ZERO, &mut Vec::new())?;
        Ok((hearing, joined))
    }

    /// Its connection.
    pub fn member(&self) -> &Member {
        &self.seat.member
    }

    /// Hears all that there is. `ends`: nothing comes after it.
    pub fn hear(&mut self, scratch: &mut Scratch, ends: bool) -> Result<(), Lost> {
        let Scratch { bytes, said } = scratch;
        loop {
            let (read, since) = match arrival::read(self.seat.member.stream(), bytes) {
                Ok((0, _)) => return Err(Lost::Closed),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.take(&bytes[..read], since, said)?;
            // A socket that gives less than it might is empty.
            if read < bytes.len() && !ends {
                return Ok(());
            }
        }
    }

    /// Takes what came; the last of it has been here for so long.
    fn take(&mut self, bytes: &[u8], since: Duration, said: &mut Vec<Said>) -> Result<(), Lost> {
        said.clear();
        self.reader
            .read(bytes, self.shared.filler, |heard| said.push(heard))?;
        let pings = self.count(said, since)?;
        for ping in pings {
            self.seat.member.pong(&ping)?;
        }
        if self.whole
            && let Some(tell) = self.tell.take()
        {
            let took = self.shared.now_us() - self.began_us;
            let mut tally = self.shared.tally(self.seat.number);
            tally.join.record_us(took);
            drop(tally);
            // Nobody waits any more where this fails.
            let _ = tell.send(Ok(self.seat.clone()));
        }
        Ok(())
    }

    /// The connection is over.
    pub fn lose(mut self, lost: Lost) {
        match self.tell.take() {
            // Nobody waits any more where this fails.
            Some(tell) => drop(tell.send(Err(lost))),
            None => {
                let mut tally = self.shared.tally(self.seat.number);
                *tally.lost.entry(lost.to_string()).or_default() += 1;
            }
        }
    }

    /// Counts what was said; what is to be answered with a pong.
    fn count(&mut self, all: &mut Vec<Said>, since: Duration) -> Result<Vec<Vec<u8>>, Lost> {
        let mut pings = Vec::new();
        let now = self.shared.now_us();
        let come = now.saturating_sub(since.as_micros() as u64);
        let counted = self.shared.since.load(Ordering::Relaxed);
        let mut tally = self.shared.tally(self.seat.number);
        for said in all.drain(..) {
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
                    if let Some(due) = self.seat.answered(n) {
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
                    if n.is_some_and(|n| self.seat.answered(n).is_some()) {
                        *tally.errors.entry(error).or_default() += 1;
                    }
                }
                Said::Ping(payload) => pings.push(payload),
                Said::Close => return Err(Lost::Closed),
                Said::Other => {}
            }
        }
        Ok(pings)
    }
}
