//! Which links there are, how they are now, and who lives where: a file that every process of
//! the emulated world reads, and reads again when it changes.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use longspan_proto::{ids::Region, time::Time};
use serde::{Deserialize, Serialize};

use crate::{
    matrix::{self, Matrix},
    wan::{Direction, Model, Profile, Verdict},
};

/// How often a running process looks whether the file changed.
pub const POLL: Duration = Duration::from_millis(100);
/// One-way delay inside a region, and to whom nothing is known of, in ms.
pub const NEAR_MS: f64 = 0.25;

/// One direction between two regions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Where packets come from.
    pub from: Region,
    /// Where they go.
    pub to: Region,
    /// One-way delay in ms.
    pub delay_ms: f64,
    /// What is laid over it.
    pub profile: Profile,
    /// Added to the delay, in ms.
    #[serde(default)]
    pub extra_ms: f64,
    /// Nothing passes.
    #[serde(default)]
    pub cut: bool,
}

impl Link {
    /// What it does to packets now.
    pub fn model(&self) -> Model {
        let profile = if self.cut {
            Profile::Blackhole
        } else {
            self.profile
        };
        profile.model(self.delay_ms + self.extra_ms)
    }
}

/// The whole world, as it stands in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What all randomness comes from.
    pub seed: u64,
    /// The profile that `restore` goes back to.
    pub profile: Profile,
    /// Who lives where.
    pub places: BTreeMap<SocketAddr, Region>,
    /// All directions between different regions.
    pub links: Vec<Link>,
}

/// What was wrong with a world or a change to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file's text is not a world.
    #[error("{path}: {error}")]
    Text {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: serde_json::Error,
    },
    /// A link that is not in the world.
    #[error("no link from {from} to {to}; regions are {known}")]
    NoLink {
        /// One end.
        from: String,
        /// The other.
        to: String,
        /// What there is.
        known: String,
    },
    /// A region or pair that the matrix does not have.
    #[error(transparent)]
    Matrix(#[from] matrix::Error),
}

impl State {
    /// The links between `regions`, as the matrix has them.
    pub fn new(
        matrix: &Matrix,
        regions: &[Region],
        profile: Profile,
        seed: u64,
    ) -> Result<State, Error> {
        let mut links = Vec::new();
        for from in regions {
            for to in regions.iter().filter(|to| *to != from) {
                let delay_ms = matrix.rtt_ms(from, to)? / 2.0;
                links.push(Link {
                    from: from.clone(),
                    to: to.clone(),
                    delay_ms,
                    profile,
                    extra_ms: 0.0,
                    cut: false,
                });
            }
        }
        Ok(State {
            seed,
            profile,
            places: BTreeMap::new(),
            links,
        })
    }

    /// The directions from `a` to `b`, and back unless `one_way`.
    pub fn links_mut(&mut self, a: &str, b: &str, one_way: bool) -> Result<Vec<&mut Link>, Error> {
        let known: Vec<String> = self
            .links
            .iter()
            .map(|link| link.from.to_string())
            .collect();
        let found: Vec<&mut Link> = self
            .links
            .iter_mut()
            .filter(|link| {
                let (from, to) = (link.from.as_str(), link.to.as_str());
                (from, to) == (a, b) || (!one_way && (from, to) == (b, a))
            })
            .collect();
        if found.is_empty() {
            let mut known = known;
            known.dedup();
            return Err(Error::NoLink {
                from: a.to_owned(),
                to: b.to_owned(),
                known: known.join(", "),
            });
        }
        Ok(found)
    }

    /// Reads the file.
    pub fn load(path: &Path) -> Result<State, Error> {
        let text = fs::read_to_string(path).map_err(|error| Error::File {
            path: path.into(),
            error,
        })?;
        serde_json::from_str(&text).map_err(|error| Error::Text {
            path: path.into(),
            error,
        })
    }

    /// Writes the file; a reader sees the old one or the new one, never a part.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let error = |error| Error::File {
            path: path.into(),
            error,
        };
        let text = serde_json::to_string_pretty(self).expect("plain data");
        let beside = path.with_extension("new");
        fs::write(&beside, text).map_err(error)?;
        fs::rename(&beside, path).map_err(error)
    }
}

/// The world as one process sees it: from its own region.
#[derive(Debug, Clone)]
pub struct World {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    here: Region,
    epoch: Instant,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    changed: Option<(SystemTime, u64)>,
    state: State,
    directions: HashMap<Region, Direction>,
}

impl World {
    /// Reads the world for a process in `here`.
    pub fn load(path: &Path, here: Region) -> Result<World, Error> {
        let state = State::load(path)?;
        let now = Now {
            changed: modified(path),
            directions: HashMap::new(),
            state,
        };
        let world = World {
            shared: Arc::new(Shared {
                path: path.into(),
                here,
                epoch: Instant::now(),
                now: Mutex::new(now),
            }),
        };
        world.apply(State::load(path)?);
        Ok(world)
    }

    /// Follows changes of the file for as long as it is polled. A file that cannot be read is
    /// reported, and the last good world stays.
    pub async fn follow(self) {
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            let changed = modified(&self.shared.path);
            if self.lock().changed == changed {
                continue;
            }
            self.lock().changed = changed;
            match State::load(&self.shared.path) {
                Ok(state) => self.apply(state),
                Err(error) => {
                    tracing::warn!(%error, "the world's file cannot be used; the last one stays")
                }
            }
        }
    }

    fn apply(&self, state: State) {
        let mut now = self.lock();
        for link in state
            .links
            .iter()
            .filter(|link| link.from == self.shared.here)
        {
            let seed = seed(state.seed, &link.from, &link.to);
            let model = link.model();
            let known = now.directions.entry(link.to.clone());
            known
                .and_modify(|d| d.set_model(model))
                .or_insert_with(|| Direction::new(model, seed));
        }
        now.state = state;
    }

    /// The clock that [`World::send`] speaks of.
    pub fn now(&self) -> Time {
        Time::from_micros(self.shared.epoch.elapsed().as_micros() as u64)
    }

    /// Sends `len` bytes from here to whoever lives at `to`.
    pub fn send(&self, to: SocketAddr, len: usize) -> Verdict {
        let time = self.now();
        let mut now = self.lock();
        let region = now.state.places.get(&to).cloned();
        match region.and_then(|region| now.directions.get_mut(&region)) {
            Some(direction) => direction.send(time, len),
            None => Verdict::Deliver(time + Duration::from_secs_f64(NEAR_MS / 1000.0)),
        }
    }

    /// One-way delays to and from whoever lives at `to`; None: the link is cut in a direction.
    pub fn delays(&self, to: SocketAddr) -> Option<(Duration, Duration)> {
        let now = self.lock();
        let near = Duration::from_secs_f64(NEAR_MS / 1000.0);
        let Some(region) = now.state.places.get(&to) else {
            return Some((near, near));
        };
        let find = |from: &Region, to: &Region| {
            let link = now
                .state
                .links
                .iter()
                .find(|link| link.from == *from && link.to == *to);
            match link {
                Some(link) if link.cut => None,
                Some(link) => Some(Duration::from_secs_f64(link.model().delay_ms / 1000.0)),
                None => Some(near),
            }
        };
        Some((
            find(&self.shared.here, region)?,
            find(region, &self.shared.here)?,
        ))
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.shared
            .now
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells one version of the file from the next: two within one tick of the file system's clock
/// differ in their inode, since each is a new file.
fn modified(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.ino()))
}

/// Each direction draws its own numbers: FNV-1a over the names, from the world's seed.
fn seed(seed: u64, from: &Region, to: &Region) -> u64 {
    let bytes = from.bytes().chain([0]).chain(to.bytes());
    bytes.fold(seed ^ 0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let matrix = Matrix::internet();
        let regions = ["hk", "sg", "cn-shanghai"].map(|r| Region::new(r).unwrap());
        let mut state = State::new(&matrix, &regions, Profile::Clean, 1).unwrap();
        state.places.insert(
            "127.0.0.1:7001".parse().unwrap(),
            Region::new("sg").unwrap(),
        );
        state
    }

    fn flight(world: &World) -> Duration {
        let before = world.now();
        match world.send("127.0.0.1:7001".parse().unwrap(), 100) {
            Verdict::Deliver(at) => at.saturating_since(before),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_running_world_follows_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("world.json");
        let mut state = state();
        state.save(&path).unwrap();
        let world = World::load(&path, Region::new("hk").unwrap()).unwrap();
        // 33 ms there and back, ± 2 %.
        let near = flight(&world).as_secs_f64();
        assert!((0.0161..0.0170).contains(&near), "{near}");

        let follower = tokio::spawn(world.clone().follow());
        state
            .links_mut("sg", "hk", false)
            .unwrap()
            .into_iter()
            .for_each(|link| link.extra_ms = 200.0);
        state.save(&path).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while flight(&world) < Duration::from_millis(200) {
            assert!(Instant::now() < deadline, "the change was not seen");
            tokio::task::yield_now().await;
        }
        state.links_mut("hk", "sg", true).unwrap()[0].cut = true;
        state.save(&path).unwrap();
        while world.delays("127.0.0.1:7001".parse().unwrap()).is_some() {
            assert!(Instant::now() < deadline, "the cut was not seen");
            tokio::task::yield_now().await;
        }
        assert_eq!(
            world.send("127.0.0.1:7001".parse().unwrap(), 100),
            Verdict::Lost
        );
        // Who lives nowhere is near.
        assert!(matches!(
            world.send("127.0.0.1:9".parse().unwrap(), 100),
            Verdict::Deliver(_)
        ));
        follower.abort();
    }

    #[test]
    fn a_link_that_is_not_there_is_named() {
        let refused = state()
            .links_mut("hk", "mars", false)
            .unwrap_err()
            .to_string();
        assert_eq!(
            refused,
            "no link from hk to mars; regions are hk, sg, cn-shanghai"
        );
    }

    #[test]
    fn a_file_that_is_no_world_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("world.json");
        fs::write(&path, "{\"seed\":1}").unwrap();
        let refused = State::load(&path).unwrap_err().to_string();
        assert!(
            refused.contains("world.json") && refused.contains("profile"),
            "{refused}"
        );
    }
}
