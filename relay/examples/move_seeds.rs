//! Plays seeds of the world in which rooms move between placement groups: `move_seeds moves COUNT [FIRST]`.
//! One line a seed; exits with 1 at the first law that is broken.

#[path = "../tests/groups/client.rs"]
mod client;
#[path = "../tests/moves/controller.rs"]
mod controller;
#[path = "../tests/groups/disk.rs"]
mod disk;
#[path = "../tests/moves/ending.rs"]
mod ending;
#[path = "../tests/moves/faults.rs"]
mod faults;
#[path = "../tests/groups/follower.rs"]
mod follower;
#[path = "../tests/groups/history.rs"]
#[allow(dead_code, reason = "terms are counted by the world of one group")]
mod history;
#[path = "../tests/moves/hosts.rs"]
mod hosts;
#[path = "../tests/moves/lines.rs"]
mod lines;
#[path = "../tests/groups/net.rs"]
#[allow(
    dead_code,
    reason = "regions of their own are for the world of one group"
)]
mod net;
#[path = "../tests/groups/record.rs"]
mod record;
#[path = "../tests/moves/world.rs"]
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).map(|number| number.parse::<u64>());
    let (count, first) = match (arguments.first().map(String::as_str), number(1), number(2)) {
        (Some("moves"), Some(Ok(count)), None) => (count, 0),
        (Some("moves"), Some(Ok(count)), Some(Ok(first))) => (count, first),
        _ => {
            eprintln!("usage: move_seeds moves COUNT [FIRST]");
            return ExitCode::from(2);
        }
    };
    for seed in first..first + count {
        let played = std::panic::catch_unwind(|| world::World::play(seed))
            .unwrap_or_else(|_| Err("no panic: a member stopped its process".into()));
        match played {
            Ok(played) => println!("seed {seed}: {} events, {played:?}", played.events),
            Err(law) => {
                println!("seed {seed}: {law}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
