//! Plays seeds of the worlds of rooms: `room_seeds roomlog|moves COUNT [FIRST]`, one placement group or rooms that
//! move between two. One line a seed; exits with 1 at the first law that is broken.

#[path = "../tests/rooms/groups/mod.rs"]
mod groups;
#[path = "../tests/rooms/moves/mod.rs"]
mod moves;
#[path = "../tests/rooms/world/mod.rs"]
mod world;

use std::process::ExitCode;

use groups::Groups;
use world::Story;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let play: fn(u64) -> Result<String, String> = match words.first().map(String::as_str) {
        Some(Groups::NAME) => log,
        Some("moves") => room_moves,
        _ => return wrong(),
    };
    let number = |at: usize, usual: u64| words.get(at).map_or(Ok(usual), |word| word.parse());
    let (Ok(count), Ok(first)) = (number(1, 1), number(2, 0)) else {
        return wrong();
    };
    for seed in first..first + count {
        match play(seed) {
            Ok(played) => println!("seed {seed}: {played}"),
            Err(broken) => {
                println!("{broken}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn log(seed: u64) -> Result<String, String> {
    Ok(world::seeds::play::<Groups>(seed)?.to_string())
}

fn room_moves(seed: u64) -> Result<String, String> {
    let played = std::panic::catch_unwind(|| moves::world::World::play(seed))
        .unwrap_or_else(|_| Err("no panic: a member stopped its process".into()));
    let played = played.map_err(|broken| format!("seed {seed}: {broken}"))?;
    Ok(format!("{} events, {played:?}", played.events))
}

fn wrong() -> ExitCode {
    eprintln!("usage: room_seeds roomlog|moves [COUNT [FIRST]]");
    ExitCode::from(2)
}
