//! Plays seeds of the placement groups' world: `log_seeds roomlog COUNT [FIRST]`. One line a seed; exits with 1
//! at the first law that is broken.

#[path = "../tests/groups/asking.rs"]
mod asking;
#[path = "../tests/groups/client.rs"]
mod client;
#[path = "../tests/groups/disk.rs"]
mod disk;
#[path = "../tests/groups/ending.rs"]
mod ending;
#[path = "../tests/groups/faults.rs"]
mod faults;
#[path = "../tests/groups/follower.rs"]
mod follower;
#[path = "../tests/groups/history.rs"]
mod history;
#[path = "../tests/groups/hosts.rs"]
mod hosts;
#[path = "../tests/groups/net.rs"]
mod net;
#[path = "../tests/groups/record.rs"]
mod record;
#[path = "../tests/groups/world.rs"]
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).map(|number| number.parse::<u64>());
    let (count, first) = match (arguments.first().map(String::as_str), number(1), number(2)) {
        (Some("roomlog"), Some(Ok(count)), None) => (count, 0),
        (Some("roomlog"), Some(Ok(count)), Some(Ok(first))) => (count, first),
        _ => {
            eprintln!("usage: log_seeds roomlog COUNT [FIRST]");
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
