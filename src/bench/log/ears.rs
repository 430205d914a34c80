//! The threads that hear what members are told. Each waits for the sockets of many (epoll(7)): a task for
//! each member, woken by a runtime, took a quarter more of the cores that the edges need.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    io::Errno,
};

use super::{
    hearing::{Hearing, Scratch},
    threads::give_way,
};

/// Sockets that a thread is told of at once.
const AT_ONCE: usize = 1_024;
/// How often a thread looks whether it is still wanted.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// See the [module](self). They end, and the members' connections with them, when the last clone is gone.
#[derive(Clone)]
pub struct Ears(Arc<All>);

struct All {
    ears: Vec<Arc<Ear>>,
    next: AtomicUsize,
}

/// What a thread listens to.
struct Ear {
    epoll: OwnedFd,
    /// Each under its number for epoll; none once it is lost.
    members: Mutex<Vec<Option<Hearing>>>,
    unwanted: AtomicBool,
}

impl Ears {
    /// One for each core.
    pub fn start() -> io::Result<Ears> {
        let count = thread::available_parallelism()?.get();
        let ears = (0..count).map(|_| Ear::start());
        Ok(Ears(Arc::new(All {
            ears: ears.collect::<io::Result<_>>()?,
            next: AtomicUsize::new(0),
        })))
    }

    /// Hears a member from now on.
    pub fn listen(&self, member: Hearing) -> io::Result<()> {
        let next = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.ears[next % self.0.ears.len()].listen(member)
    }
}

impl Drop for All {
    fn drop(&mut self) {
        for ear in &self.ears {
            ear.unwanted.store(true, Ordering::Relaxed);
            ear.members().clear();
        }
    }
}

impl Ear {
    fn start() -> io::Result<Arc<Ear>> {
        let ear = Arc::new(Ear {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            members: Mutex::default(),
            unwanted: AtomicBool::new(false),
        });
        let own = ear.clone();
        thread::Builder::new()
            .name("members".into())
            .spawn(move || own.run())?;
        Ok(ear)
    }

    fn members(&self) -> MutexGuard<'_, Vec<Option<Hearing>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self, member: Hearing) -> io::Result<()> {
        let mut members = self.members();
        let data = EventData::new_u64(members.len() as u64);
        // Told once of what comes, and not again for what is left: all is read.
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, member.member().stream(), data, flags)?;
        members.push(Some(member));
        Ok(())
    }

    fn run(&self) {
        give_way();
        let mut scratch = Scratch::default();
        let mut ready = Vec::with_capacity(AT_ONCE);
        while !self.unwanted.load(Ordering::Relaxed) {
            ready.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut ready), Some(&LOOK)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => panic!("members are not heard any more: {error}"),
            }
            let mut members = self.members();
            for event in &ready {
                let (data, flags) = (event.data, event.flags);
                let ends = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
                let Some(place) = members.get_mut(data.u64() as usize) else {
                    continue;
                };
                let Some(Err(lost)) = place.as_mut().map(|it| it.hear(&mut scratch, ends)) else {
                    continue;
                };
                if let Some(member) = place.take() {
                    // Whoever would write to it has it open still.
                    let _ = epoll::delete(&self.epoll, member.member().stream());
                    member.lose(lost);
                }
            }
        }
    }
}
