use bytes::Bytes;

use super::*;
use crate::media::{
    Assembled, AudioTrack, Catalog, GroupStart, Kind, Sample, TrackInfo, VideoTrack, h264,
};

fn catalog() -> Catalog {
    Catalog {
        tracks: vec![
            TrackInfo::Video(VideoTrack {
                name: Kind::Video.track(),
                codec: "avc1.64001e".into(),
                config: Bytes::from_static(h264::tests::HIGH_640X360),
                width: 640,
                height: 360,
                framerate: Some(25.0),
                bitrate: None,
                b_frames: true,
            }),
            TrackInfo::Audio(AudioTrack {
                name: Kind::Audio.track(),
                codec: "mp4a.40.2".into(),
                config: Bytes::from_static(&[0x12, 0x10]),
                sample_rate: 44_100,
                channels: 2,
                bitrate: None,
            }),
        ],
        ..Catalog::default()
    }
}

fn sample(kind: Kind, timestamp: u64, composition: i64, data: &'static [u8]) -> Sample {
    Sample {
        kind,
        timestamp,
        composition,
        key: true,
        discardable: false,
        config: None,
        data: Bytes::from_static(data),
    }
}

/// The boxes of a file by path, each with its content.
fn boxes(file: &[u8]) -> Vec<(String, Vec<u8>)> {
    const CONTAINERS: [&str; 8] = [
        "moov", "trak", "mdia", "minf", "stbl", "mvex", "moof", "traf",
    ];
    let mut found = Vec::new();
    let mut left = file;
    while !left.is_empty() {
        let len = u32::from_be_bytes(*left.first_chunk().unwrap()) as usize;
        let name = String::from_utf8(left[4..8].to_vec()).unwrap();
        let content = &left[8..len];
        if CONTAINERS.contains(&name.as_str()) {
            let inner = boxes(content).into_iter();
            found.extend(inner.map(|(path, content)| (format!("{name}/{path}"), content)));
        } else {
            found.push((name, content.to_vec()));
        }
        left = &left[len..];
    }
    found
}

fn content(file: &[u8], path: &str) -> Vec<Vec<u8>> {
    let all = boxes(file).into_iter();
    all.filter(|(p, _)| p == path)
        .map(|(_, content)| content)
        .collect()
}

#[test]
fn golden_segment() {
    let video = [
        sample(Kind::Video, 1 << 33, 80_000, b"vv"),
        sample(Kind::Video, (1 << 33) + 40_000, -40_000, b"v"),
    ];
    let audio = [sample(Kind::Audio, (1 << 33) + 5, 0, b"a")];
    let run = |kind, samples, end| Run { kind, samples, end };
    let file = segment(
        9,
        &[
            run(Kind::Video, &video, (1 << 33) + 100_000),
            run(Kind::Audio, &audio, (1 << 33) + 23_005),
        ],
    );
    assert_eq!(content(&file, "mdat"), [b"vvva"]);
    assert_eq!(content(&file, "moof/mfhd"), [[0, 0, 0, 0, 0, 0, 0, 9]]);
    assert_eq!(
        content(&file, "moof/traf/tfdt"),
        [
            [1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 5]
        ]
    );
    let words = |content: &[u8]| -> Vec<u32> {
        let word = |b: &[u8]| u32::from_be_bytes(b.try_into().unwrap());
        content.chunks(4).map(word).collect()
    };
    let truns = content(&file, "moof/traf/trun");
    let moof = file.len() - 24 - (8 + 4); // without styp and mdat
    assert_eq!(
        words(&truns[0]),
        [
            0x0100_0f01,
            2,
            moof as u32 + 8,
            40_000,
            2,
            0x0240_0000,
            80_000,
            60_000,
            1,
            0x0240_0000,
            -40_000i32 as u32,
        ]
    );
    assert_eq!(
        words(&truns[1]),
        [0x0100_0701, 1, moof as u32 + 8 + 3, 23_000, 1, 0x0200_0000]
    );
}

#[test]
fn the_init_segment_is_the_same_for_the_same_catalog() {
    let file = init(&catalog());
    assert_eq!(file, init(&catalog()));
    let ids: Vec<_> = content(&file, "moov/mvex/trex")
        .into_iter()
        .map(|trex| trex[7])
        .collect();
    assert_eq!(ids, [1, 2]);
    let scales = content(&file, "moov/trak/mdia/mdhd");
    assert!(
        scales
            .iter()
            .all(|mdhd| mdhd[12..16] == TIMESCALE.to_be_bytes())
    );
    let entries = content(&file, "moov/trak/mdia/minf/stbl/stsd");
    let has = |entry: &[u8], part: &[u8]| entry.windows(part.len()).any(|w| w == part);
    assert!(has(&entries[0], h264::tests::HIGH_640X360));
    // esds: decoder config of 13 + 5 + 2 bytes, decoder specific of 2.
    assert!(has(&entries[1], &[4, 0x80, 0x80, 0x80, 20, 0x40, 0x15]));
    assert!(has(&entries[1], &[5, 0x80, 0x80, 0x80, 2, 0x12, 0x10, 6]));
}

#[test]
fn live_stamps_each_group_and_estimates_durations() {
    let mut live = Live::new(&catalog());
    let start = GroupStart {
        group: 3,
        first_index: 0,
        timestamp: 1_000_000,
        origin_time: 1_500_000,
    };
    let mut write = |kind, timestamp, begins| {
        live.sample(&Assembled {
            group: 3,
            begins,
            sample: sample(kind, timestamp, 80_000, b"x"),
        })
    };
    let duration = |file: &[u8]| content(file, "moof/traf/trun")[0][12..16].to_vec();
    let first = write(Kind::Video, 1_000_000, Some(start));
    let prft = &content(&first, "prft")[0];
    assert_eq!(prft[..8], [1, 0, 0, 1, 0, 0, 0, 1]);
    // 1.5 s after 1970 in NTP, at the first picture's presentation time.
    assert_eq!(
        prft[8..16],
        (2_208_988_801u64 << 32 | 1 << 31).to_be_bytes()
    );
    assert_eq!(prft[16..], 1_080_000u64.to_be_bytes());
    assert_eq!(duration(&first), 40_000u32.to_be_bytes());
    // Sound is not stamped: one clock is enough.
    let sound = write(Kind::Audio, 1_000_000, Some(start));
    assert!(content(&sound, "prft").is_empty());
    assert_eq!(duration(&sound), 23_219u32.to_be_bytes());
    let second = write(Kind::Video, 1_033_000, None);
    assert_eq!(duration(&second), 33_000u32.to_be_bytes());
    assert!(content(&second, "prft").is_empty());
    // A pause says nothing of the next step.
    let late = write(Kind::Video, 9_000_000, None);
    assert_eq!(duration(&late), 33_000u32.to_be_bytes());
}

#[test]
fn live_writes_a_new_init_segment_for_a_new_config() {
    let mut live = Live::new(&catalog());
    let mut write = |config: &'static [u8]| {
        let mut sample = sample(Kind::Audio, 0, 0, b"x");
        sample.config = Some(Bytes::from_static(config));
        let file = live.sample(&Assembled {
            group: 0,
            begins: None,
            sample,
        });
        content(&file, "moov/mvhd").len()
    };
    assert_eq!(write(&[0x12, 0x10]), 0);
    assert_eq!(write(&[0x11, 0x90]), 1);
    assert_eq!(write(&[0x11, 0x90]), 0);
}
