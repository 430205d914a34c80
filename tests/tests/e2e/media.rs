//! ffmpeg as publisher and player, and what it says of the packets.

use std::{
    collections::HashMap,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use super::{
    flv::{Parser, Tag},
    process::Process,
};

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
        .stdin(Stdio::null());
    command
}

/// Publishes testsrc2 and a sine, H.264 with B-frames and AAC, in real time; what it sends is
/// also written to `copy`.
pub fn publish(url: &str, copy: Option<&Path>) -> Process {
    let mut command = encoder(0);
    match copy {
        Some(copy) => command.args([
            "-f",
            "tee",
            &format!(
                "[f=flv]{url}|[f=flv:flvflags=no_duration_filesize]{}",
                copy.display()
            ),
        ]),
        None => command.args(["-f", "flv", url]),
    };
    Process::spawn("ffmpeg (publisher)", &mut command)
}

/// ffmpeg with the pictures and the sound of [`publish`]; another `hue` gives other pictures.
fn encoder(hue: u32) -> Command {
    let mut command = ffmpeg();
    command
        .args(["-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"])
        .args([
            "-map",
            "0:v",
            "-map",
            "1:a",
            "-vf",
            &format!("hue=h={hue}"),
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-bf",
            "2",
            "-b_strategy",
            "0",
        ])
        .args([
            "-g",
            "30",
            "-keyint_min",
            "30",
            "-sc_threshold",
            "0",
            "-b:v",
            "800k",
            "-pix_fmt",
            "yuv420p",
        ])
        .args(["-c:a", "aac", "-b:a", "64k", "-flags", "+global_header"]);
    command
}

/// A publisher of which is known what it sent and when, and what it said.
pub struct Publisher {
    pub process: Process,
    sent: Arc<Mutex<Vec<Tag>>>,
    said: Option<JoinHandle<String>>,
}

impl Publisher {
    /// As [`publish`]; another `hue` gives other pictures. Each tag is handed to the test just
    /// before it goes to `url`.
    pub fn start(url: &str, hue: u32) -> Publisher {
        let mut command = encoder(hue);
        let outputs =
            format!("[f=flv:flvflags=no_duration_filesize]pipe\\:1|[f=flv:onfail=abort]{url}");
        command
            .args(["-f", "tee", &outputs])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Process::spawn("ffmpeg (publisher)", &mut command);
        let mut stdout = process.child().stdout.take().expect("piped");
        let mut stderr = process.child().stderr.take().expect("piped");
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = sent.clone();
        std::thread::spawn(move || {
            let mut parser = Parser::default();
            let mut buffer = vec![0; 64 << 10];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                parser.push(&buffer[..read]);
                while let Some(tag) = parser.next() {
                    kept.lock().expect("nobody panics with it").push(tag);
                }
            }
        });
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            let _ = stderr.read_to_string(&mut said);
            said
        });
        Publisher {
            process,
            sent,
            said: Some(said),
        }
    }

    /// The pictures it has sent.
    pub fn pictures(&self) -> Vec<Tag> {
        let sent = self.sent.lock().expect("nobody panics with it");
        sent.iter()
            .filter(|tag| tag.is_picture())
            .cloned()
            .collect()
    }

    /// What it complained of, once it has ended.
    pub fn last_words(&mut self) -> String {
        let said = self.said.take().expect("asked once");
        said.join().expect("its errors are text")
    }
}

/// Whose pictures came, and in which runs: `(publisher, pictures)`. Each run has no hole, is in
/// the order of its publisher, and begins with a key frame; whatever nobody sent is a failure.
pub fn runs(publishers: &[&Publisher], received: &[Tag]) -> Vec<(usize, usize)> {
    let sent: Vec<Vec<Tag>> = publishers.iter().map(|p| p.pictures()).collect();
    let mut places = HashMap::new();
    for (publisher, pictures) in sent.iter().enumerate() {
        for (at, tag) in pictures.iter().enumerate() {
            places.insert(tag.body.clone(), (publisher, at));
        }
    }
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut last = None;
    for (i, tag) in received.iter().enumerate() {
        let (publisher, at) = *places
            .get(&tag.body)
            .unwrap_or_else(|| panic!("picture {i} ({} ms) was sent by nobody", tag.timestamp));
        match last {
            Some((same, before)) if same == publisher => {
                assert_eq!(at, before + 1, "picture {i} of publisher {publisher}");
            }
            _ => {
                assert!(
                    tag.key,
                    "picture {i}, the first of publisher {publisher}, is no key frame"
                );
                runs.push((publisher, 0));
            }
        }
        runs.last_mut().expect("a run").1 += 1;
        last = Some((publisher, at));
    }
    runs
}

/// Plays `url` for `seconds` into a framemd5 listing, packets as they are.
pub fn record(url: &str, seconds: u32, listing: &Path) -> Process {
    let mut command = ffmpeg();
    command.args([
        "-copyts",
        "-i",
        url,
        "-t",
        "100000",
        "-c",
        "copy",
        "-frames:v",
        &(seconds * 30).to_string(),
    ]);
    command.args(["-map", "0:v", "-f", "framemd5"]).arg(listing);
    Process::spawn("ffmpeg (player)", &mut command)
}

/// Plays `url` until `pictures` pictures and as many pieces of sound are decoded: how many of each
/// came, and what ffmpeg complained of.
pub fn decode(url: &str, pictures: u32) -> (usize, usize, String) {
    let mut command = ffmpeg();
    command
        .args(["-i", url, "-map", "0:v", "-map", "0:a"])
        .args(["-frames:v", &pictures.to_string()])
        .args(["-frames:a", &pictures.to_string()])
        .args(["-f", "framecrc", "-"]);
    let output = command.output().expect("ffmpeg runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let of = |stream: &str| text.lines().filter(|line| line.starts_with(stream)).count();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    (of("0,"), of("1,"), complaints)
}

/// The listing of a file.
pub fn list(file: &Path, listing: &Path) {
    let mut command = ffmpeg();
    command
        .arg("-copyts")
        .arg("-i")
        .arg(file)
        .args(["-map", "0:v", "-c", "copy", "-f", "framemd5"])
        .arg(listing);
    // A publisher that was killed may have left half a packet at the end: the listing holds the
    // whole ones.
    let _ = command.stderr(Stdio::null()).status().expect("ffmpeg runs");
}

/// One video packet: decoding and presentation time in ms, and its hash.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    pub dts: f64,
    pub pts: f64,
    pub hash: String,
}

/// Reads a framemd5 listing.
pub fn packets(listing: &PathBuf) -> Vec<Packet> {
    let text =
        std::fs::read_to_string(listing).unwrap_or_else(|e| panic!("{}: {e}", listing.display()));
    let mut unit = 1.0;
    let mut packets = Vec::new();
    for line in text.lines() {
        if let Some(base) = line.strip_prefix("#tb 0: ") {
            let (num, den) = base.trim().split_once('/').expect("a fraction");
            unit = 1000.0 * num.parse::<f64>().expect("a number")
                / den.parse::<f64>().expect("a number");
        }
        if line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        packets.push(Packet {
            dts: fields[1].parse::<f64>().expect("dts") * unit,
            pts: fields[2].parse::<f64>().expect("pts") * unit,
            hash: fields[5].to_owned(),
        });
    }
    packets
}

/// Asserts that `received` is a run of `sent`, bit by bit, of at least `least` packets, with the
/// same timestamps (or, for a muxer that moves its timeline, all moved by the same amount).
pub fn assert_same_run(
    what: &str,
    sent: &[Packet],
    received: &[Packet],
    least: usize,
    may_shift: bool,
) {
    assert!(
        received.len() >= least,
        "{what}: {} packets came, {least} are needed",
        received.len()
    );
    let places: HashMap<&str, usize> = sent
        .iter()
        .enumerate()
        .map(|(i, p)| (p.hash.as_str(), i))
        .collect();
    let start = *places
        .get(received[0].hash.as_str())
        .unwrap_or_else(|| panic!("{what}: its first packet was never sent"));
    let common = received.len().min(sent.len() - start);
    assert!(
        common >= least,
        "{what}: a common run of {common} packets, {least} are needed"
    );
    let shift = received[0].dts - sent[start].dts;
    assert!(
        may_shift || shift.abs() < 1.0,
        "{what}: timestamps moved by {shift} ms"
    );
    for (i, (got, was)) in received.iter().zip(&sent[start..]).enumerate() {
        let place = || {
            places
                .get(got.hash.as_str())
                .map(|at| *at as i64 - (start + i) as i64)
        };
        assert_eq!(
            got.hash,
            was.hash,
            "{what}: packet {i} differs; it was sent {:?} places later, at {} ms",
            place(),
            got.dts
        );
        for (got, was) in [(got.dts, was.dts), (got.pts, was.pts)] {
            assert!(
                (got - was - shift).abs() < 1.5,
                "{what}: packet {i}: {got} ms, sent {was} ms, shift {shift} ms"
            );
        }
    }
}
