//! One room with many members over several edges: what its messages take, what they cost, how fast
//! members join.
//!
//! * `world`: the backbone, all processes. `crowd`: the members, in this process, whose CPU is told
//!   apart. `member`: the connection of one. `hearing`: what it is told, `ears`: in which threads.
//!   `frames`: how that is read. `arrival`: when it came. `tally`: what is counted. `threads`: where members
//!   come in. `growth`: sizes beside each other.

mod arrival;
mod crowd;
mod ears;
mod frames;
mod growth;
mod hearing;
mod member;
mod tally;
mod threads;
pub mod world;

use std::{path::PathBuf, time::Duration};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use self::{crowd::Crowd, growth::Figure, tally::Tally, world::World};
use super::{disk, floor, report, usage::Usage};
use crate::{
    config::Role,
    failure::{Failure, Outcome},
};

/// Who says what to whom.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Members of the room, each with a WebSocket of its own; several, separated by commas: a room of
    /// each size, one after the other
    #[arg(long, value_delimiter = ',', default_value = "100", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    members: Vec<u32>,
    /// Of several sizes: how the figures at the first rate grow, into this file
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Messages a second to everybody; several, separated by commas, one after the other
    #[arg(long, value_delimiter = ',', default_value = "20", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: Vec<u32>,
    /// How long each rate lasts, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Edges, which the members are spread over
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=20))]
    edges: u32,
    /// Bytes of a message's body
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(32..=16_000))]
    size: u32,
    /// Members that join in a second
    #[arg(long, default_value_t = 1_000.0)]
    joins: f64,
    /// Bytes of state that the room has before they join
    #[arg(long, default_value_t = 16 << 10, value_parser = clap::value_parser!(u32).range(0..=3 << 20))]
    state: u32,
    /// Afterwards, at the first rate: so many times the relay that leads the room's log is killed
    /// with SIGKILL, and started again
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    leader_kills: u32,
    /// Where the nodes keep their data: on another disk, or in memory (/dev/shm), which leaves the
    /// syncs out [default: a temporary folder]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// For the members' sessions
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const ROOM: &str = "bench-log";
/// The largest value of a key, in bytes; a body may have 16 KB.
const VALUE: usize = 16_000;
/// The values of a small state, in bytes.
const SMALL_VALUE: usize = 1_000;
/// A state of more than this is made of large values.
const SMALL_STATE: u32 = 128 << 10;
/// Bytes of a stamp and what is written around a body of the bench's.
const STAMP: u32 = 20;
/// File descriptors that a process needs beside its members' sockets.
const SPARE_FILES: u64 = 512;
/// The most sockets that the floor is measured with, and for how long.
const FLOOR: (u32, u64) = (1_000, 3);
/// How often the disk's own time is taken.
const SYNCS: u32 = 100;
/// From one kill of a leader to the next, in seconds, and for how long it is gone.
const KILL_EVERY: u64 = 6;
const GONE: Duration = Duration::from_millis(1_500);
/// CPU is read so long after the joins: what they left behind is done by then.
const SETTLE: Duration = Duration::from_secs(1);

/// Runs it.
pub async fn run(args: &Args) -> Outcome<Value> {
    if !(args.joins > 0.0 && args.joins <= 100_000.0) {
        let joins = args.joins;
        return Err(Failure::usage(format!(
            "--joins {joins}: more than 0 and at most 100000 a second"
        )));
    }
    let most = args.members.iter().max().copied().unwrap_or_default();
    allow_files(u64::from(most) + SPARE_FILES)?;
    let mut sizes = Vec::new();
    for members in &args.members {
        sizes.push(run_size(args, *members).await?);
    }
    if let Some(file) = &args.svg {
        let title = "A room's messages, by its members";
        let text = growth::svg(title, &grown(&sizes));
        std::fs::write(file, text).map_err(|error| {
            Failure::failed(format!("cannot write {}: {error}", file.display()))
        })?;
    }
    let all = match <[Value; 1]>::try_from(sizes) {
        Ok([one]) => one,
        Err(sizes) => json!({ "sizes": sizes }),
    };
    Ok(report::report(args.seed, all))
}

/// What is drawn of each size.
fn grown(sizes: &[Value]) -> Vec<Figure> {
    let figure = |name, of: fn(&Value) -> &Value, unit: f64| Figure {
        name,
        points: sizes
            .iter()
            .filter_map(|size| {
                let first = size["rates"].get(0).unwrap_or(size);
                let value = [of(first), of(size)].into_iter().find_map(Value::as_f64)?;
                Some((size["members"].as_f64()?, report::round(value / unit, 1)))
            })
            .collect(),
    };
    vec![
        figure("delivery p99, ms", |it| &it["delivery_ms"]["p99"], 1.0),
        figure("edge CPU a delivery, µs", |it| &it["us_per_delivery"], 1.0),
        figure(
            "edge memory a member, KiB",
            |it| &it["rss_bytes_per_member"],
            1_024.0,
        ),
    ]
}

/// One room of so many members.
async fn run_size(args: &Args, members: u32) -> Outcome<Value> {
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let dir = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let world = World::start(args.edges as usize, &dir).await?;
    let filler = args.size.saturating_sub(STAMP) as usize;
    let mut session = || rng.random::<u128>();
    let edges = &world.edges;
    // A member of the first edge fills the room before the others come.
    let (teacher, _) = Crowd::join(edges, ROOM, filler, (1, 1.0), &mut session).await?;
    if args.state > 0 {
        let value = if args.state > SMALL_STATE {
            VALUE
        } else {
            SMALL_VALUE
        };
        teacher.fill(args.state as usize, value).await?;
    }
    drop(teacher);
    let empty = world.usage(Role::Edge)?;
    eprintln!("{members} members join at {}/s", args.joins);
    let joining = (members, args.joins);
    let (crowd, joined) = Crowd::join(edges, ROOM, filler, joining, &mut session).await?;
    eprintln!("all are in after {:.1?}", joined.took);
    tokio::time::sleep(SETTLE).await;
    let full = world.usage(Role::Edge)?;
    let mut rates = Vec::new();
    for rate in &args.rate {
        eprintln!("{rate} messages/s for {} s", args.seconds);
        let before = Spent::of(&world)?;
        let (sent, tally) = crowd.talk(*rate, args.seconds).await?;
        let spent = Spent::of(&world)?.since(&before);
        let figures = figures((args.seconds, members), *rate, sent, &tally, &spent);
        eprintln!("{figures}");
        rates.push(figures);
    }
    let kills = match args.leader_kills {
        0 => Value::Null,
        kills => kill_leaders(args.rate[0], kills, &world, &crowd).await?,
    };
    drop(crowd);
    world.end().await?;
    let subscribers = members.min(FLOOR.0);
    let size = args.size;
    let floor =
        tokio::task::spawn_blocking(move || floor::us_per_write(subscribers, size, FLOOR.1));
    let floor = floor.await.map_err(Failure::failed)??;
    let syncing = tokio::task::spawn_blocking(move || disk::sync(&dir, size as usize, SYNCS));
    let sync = syncing.await.map_err(Failure::failed)?;
    let sync = sync.map_err(Failure::failed)?;
    for figures in &mut rates {
        let us = figures["us_per_delivery"].as_f64().unwrap_or_default();
        figures["us_per_delivery_by_floor"] = report::round(us / floor, 2).into();
    }
    let grown = full.rss_bytes.saturating_sub(empty.rss_bytes);
    let joins_per_s = f64::from(members) / joined.took.as_secs_f64();
    let mut all = json!({
        "members": members,
        "edges": args.edges,
        "size_bytes": args.size,
        "state_bytes": args.state,
        "joins_per_s": report::round(joins_per_s, 1),
        "snapshot_ms": joined.join.json(),
        "rss_bytes_per_member": grown / u64::from(members),
        "rss_bytes_edges": full.rss_bytes,
        "floor_tcp_us_per_write": report::round(floor, 2),
        "disk_sync_ms": sync.json(),
    });
    let figures = match <[Value; 1]>::try_from(rates) {
        Ok([one]) => one,
        Err(rates) => json!({ "rates": rates }),
    };
    if let (Value::Object(all), Value::Object(figures)) = (&mut all, figures) {
        all.extend(figures);
    }
    if !kills.is_null() {
        all["leader_kills"] = kills;
    }
    Ok(all)
}

/// Kills the leader again and again while all talk: from each kill until the first message was acked
/// that was due after it, and what became of all messages.
async fn kill_leaders(rate: u32, kills: u32, world: &World, crowd: &Crowd) -> Outcome<Value> {
    let killing = async {
        let mut ticks = tokio::time::interval(Duration::from_secs(KILL_EVERY));
        let mut killed = Vec::new();
        for _ in 0..kills {
            ticks.tick().await;
            let Some(leader) = world.leader().await else {
                return Err(Failure::failed("no relay leads the room's log"));
            };
            // Talk goes on for a moment before the first, too.
            tokio::time::sleep(GONE).await;
            killed.push(crowd.now_us());
            world.kill(&leader).await?;
            tokio::time::sleep(GONE).await;
            world.restart(&leader).await?;
        }
        Ok(killed)
    };
    let talking = crowd.talk(rate, KILL_EVERY * u64::from(kills));
    let (killed, talked) = tokio::join!(killing, talking);
    let (killed, (sent, tally)) = (killed?, talked?);
    let mut again = report::Distribution::new();
    for at in &killed {
        let after = tally.acks.iter().filter(|(due, _)| due >= at);
        if let Some(first) = after.map(|(_, acked)| *acked).min() {
            again.record_us(first - at);
        }
    }
    let acked = tally.ack_count();
    Ok(json!({
        "killed": killed.len(),
        "publishing_again_ms": again.json(),
        "sent": sent,
        "acked": acked,
        "refused": tally.errors,
        "connections_lost": tally.lost,
        "gaps": tally.gaps,
        "duplicates": tally.duplicates,
        "skipped": tally.skipped,
        "missing": (acked * crowd.count() as u64).saturating_sub(tally.given),
        "ack_ms": tally.ack.json(),
    }))
}

/// CPU in µs, by whom.
#[derive(Debug, Clone, Copy)]
struct Spent {
    edges: u64,
    relays: u64,
    /// This process: all members.
    members: u64,
}

impl Spent {
    fn of(world: &World) -> Outcome<Spent> {
        let own = Usage::of(std::process::id());
        Ok(Spent {
            edges: world.usage(Role::Edge)?.cpu_us,
            relays: world.usage(Role::Relay)?.cpu_us,
            members: own.map_or(0, |own| own.cpu_us),
        })
    }

    fn since(&self, before: &Spent) -> Spent {
        Spent {
            edges: self.edges - before.edges,
            relays: self.relays - before.relays,
            members: self.members - before.members,
        }
    }
}

fn figures(
    (seconds, members): (u64, u32),
    rate: u32,
    sent: u64,
    tally: &Tally,
    spent: &Spent,
) -> Value {
    let per = |cpu_us: u64, count: u64| report::round(cpu_us as f64 / count.max(1) as f64, 2);
    let acked = tally.ack_count();
    let due = acked * u64::from(members);
    json!({
        "rate_per_s": rate,
        "acked_per_s": report::round(acked as f64 / seconds as f64, 1),
        "sent": sent,
        "acked": acked,
        "refused": tally.errors,
        "connections_lost": tally.lost,
        "ack_ms": tally.ack.json(),
        "delivery_ms": tally.delivery.json(),
        // The members wait for the edges' cores: what comes late to a socket is the edges' doing.
        "arrival_ms": tally.arrival.json(),
        "gaps": tally.gaps,
        "duplicates": tally.duplicates,
        "skipped": tally.skipped,
        "missing": due.saturating_sub(tally.given),
        "us_per_delivery": per(spent.edges, tally.given),
        "relays_us_per_message": per(spent.relays, acked),
        // The load shares the machine's cores: what it takes, the edges cannot have.
        "generator_us_per_delivery": per(spent.members, tally.given),
    })
}

/// Lets this process, and those that it starts, have so many files open.
fn allow_files(wanted: u64) -> Outcome {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    let raised = Rlimit {
        current: Some(wanted),
        maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| {
        let hard = limit
            .maximum
            .map_or("none".to_owned(), |hard| hard.to_string());
        Failure::failed(format!(
            "so many members take {wanted} open files in one process; the limit is {hard} \
             (ulimit -Hn) and cannot be raised: {error}"
        ))
    })
}
