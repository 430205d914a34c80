//! Seeds: played and told in the same way by the tests and by hand.

use std::panic::catch_unwind;

use super::{Played, Story, World};

/// Plays one. A law that is broken is told with its seed.
pub fn play<S: Story>(seed: u64) -> Result<Played, String> {
    catch_unwind(|| World::<S>::play(seed))
        .unwrap_or_else(|_| Err("no panic: a member stopped its process".into()))
        .map_err(|broken| format!("seed {seed}: {broken}"))
}

/// Plays the first seeds, on all cores; what was met in all of them together.
#[cfg(test)]
pub fn play_all<S: Story>(seeds: u64) -> Played {
    use std::{num::NonZero, thread};

    let threads = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let some = |first: u64| {
        let mut total = Played::default();
        for seed in (first..seeds).step_by(threads as usize) {
            let again = format!(
                "cargo run -p longspan-relay --example room_seeds -- {} 1 {seed}",
                S::NAME
            );
            let played = play::<S>(seed).map_err(|broken| format!("{broken}\nagain: {again}"))?;
            total.add(&played);
        }
        Ok::<_, String>(total)
    };
    thread::scope(|scope| {
        let playing: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || some(first)))
            .collect();
        let mut total = Played::default();
        for thread in playing {
            match thread.join().expect("panics are caught") {
                Ok(played) => total.add(&played),
                Err(broken) => panic!("{broken}"),
            }
        }
        total
    })
}

/// The same seed plays the same world, event by event.
#[cfg(test)]
pub fn play_twice<S: Story>() {
    for seed in [3, 7] {
        assert_eq!(play::<S>(seed), play::<S>(seed), "seed {seed}");
    }
}
