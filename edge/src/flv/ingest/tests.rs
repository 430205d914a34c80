use proptest::prelude::*;
use serde_json::json;

use super::*;

/// x264, 640x360, high profile, with B-frames (see `h264`'s tests).
const AVCC: &[u8] = h264::tests::HIGH_640X360;
const ASC: &[u8] = &[0x12, 0x10];

fn body(header: &[u8], rest: &[u8]) -> Bytes {
    [header, rest].concat().into()
}

fn video_config() -> Bytes {
    body(&[0x17, 0, 0, 0, 0], AVCC)
}

fn picture(key: bool) -> Bytes {
    let nal = if key { 0x65 } else { 0x41 };
    body(
        &[if key { 0x17 } else { 0x27 }, 1, 0, 0, 80],
        &[0, 0, 0, 1, nal],
    )
}

fn audio_config() -> Bytes {
    body(&[0xaf, 0], ASC)
}

fn sound() -> Bytes {
    body(&[0xaf, 1], &[7])
}

fn object(json: Json) -> Map<String, Json> {
    json.as_object().unwrap().clone()
}

/// `C` with the tracks for a catalog; `v` or `a`, the ms, `+` for a config.
fn told(ingested: Vec<Ingested>) -> Vec<String> {
    let tell = |it| match it {
        Ingested::Catalog(catalog) => format!("C {}", catalog.codecs()),
        Ingested::Sample(s) => format!(
            "{}{}{}",
            &s.kind.name()[..1],
            s.timestamp / 1_000,
            if s.config.is_some() { "+" } else { "" }
        ),
    };
    ingested.into_iter().map(tell).collect()
}

fn push(it: &mut Ingest, kind: Kind, ms: u32, body: Bytes) -> Vec<String> {
    told(it.media(kind, ms, body).unwrap())
}

const BOTH: &str = "C avc1.64001e,mp4a.40.2";
const NONE: [&str; 0] = [];

#[test]
fn holds_samples_until_what_the_metadata_promises_is_there() {
    let mut it = Ingest::new();
    it.metadata(object(json!({"videocodecid": 7, "audiocodecid": 10})));
    assert_eq!(push(&mut it, Kind::Video, 0, video_config()), NONE);
    assert_eq!(push(&mut it, Kind::Video, 0, picture(true)), NONE);
    assert_eq!(push(&mut it, Kind::Audio, 0, audio_config()), NONE);
    assert_eq!(push(&mut it, Kind::Audio, 5, sound()), [BOTH, "v0+", "a5+"]);
    assert_eq!(push(&mut it, Kind::Audio, 28, sound()), ["a28"]);
    // Repeated configs say nothing new.
    assert_eq!(push(&mut it, Kind::Video, 40, video_config()), NONE);
    assert_eq!(push(&mut it, Kind::Video, 40, picture(false)), ["v40"]);
}

#[test]
fn does_not_wait_for_what_the_metadata_does_not_promise() {
    let mut it = Ingest::new();
    it.metadata(object(
        json!({"videocodecid": "avc1", "audiocodecid": null}),
    ));
    push(&mut it, Kind::Video, 0, video_config());
    assert_eq!(
        push(&mut it, Kind::Video, 0, picture(true)),
        ["C avc1.64001e", "v0+"]
    );
    // It comes all the same.
    assert_eq!(push(&mut it, Kind::Audio, 10, audio_config()), NONE);
    assert_eq!(push(&mut it, Kind::Audio, 10, sound()), [BOTH, "a10+"]);
}

#[test]
fn without_metadata_it_waits_a_bounded_time() {
    let mut it = Ingest::new();
    push(&mut it, Kind::Audio, 0, audio_config());
    assert_eq!(push(&mut it, Kind::Audio, 0, sound()), NONE);
    assert_eq!(
        push(&mut it, Kind::Audio, MAX_HOLD_MS as u32 - 1, sound()),
        NONE
    );
    assert_eq!(
        push(&mut it, Kind::Audio, MAX_HOLD_MS as u32, sound()),
        ["C mp4a.40.2", "a0+", "a999", "a1000"]
    );
    let mut it = Ingest::new();
    push(&mut it, Kind::Audio, 0, audio_config());
    for _ in 1..MAX_HELD {
        assert_eq!(push(&mut it, Kind::Audio, 0, sound()), NONE);
    }
    assert_eq!(push(&mut it, Kind::Audio, 0, sound()).len(), MAX_HELD + 1);
}

#[test]
fn what_cannot_be_decoded_is_left_out() {
    let mut it = Ingest::new();
    assert_eq!(push(&mut it, Kind::Video, 0, picture(true)), NONE);
    assert_eq!(push(&mut it, Kind::Video, 0, Bytes::new()), NONE);
    assert!(it.held.is_empty());
}

#[test]
fn the_catalog_says_what_the_metadata_and_the_configs_say() {
    let mut it = Ingest::new();
    let metadata = object(json!({
        "videocodecid": 7, "framerate": 25, "videodatarate": 2_500.5, "encoder": "Lavf59"
    }));
    it.metadata(metadata.clone());
    push(&mut it, Kind::Video, 0, video_config());
    let ingested = it.media(Kind::Video, 0, picture(true)).unwrap();
    let Ingested::Catalog(catalog) = &ingested[0] else {
        panic!("{ingested:?}");
    };
    let video = catalog.video().unwrap();
    assert_eq!(
        (video.width, video.height, video.b_frames),
        (640, 360, true)
    );
    assert_eq!(
        (video.framerate, video.bitrate),
        (Some(25.0), Some(2_500_500))
    );
    assert_eq!(catalog.encoder.as_deref(), Some("Lavf59"));
    assert_eq!(catalog.metadata, metadata);
    let Ingested::Sample(sample) = &ingested[1] else {
        panic!("{ingested:?}");
    };
    assert_eq!(sample.composition, 80_000);
    assert_eq!(sample.config.as_deref(), Some(AVCC));
}

#[test]
fn a_new_config_makes_a_new_catalog() {
    let mut it = Ingest::new();
    it.metadata(object(json!({"audiocodecid": 10})));
    push(&mut it, Kind::Audio, 0, audio_config());
    assert_eq!(
        push(&mut it, Kind::Audio, 0, sound()),
        ["C mp4a.40.2", "a0+"]
    );
    push(
        &mut it,
        Kind::Audio,
        9,
        body(&[0xaf, 0], &[0x2b, 0x11, 0x88, 0]),
    );
    assert_eq!(
        push(&mut it, Kind::Audio, 9, sound()),
        ["C mp4a.40.5", "a9+"]
    );
}

#[test]
fn timestamps_go_on_where_rtmp_wraps() {
    let mut it = Ingest::new();
    let mut at = |ms: u32| it.unwrap(ms);
    assert_eq!(at(u32::MAX - 10), u64::from(u32::MAX) - 10);
    assert_eq!(at(5), u64::from(u32::MAX) + 6);
    assert_eq!(at(u32::MAX), u64::from(u32::MAX));
    assert_eq!(at(40), u64::from(u32::MAX) + 41);
    let mut it = Ingest::new();
    it.unwrap(100);
    // Before the beginning of time there is nothing.
    assert_eq!(it.unwrap(90), 90);
    assert_eq!(it.unwrap(u32::MAX), u64::from(u32::MAX));
}

#[test]
fn refuses_with_the_reason() {
    let mut it = Ingest::new();
    let refused = |it: &mut Ingest, kind, body: &'static [u8]| {
        let result = it.media(kind, 0, Bytes::from_static(body));
        result.unwrap_err().to_string()
    };
    assert_eq!(
        refused(
            &mut it,
            Kind::Video,
            &[0x17, 0, 0, 0, 0, 0, 0, 0, 1, 0x67, 0]
        ),
        "H.264 decoder config: avcC version 0 is not 1"
    );
    assert_eq!(
        refused(&mut it, Kind::Audio, &[0xaf, 0, 0x02, 0x10]),
        "AAC decoder config: audio object type 0 is not AAC"
    );
    assert_eq!(
        refused(&mut it, Kind::Audio, &[0x2f, 0]),
        "audio codec MP3 is not supported; publish H.264 video and AAC audio"
    );
}

proptest! {
    #[test]
    fn garbage_never_panics(
        tags in proptest::collection::vec(
            (any::<bool>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..30)), 0..40)
    ) {
        let mut it = Ingest::new();
        let _ = it.media(Kind::Video, 0, video_config());
        for (video, ms, body) in tags {
            let kind = if video { Kind::Video } else { Kind::Audio };
            let _ = it.media(kind, ms, body.into());
        }
    }
}
