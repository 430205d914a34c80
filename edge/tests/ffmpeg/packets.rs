//! What ffmpeg reads in a file.

use std::{collections::HashMap, path::Path, process::Command};

use longspan_edge::media::Kind;

/// A packet as ffmpeg's `framemd5` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub kind: Kind,
    /// In µs.
    pub dts: i64,
    /// In µs.
    pub pts: i64,
    pub size: usize,
    pub md5: String,
}

/// Runs ffmpeg; its output.
pub fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-v", "error"])
        .args(arguments)
        .output()
        .expect("ffmpeg is installed (dev/test installs it)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ffmpeg {arguments:?}: {errors}");
    output.stdout
}

/// The packets of a file, not decoded.
pub fn packets(file: &Path) -> Vec<Packet> {
    packets_with(file, &["-c", "copy", "-f", "framemd5"], &[])
}

/// What `-f framemd5` tells of an input.
pub fn packets_with(file: &Path, output: &[&str], input: &[&str]) -> Vec<Packet> {
    let file = file.to_str().unwrap();
    let arguments = [&["-copyts"], input, &["-i", file], output, &["-"]].concat();
    parse(&String::from_utf8(ffmpeg(&arguments)).unwrap())
}

fn parse(text: &str) -> Vec<Packet> {
    let mut bases = HashMap::new();
    let mut kinds = HashMap::new();
    let mut packets = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("#tb ") {
            let (stream, base) = rest.split_once(": ").unwrap();
            let (num, den) = base.split_once('/').unwrap();
            let base: (i64, i64) = (num.parse().unwrap(), den.parse().unwrap());
            bases.insert(stream.to_owned(), base);
        } else if let Some(rest) = line.strip_prefix("#media_type ") {
            let (stream, kind) = rest.split_once(": ").unwrap();
            let kind = match kind {
                "video" => Kind::Video,
                "audio" => Kind::Audio,
                other => panic!("a stream of {other}"),
            };
            kinds.insert(stream.to_owned(), kind);
        } else if !line.starts_with('#') {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let (num, den) = bases[fields[0]];
            let micros = |text: &str| text.parse::<i64>().unwrap() * 1_000_000 * num / den;
            packets.push(Packet {
                kind: kinds[fields[0]],
                dts: micros(fields[1]),
                pts: micros(fields[2]),
                size: fields[4].parse().unwrap(),
                md5: fields[5].to_owned(),
            });
        }
    }
    packets
}
