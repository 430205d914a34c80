//! A stream of plain UDP datagrams from one host to another, and what arrived of it when.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use longspan_lab::{
    tun::{Lab, urgent},
    world::Counts,
};
use longspan_proto::time::Time;

use crate::failure::{Failure, Outcome};

/// The smallest datagram: a number and nothing else.
pub const SMALLEST: usize = 4;

/// The UDP header (RFC 768), which the model counts as payload of IP.
const HEADER: usize = 8;

/// How long is waited for what the model did not drop, beyond the time it travels.
const PATIENCE: Duration = Duration::from_secs(3);

/// What to send.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many datagrams.
    pub packets: usize,
    /// One every so often.
    pub every: Duration,
    /// Bytes of payload in each.
    pub bytes: usize,
}

/// What happened.
#[derive(Debug)]
pub struct Stream {
    plan: Plan,
    sent: Vec<Time>,
    /// By arrival: number and time.
    arrived: Vec<(usize, Time)>,
    /// What the model says of it.
    pub counts: Counts,
}

/// Sends from one host to another and waits until all has arrived that will.
pub fn stream(lab: &Lab, from: &str, to: &str, plan: Plan) -> Outcome<Stream> {
    let clock = lab.clock();
    let bind = |host: &str| -> Outcome<UdpSocket> {
        let address = SocketAddr::from((lab.address(host).map_err(Failure::failed)?, 0));
        let host = lab.host(host).map_err(Failure::failed)?;
        host.udp(address).map_err(Failure::failed)
    };
    let (out, into) = (bind(from)?, bind(to)?);
    // As large as the system allows; a short stall of this program is not a loss of the model's.
    let _ = socket2::SockRef::from(&into).set_recv_buffer_size(4 << 20);
    out.connect(into.local_addr().map_err(Failure::failed)?)
        .map_err(Failure::failed)?;
    into.set_read_timeout(Some(Duration::from_millis(20)))
        .map_err(Failure::failed)?;
    let before = counts(lab, from, to);
    let (count, stop) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let receiver = {
        let (count, stop) = (count.clone(), stop.clone());
        thread::spawn(move || {
            urgent();
            let mut arrived = Vec::new();
            let mut buffer = [0; 2_048];
            while !stop.load(SeqCst) {
                match into.recv(&mut buffer) {
                    Ok(length) => {
                        let now = clock.time();
                        if let Some(number) = buffer[..length].first_chunk::<SMALLEST>() {
                            arrived.push((u32::from_be_bytes(*number) as usize, now));
                            count.store(arrived.len(), SeqCst);
                        }
                    }
                    Err(error) if is_timeout(&error) => {}
                    Err(_) => break,
                }
            }
            arrived
        })
    };
    let sent = send(&out, plan, clock);
    let began = Instant::now();
    let travel = lab.world().ways.iter().map(|way| way.one_way).max();
    let until = travel.unwrap_or_default() + PATIENCE;
    let counts = loop {
        let now = counts(lab, from, to);
        let dropped = (now.lost + now.queue_full) - (before.lost + before.queue_full);
        if count.load(SeqCst) + dropped as usize >= plan.packets || began.elapsed() > until {
            break Counts {
                packets: now.packets - before.packets,
                bytes: now.bytes - before.bytes,
                lost: now.lost - before.lost,
                queue_full: now.queue_full - before.queue_full,
            };
        }
        thread::sleep(Duration::from_millis(5));
    };
    stop.store(true, SeqCst);
    let arrived = receiver
        .join()
        .map_err(|_| Failure::failed("the receiving thread ended"))?;
    Ok(Stream {
        plan,
        sent: sent.map_err(|error| Failure::failed(format!("cannot send from {from}: {error}")))?,
        arrived,
        counts,
    })
}

/// What has gone from one host to the other so far.
fn counts(lab: &Lab, from: &str, to: &str) -> Counts {
    let links = lab.links();
    let link = links
        .iter()
        .find(|link| link.from.as_str() == from && link.to.as_str() == to);
    link.map_or_else(Counts::default, |link| link.counts)
}

fn send(out: &UdpSocket, plan: Plan, clock: longspan_lab::tun::Clock) -> io::Result<Vec<Time>> {
    // The clock of the measurement, as the driver is of the model.
    urgent();
    let mut packet = vec![0; plan.bytes.max(SMALLEST)];
    let mut sent = Vec::with_capacity(plan.packets);
    let began = Instant::now();
    for number in 0..plan.packets {
        let due = plan.every * number as u32;
        // After a stall the rest follows at once: the mean rate is the planned one.
        thread::sleep(due.saturating_sub(began.elapsed()));
        packet[..SMALLEST].copy_from_slice(&(number as u32).to_be_bytes());
        sent.push(clock.time());
        out.send(&packet)?;
    }
    Ok(sent)
}

impl Stream {
    /// How long each that arrived took, in ms, in the order of arrival.
    pub fn delays(&self) -> Vec<f64> {
        let took = self.arrived.iter().filter_map(|(number, at)| {
            let sent = self.sent.get(*number)?;
            Some(at.saturating_since(*sent).as_secs_f64() * 1_000.0)
        });
        took.collect()
    }

    /// From the first to the last that was sent.
    pub fn took(&self) -> Duration {
        match (self.sent.first(), self.sent.last()) {
            (Some(first), Some(last)) => last.saturating_since(*first),
            _ => Duration::ZERO,
        }
    }

    /// How many arrived.
    pub fn arrived(&self) -> usize {
        self.arrived.len()
    }

    /// How many arrived after one that was sent later.
    pub fn overtaken(&self) -> usize {
        let mut latest = 0;
        let late = self.arrived.iter().filter(|(number, _)| {
            let late = *number < latest;
            latest = latest.max(*number);
            late
        });
        late.count()
    }

    /// Neither arrived nor dropped by the model: the lab's own fault. Must be 0.
    pub fn unexplained(&self) -> i64 {
        let explained = self.arrived.len() as u64 + self.counts.lost + self.counts.queue_full;
        self.plan.packets as i64 - explained as i64
    }

    /// The share that did not arrive, and the mean length of a run of those.
    pub fn losses(&self) -> (f64, f64) {
        let mut here = vec![false; self.plan.packets];
        for (number, _) in &self.arrived {
            if let Some(here) = here.get_mut(*number) {
                *here = true;
            }
        }
        let lost = here.iter().filter(|here| !**here).count();
        let runs = (0..here.len()).filter(|n| !here[*n] && (*n == 0 || here[n - 1]));
        let runs = runs.count().max(1);
        let share = lost as f64 / self.plan.packets as f64;
        (share, lost as f64 / runs as f64)
    }

    /// Bits of IP payload a second that arrived, from the first to the last.
    pub fn rate(&self) -> f64 {
        let (Some((_, first)), Some((_, last))) = (self.arrived.first(), self.arrived.last())
        else {
            return 0.0;
        };
        let bits = (self.arrived.len() - 1) * (self.plan.bytes + HEADER) * 8;
        bits as f64 / last.saturating_since(*first).as_secs_f64()
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_tells_what_became_of_it() {
        let at = |ms: u64| Time::from_micros(ms * 1_000);
        let plan = Plan {
            packets: 6,
            every: Duration::from_millis(1),
            bytes: 992,
        };
        let stream = Stream {
            plan,
            sent: (0..6).map(at).collect(),
            // 1, 2 and 5 do not arrive; 3 arrives after 4.
            arrived: vec![(0, at(10)), (4, at(15)), (3, at(18))],
            counts: Counts {
                packets: 6,
                lost: 2,
                ..Counts::default()
            },
        };
        assert_eq!(stream.delays(), [10.0, 11.0, 15.0]);
        assert_eq!(stream.losses(), (0.5, 1.5));
        assert_eq!((stream.overtaken(), stream.unexplained()), (1, 1));
        // 16,000 bits in 8 ms.
        assert!((stream.rate() - 2e6).abs() < 1.0);
    }
}
