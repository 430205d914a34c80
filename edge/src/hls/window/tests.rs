use longspan_proto::ids::Generation;
use proptest::prelude::*;

use super::*;

fn segment(generation: u64, sequence: u64) -> Segment {
    Segment {
        generation: Generation::new(0, generation),
        sequence,
        duration: 2_000_000,
        origin_time: 1_795_527_420_250_000 + sequence * 2_000_000,
        init: Bytes::from_static(b"a"),
        data: Bytes::from_static(b"data"),
    }
}

fn window(segments: impl IntoIterator<Item = Segment>) -> Window {
    let mut window = Window::new();
    for segment in segments {
        assert!(window.push(segment));
    }
    window
}

fn value(playlist: &str, tag: &str) -> u64 {
    let line = playlist.lines().find_map(|line| line.strip_prefix(tag));
    line.unwrap_or_else(|| panic!("no {tag} in {playlist}"))
        .parse()
        .unwrap()
}

#[test]
fn golden() {
    let mut last = segment(7, 3);
    last.duration = 2_040_000;
    last.init = Bytes::from_static(b"b");
    let window = window([segment(7, 0), segment(7, 1), last]);
    assert_eq!(
        window.playlist_with_query("token=T").unwrap(),
        "#EXTM3U\n\
         #EXT-X-VERSION:8\n\
         #EXT-X-TARGETDURATION:3\n\
         #EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:7\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-MAP:URI=\"init-af63dc4c8601ec8c.mp4?token=T\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-24T13:37:00.250Z\n\
         #EXTINF:2.000000,\n\
         0.7-0.m4s?token=T\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-24T13:37:02.250Z\n\
         #EXTINF:2.000000,\n\
         0.7-1.m4s?token=T\n\
         #EXT-X-GAP\n\
         #EXTINF:2.000000,\n\
         0.7-2.m4s?token=T\n\
         #EXT-X-MAP:URI=\"init-af63df4c8601f1a5.mp4?token=T\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-24T13:37:06.250Z\n\
         #EXTINF:2.040000,\n\
         0.7-3.m4s?token=T\n"
    );
}

#[test]
fn lists_six_and_holds_as_many_again() {
    let window = window((10..30).map(|n| segment(7, n)));
    let playlist = window.playlist().unwrap();
    assert_eq!(value(&playlist, "#EXT-X-MEDIA-SEQUENCE:"), 24);
    assert_eq!(playlist.matches("#EXTINF").count(), 6);
    let held = |n| window.get(&Name::parse(&format!("0.7-{n}.m4s")).unwrap());
    assert_eq!((held(17), held(18).is_some()), (None, true));
    assert!(window.get(&Name::of_init(b"a")).is_some());
    assert_eq!(window.get(&Name::of_init(b"b")), None);
    assert_eq!(window.bytes(), 12 * 4);
}

#[test]
fn a_new_generation_is_a_discontinuity() {
    let both = window([segment(7, 4), segment(8, 5)]);
    let playlist = both.playlist().unwrap();
    assert_eq!(value(&playlist, "#EXT-X-DISCONTINUITY-SEQUENCE:"), 7);
    let at = playlist.find("#EXT-X-DISCONTINUITY\n").unwrap();
    assert!(playlist[at..].starts_with("#EXT-X-DISCONTINUITY\n#EXT-X-MAP"));
    // One tag cannot count two generations: the older ones are not listed.
    let skipped = window([segment(7, 4), segment(9, 5)]);
    let playlist = skipped.playlist().unwrap();
    assert_eq!(value(&playlist, "#EXT-X-DISCONTINUITY-SEQUENCE:"), 9);
    assert_eq!(value(&playlist, "#EXT-X-MEDIA-SEQUENCE:"), 5);
}

#[test]
fn never_goes_back() {
    let mut window = window([segment(7, 4), segment(8, 6)]);
    assert!(!window.push(segment(8, 6)));
    assert!(!window.push(segment(8, 5)));
    assert!(!window.push(segment(7, 7)));
    assert!(window.push(segment(8, 7)));
}

#[test]
fn what_is_held_is_bounded() {
    let big = Bytes::from(vec![0; MAX_BYTES / 2]);
    let window = window((0..4).map(|n| Segment {
        data: big.clone(),
        ..segment(7, n)
    }));
    assert_eq!(window.bytes(), MAX_BYTES);
    let playlist = window.playlist().unwrap();
    assert_eq!(value(&playlist, "#EXT-X-MEDIA-SEQUENCE:"), 2);
}

proptest! {
    /// RFC 8216 §6.2.1 and §6.2.2, whatever comes: numbers only rise, a number's entry never
    /// changes its name, durations are within the target, and an edge that came late agrees with
    /// one that saw everything.
    #[test]
    fn invariants(
        steps in proptest::collection::vec((1u64..4, 0u64..3, 0u64..9_000_000), 1..40),
        late in 0usize..40,
    ) {
        let (mut early, mut joined) = (Window::new(), Window::new());
        let (mut sequence, mut generation) = (0, 1);
        let mut last = (0, 0);
        for (i, (step, newer, duration)) in steps.into_iter().enumerate() {
            sequence += step;
            // Most segments are of the generation before them.
            generation += newer.saturating_sub(1) * step;
            let segment = Segment { duration, ..segment(generation, sequence) };
            prop_assert!(early.push(segment.clone()));
            if i >= late {
                joined.push(segment);
            }
            let playlist = early.playlist().unwrap();
            let now = (
                value(&playlist, "#EXT-X-MEDIA-SEQUENCE:"),
                value(&playlist, "#EXT-X-DISCONTINUITY-SEQUENCE:"),
            );
            prop_assert!(last.0 <= now.0 && last.1 <= now.1);
            last = now;
            let target = value(&playlist, "#EXT-X-TARGETDURATION:") as f64;
            for line in playlist.lines().filter_map(|l| l.strip_prefix("#EXTINF:")) {
                prop_assert!(line.trim_end_matches(',').parse::<f64>().unwrap() <= target);
            }
            let entries = numbered(&playlist);
            prop_assert!(entries.len() as u64 <= LISTED);
            if let Some(other) = joined.playlist() {
                for (key, name) in numbered(&other) {
                    let same = entries.iter().find(|(k, _)| *k == key);
                    prop_assert!(same.is_some_and(|(_, n)| *n == name), "{playlist}\n{other}");
                }
            }
        }
    }
}

/// ((media sequence, discontinuity sequence), URI) of all segments that are there.
fn numbered(playlist: &str) -> Vec<((u64, u64), String)> {
    let mut sequence = value(playlist, "#EXT-X-MEDIA-SEQUENCE:");
    let mut discontinuity = value(playlist, "#EXT-X-DISCONTINUITY-SEQUENCE:");
    let mut gap = false;
    let mut entries = Vec::new();
    for line in playlist.lines() {
        match line {
            "#EXT-X-DISCONTINUITY" => discontinuity += 1,
            "#EXT-X-GAP" => gap = true,
            uri if !uri.starts_with('#') => {
                if !std::mem::take(&mut gap) {
                    entries.push(((sequence, discontinuity), uri.to_owned()));
                }
                sequence += 1;
            }
            _ => {}
        }
    }
    entries
}
