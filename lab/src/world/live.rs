//! A world file that is read again whenever it changes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use longspan_proto::{ids::Net, time::Time};

use super::{Change, ChangeError, Counts, Error, Lane, Who, World};
use crate::wan::Verdict;

/// How often the file is looked at.
pub const POLL: Duration = Duration::from_millis(100);

/// The world as the file tells it now. Clones share one reader.
#[derive(Debug, Clone)]
pub struct Live(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    world: Mutex<Arc<World>>,
    /// Rises with each change, so that users of the world can tell cheaply.
    version: AtomicU64,
}

/// What tells one state of the file from another. It is replaced by renaming, so the inode
/// changes even where the clock of the file system is coarse.
#[derive(PartialEq)]
struct Stamp(Option<SystemTime>, u64, u64);

impl Live {
    /// Reads the file and begins to watch it. Watching ends with the last clone.
    pub fn open(path: &Path) -> Result<Live, Error> {
        let stamp = stamp(path);
        let live = Live(Arc::new(Shared {
            path: path.to_owned(),
            world: Mutex::new(Arc::new(World::read(path)?)),
            version: AtomicU64::new(1),
        }));
        let shared = Arc::downgrade(&live.0);
        let spawned = thread::Builder::new()
            .name("world".to_owned())
            .spawn(move || watch(&shared, stamp));
        spawned.map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(live)
    }

    /// The world now.
    pub fn world(&self) -> Arc<World> {
        let world = self.0.world.lock();
        world.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A world that no file tells; [`Live::apply`] changes it.
    pub fn of(world: World) -> Live {
        Live(Arc::new(Shared {
            path: PathBuf::new(),
            world: Mutex::new(Arc::new(world)),
            version: AtomicU64::new(1),
        }))
    }

    /// Changes the world in this process; the next packet meets it. Where a file tells the world,
    /// the file's next change replaces all of it.
    pub fn apply(&self, change: &Change) -> Result<(), ChangeError> {
        let mut current = self.0.world.lock().unwrap_or_else(PoisonError::into_inner);
        let mut world = World::clone(&current);
        world.apply(change)?;
        *current = Arc::new(world);
        self.0.version.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// A lane that meets every change at its next packet.
    pub fn follow(&self, from: Who, to: Who, net: Net) -> Followed {
        // Asked first: a change meanwhile is then followed once too often, not missed.
        let version = self.version();
        Followed {
            lane: Lane::new(&self.world(), from, to, net),
            live: self.clone(),
            version,
        }
    }

    /// Rises with each change of the world.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }
}

/// A lane, and the version of the world that it knows.
#[derive(Debug)]
pub struct Followed {
    live: Live,
    version: u64,
    lane: Lane,
}

impl Followed {
    /// Decides over one packet of `bytes` bytes sent at `now`.
    pub fn send(&mut self, now: Time, bytes: usize) -> Verdict {
        let version = self.live.version();
        if version != self.version {
            self.version = version;
            self.lane.follow(&self.live.world());
        }
        self.lane.send(now, bytes)
    }

    /// What it has carried so far.
    pub fn counts(&self) -> Counts {
        self.lane.counts()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp(
        metadata.modified().ok(),
        metadata.len(),
        metadata.ino(),
    ))
}

fn watch(shared: &Weak<Shared>, mut seen: Option<Stamp>) {
    loop {
        thread::sleep(POLL);
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let now = stamp(&shared.path);
        if now == seen || now.is_none() {
            continue;
        }
        seen = now;
        match World::read(&shared.path) {
            Ok(world) => {
                let mut current = shared.world.lock().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(world);
                drop(current);
                shared.version.fetch_add(1, Ordering::AcqRel);
            }
            // Said once for each state of the file.
            Err(error) => tracing::warn!("keeping the last good world: {error}"),
        }
    }
}
