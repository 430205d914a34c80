//! What the disk takes for a message that must not be lost: the relays of its placement group each
//! append it to a file and sync, and two of three must have done so.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::report::Distribution;

/// The relays of a placement group.
const FILES: usize = 3;
/// From one message to the next: the disk rests in between, as it does at 20 messages a second.
const EVERY: Duration = Duration::from_millis(50);

/// Until two of three files in `dir` have `size` more bytes on the disk, so many times.
pub fn sync(dir: &Path, size: usize, times: u32) -> io::Result<Distribution> {
    let mut files = Vec::new();
    for _ in 0..FILES {
        files.push(tempfile::tempfile_in(dir)?);
    }
    let (together, (tell, told)) = (Barrier::new(FILES), mpsc::channel());
    let bytes = vec![7; size];
    thread::scope(|scope| {
        let writers = files.into_iter().map(|mut file| {
            let (together, bytes, tell) = (&together, &bytes, tell.clone());
            scope.spawn(move || {
                for _ in 0..times {
                    thread::sleep(EVERY);
                    together.wait();
                    // Whoever fails still waits with the others.
                    let _ = tell.send(append(&mut file, bytes));
                    together.wait();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.join().expect("nothing panics there");
        }
    });
    drop(tell);
    let took = told.into_iter().collect::<io::Result<Vec<_>>>()?;
    let mut all = Distribution::new();
    for round in took.chunks_exact(FILES) {
        let mut round: Vec<_> = round.to_vec();
        round.sort();
        all.record_us(round[FILES / 2].as_micros() as u64);
    }
    Ok(all)
}

fn append(file: &mut File, bytes: &[u8]) -> io::Result<Duration> {
    let began = Instant::now();
    file.write_all(bytes)?;
    file.sync_data()?;
    Ok(began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(sync(dir.path(), 1_500, 3).unwrap().count(), 3);
        let missing = dir.path().join("missing");
        assert!(sync(&missing, 1_500, 1).is_err());
    }
}
