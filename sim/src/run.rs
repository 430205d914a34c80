//! Plans played, and shrunk where they fail.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Once,
    time::Duration,
};

use longspan_proto::time::Time;

use crate::{Dice, Op, Plan, Tables, What, World};

/// After the last repair: a redial's longest pause (5 s), a handshake's (10 s).
const REPAIRED: Duration = Duration::from_secs(16);
/// A drained relay's neighbours have so long.
const DRAIN: Duration = Duration::from_secs(5);
/// After everyone has left: a linger (2 s) at each of up to five hops, then the cache's age (10 s), and
/// what stalls of neighbours that vanish add.
const REST: Duration = Duration::from_secs(40);
/// Laws of what is held are checked at least so often.
const STEP: Duration = Duration::from_secs(1);

/// What a run showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The digest of all that happened.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// Frames that viewers saw.
    pub frames: u64,
    /// See [`World::false_downs`].
    pub false_downs: u64,
    /// Primary paths that controllers moved.
    pub switches: u64,
}

/// A law that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub law: String,
    /// How.
    pub why: String,
    /// When, after the world had settled.
    pub at: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Begin,
    Middle,
    End,
}

/// Is told, second by second, how much time has passed in the world.
type Watch<'a> = &'a dyn Fn(Duration);

/// Plays a plan to its end.
fn play(plan: &Plan, watch: Watch<'_>) -> Outcome {
    let mut world = plan.world();
    let began = world.now;
    let mut turns: Vec<(Duration, usize, Turn)> = Vec::new();
    for (n, op) in plan.ops.iter().enumerate() {
        turns.push((op.at, n, Turn::Begin));
        if op.what == What::Drain {
            turns.push((op.at + DRAIN, n, Turn::Middle));
        }
        let lasts = !(op.for_.is_zero() || op.what == What::Say);
        if lasts {
            let least = if op.what == What::Drain {
                DRAIN * 2
            } else {
                op.for_
            };
            turns.push((op.at + op.for_.max(least), n, Turn::End));
        }
    }
    turns.sort_by_key(|(at, n, turn)| (*at, *n, *turn as u8));
    for slot in 0..world.slots.len() {
        world.publish(slot);
    }
    let mut fault = world.now;
    let mut doing = Doing::default();
    for (due, n, turn) in turns {
        steps(&mut world, began, began + due, fault, watch);
        let op = &plan.ops[n];
        if op.what.is_fault() {
            // Up to here everything was as it had been for a while, or is not judged.
            world.fed(fault);
            fault = world.now;
        }
        doing.turn(&mut world, n, op, turn);
        world.check();
    }
    repair(&mut world);
    let mended = world.now;
    let until = began + plan.end() + REPAIRED;
    let until = until.max(mended + REPAIRED);
    steps(&mut world, began, until, mended, watch);
    for slot in 0..world.slots.len() {
        world.say_more(slot);
    }
    world.all_fed();
    let calm = world.moves();
    let quiet = world.now + Duration::from_secs(7);
    steps(&mut world, began, quiet, mended, watch);
    if world.is_steady() {
        world.calm(&calm);
    }
    world.all_fed();
    let outcome = |world: &World| Outcome {
        hash: world.hash(),
        events: world.events(),
        frames: world.viewers.iter().map(|v| v.seen.frames).sum(),
        false_downs: world.false_downs,
        switches: world.switches(),
    };
    for viewer in 0..world.viewers.len() {
        world.leave(viewer);
    }
    let rest = world.now + REST;
    steps(&mut world, began, rest, mended, watch);
    world.rest();
    outcome(&world)
}

fn steps(world: &mut World, began: Time, until: Time, fault: Time, watch: Watch<'_>) {
    while world.now < until {
        world.run_until((world.now + STEP).min(until));
        watch(world.now.saturating_since(began));
        world.check();
        world.blackholes_known();
        world.fed(fault);
    }
}

fn repair(world: &mut World) {
    for node in 0..world.layout.nodes.len() {
        world.go_on(node);
        world.restart(node);
    }
    for link in 0..world.layout.links.len() {
        if !world.is_open(link) {
            world.heal(link);
        }
        for side in 0..2 {
            world.suspect(link, side, false);
        }
    }
    for slot in 0..world.slots.len() {
        world.publish(slot);
    }
    if world.setup.tables == Tables::ByHand {
        world.tables(&|_, _| 100);
    }
}

/// Which viewers came by which operation.
#[derive(Default)]
struct Doing {
    viewers: Vec<(usize, usize)>,
}

impl Doing {
    fn turn(&mut self, world: &mut World, n: usize, op: &Op, turn: Turn) {
        let begins = turn == Turn::Begin;
        let (nodes, links) = (world.layout.nodes.len(), world.layout.links.len());
        let relays = world.layout.relays;
        let link = (op.a % links as u64) as usize;
        let node = (op.a % nodes as u64) as usize;
        let relay = (op.a % relays as u64) as usize;
        world.note(n as u64);
        match op.what {
            What::Publish => {
                let slot = (op.a % world.slots.len() as u64) as usize;
                match begins {
                    true => world.unpublish(slot),
                    false => world.publish(slot),
                }
            }
            What::View if begins => {
                let edge = relays + (op.a % (nodes - relays) as u64) as usize;
                let slot = (op.b % world.slots.len() as u64) as usize;
                if world.runs(edge) {
                    let budget = [0, 0, 300, 1_000][(op.b >> 10) as usize % 4];
                    self.viewers.push((n, world.view(edge, slot, budget)));
                }
            }
            What::View => {
                let came = self.viewers.iter().find(|(by, _)| *by == n);
                if let Some((_, viewer)) = came.copied() {
                    world.leave(viewer);
                }
            }
            What::Say => {
                for slot in 0..world.slots.len() {
                    world.say_more(slot);
                }
            }
            What::Cut if begins => world.cut(link, None),
            What::CutOneWay if begins => world.cut(link, Some((op.b % 2) as usize)),
            What::Brown if begins => world.brown_out(link),
            What::Cut | What::CutOneWay | What::Brown => world.heal(link),
            What::Kill if begins => world.kill(node),
            What::Kill => world.restart(node),
            What::Stop if begins => world.stop(node),
            What::Stop => world.go_on(node),
            What::Drain => match turn {
                Turn::Begin => world.say_goodbye(relay, DRAIN),
                Turn::Middle => world.kill(relay),
                Turn::End => world.restart(relay),
            },
            What::Partition => {
                for link in 0..links {
                    let ends = &world.layout.links[link];
                    let side = |n: usize| {
                        let region = &world.layout.nodes[n].region;
                        let text = region
                            .as_str()
                            .bytes()
                            .fold(op.a, |h, b| h.wrapping_mul(31) + u64::from(b));
                        Dice::new(text).percent(35)
                    };
                    if side(ends.a) != side(ends.b) {
                        match begins {
                            true => world.cut(link, None),
                            false => world.heal(link),
                        }
                    }
                }
            }
            What::KillController | What::StopController | What::LoseStore => {
                let count = world.plane.controllers.len();
                if count == 0 {
                    return;
                }
                let c = (op.a % count as u64) as usize;
                match (op.what, begins) {
                    (What::KillController, true) => world.kill_controller(c),
                    (What::KillController, false) => world.start_controller(c),
                    (What::StopController, true) => world.stop_controller(c),
                    (What::StopController, false) => world.continue_controller(c),
                    (_, true) => world.lose_store(),
                    (_, false) => world.return_store(),
                }
            }
            What::FalseTables if begins => {
                let salt = op.a;
                world.tables(&|node, link| {
                    let seed = salt ^ ((node as u64) << 32) ^ link as u64;
                    20 + Dice::new(seed).below(300)
                });
            }
            What::FalseTables => world.tables(&|_, _| 100),
            What::Suspect => world.suspect(link, (op.b % 2) as usize, begins),
        }
    }
}

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// What panics while a plan is played is kept, not printed.
fn hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !CATCHING.get() {
                return usual(info);
            }
            let text = info.payload_as_str().unwrap_or("a panic").to_owned();
            let place = info.location().map(ToString::to_string);
            let text = format!("{text}\n  at {}", place.unwrap_or_default());
            LAST.with_borrow_mut(|last| *last = Some(text));
        }));
    });
}

/// Plays a plan. `Err`: a law was broken, or a core panicked.
pub fn run(plan: &Plan) -> Result<Outcome, Failure> {
    run_watched(plan, &|_| ())
}

/// Plays a plan as [`run`] does, and tells at each second of it how much time has passed.
pub fn run_watched(plan: &Plan, watch: &dyn Fn(Duration)) -> Result<Outcome, Failure> {
    hook();
    let at = Cell::new(Duration::ZERO);
    let keep = |passed| {
        at.set(passed);
        watch(passed);
    };
    let before = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(|| play(plan, &keep)));
    CATCHING.set(before);
    result.map_err(|_| {
        let text = LAST.with_borrow_mut(Option::take).unwrap_or_default();
        let (law, why) = text.split_once(": ").unwrap_or((&text, ""));
        // Of a core's own panic the place says which it is.
        let law = match law.contains('§') {
            true => law.to_owned(),
            false => text
                .rsplit_once("\n  at ")
                .map_or(law, |(_, at)| at)
                .to_owned(),
        };
        Failure {
            law,
            why: if why.is_empty() {
                text.clone()
            } else {
                why.to_owned()
            },
            at: at.get(),
        }
    })
}

/// A shorter plan that breaks the same law, found within so many runs: operations are dropped,
/// many at once at first; then those that are left are made shorter.
pub fn shrink(plan: &Plan, failure: &Failure, mut runs: usize) -> (Plan, Failure) {
    let mut best = (plan.clone(), failure.clone());
    let mut better = |ops: Vec<Op>, best: &mut (Plan, Failure)| {
        if runs == 0 || ops == best.0.ops {
            return false;
        }
        runs -= 1;
        let plan = Plan {
            ops,
            ..best.0.clone()
        };
        match run(&plan) {
            Err(failure) if failure.law == best.1.law => {
                *best = (plan, failure);
                true
            }
            _ => false,
        }
    };
    // What begins after the failure has no part in it.
    let by = best.1.at + STEP;
    let earlier = best.0.ops.iter().filter(|op| op.at <= by).copied();
    better(earlier.collect(), &mut best);
    let mut chunk = best.0.ops.len().div_ceil(2);
    while chunk >= 1 {
        let mut from = 0;
        while from < best.0.ops.len() {
            let mut ops = best.0.ops.clone();
            ops.drain(from..(from + chunk).min(ops.len()));
            if !better(ops, &mut best) {
                from += chunk;
            }
        }
        if chunk == 1 {
            break;
        }
        chunk = chunk.div_ceil(2);
    }
    for n in 0..best.0.ops.len() {
        let mut ops = best.0.ops.clone();
        ops[n].for_ /= 2;
        better(ops, &mut best);
    }
    best
}
