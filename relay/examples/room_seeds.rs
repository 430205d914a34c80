//! Plays seeds of the worlds of rooms: `room_seeds roomlog|moves [COUNT [FIRST]]`, one placement group or rooms that
//! move between two. One line a seed; exits with 1 at the first law that is broken.

#[path = "../tests/rooms/groups/mod.rs"]
mod groups;
#[path = "../tests/rooms/moves/mod.rs"]
mod moves;
#[path = "../tests/rooms/world/mod.rs"]
mod world;

use std::process::ExitCode;

use groups::Groups;
use moves::Moves;
use world::{Played, Story, seeds};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let play = match words.first().map(String::as_str) {
        Some(Groups::NAME) => seeds::play::<Groups>,
        Some(Moves::NAME) => seeds::play::<Moves>,
        _ => return wrong(),
    };
    let number = |at: usize, usual: u64| words.get(at).map_or(Ok(usual), |word| word.parse());
    let (Ok(count), Ok(first)) = (number(1, 1), number(2, 0)) else {
        return wrong();
    };
    let mut total = Played::default();
    for seed in first..first + count {
        match play(seed) {
            Ok(played) => {
                println!("seed {seed}: {played}");
                total.add(&played);
            }
            Err(broken) => {
                println!("{broken}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{count} seeds: {total}");
    ExitCode::SUCCESS
}

fn wrong() -> ExitCode {
    let (groups, moves) = (Groups::NAME, Moves::NAME);
    eprintln!("usage: room_seeds {groups}|{moves} [COUNT [FIRST]]");
    ExitCode::from(2)
}
