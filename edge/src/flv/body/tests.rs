use proptest::prelude::*;

use super::*;

fn parse(kind: Kind, body: &'static [u8]) -> Result<Body, BodyError> {
    Body::parse(kind, Bytes::from_static(body))
}

fn refused(kind: Kind, body: &'static [u8]) -> String {
    match parse(kind, body) {
        Err(BodyError::Codec { codec, .. }) => codec,
        other => panic!("{other:?}"),
    }
}

#[test]
fn golden() {
    let media = |key, composition, data| {
        Ok(Body::Media {
            key,
            composition,
            data: Bytes::from_static(data),
        })
    };
    assert_eq!(
        parse(Kind::Video, &[0x17, 1, 0, 0, 80, 9]),
        media(true, 80, &[9])
    );
    assert_eq!(
        parse(Kind::Video, &[0x27, 1, 0xff, 0xff, 0xff, 9]),
        media(false, -1, &[9])
    );
    assert_eq!(
        parse(Kind::Video, &[0x17, 0, 0, 0, 0, 1, 2]),
        Ok(Body::Config(Bytes::from_static(&[1, 2])))
    );
    assert_eq!(parse(Kind::Video, &[0x17, 2, 0, 0, 0]), Ok(Body::Nothing));
    assert_eq!(parse(Kind::Video, &[0x57, 0]), Ok(Body::Nothing));
    assert_eq!(parse(Kind::Audio, &[0xaf, 1, 9]), media(true, 0, &[9]));
    assert_eq!(
        parse(Kind::Audio, &[0xaf, 0, 0x12, 0x10]),
        Ok(Body::Config(Bytes::from_static(&[0x12, 0x10])))
    );
}

#[test]
fn enhanced_with_the_codecs_we_carry() {
    assert_eq!(
        parse(Kind::Video, b"\x90avc1\x01"),
        Ok(Body::Config(Bytes::from_static(&[1])))
    );
    assert_eq!(
        parse(Kind::Video, b"\xa1avc1\x00\x00\x28x"),
        Ok(Body::Media {
            key: false,
            composition: 40,
            data: Bytes::from_static(b"x")
        })
    );
    assert_eq!(
        parse(Kind::Audio, b"\x90mp4a\x12\x10"),
        Ok(Body::Config(Bytes::from_static(&[0x12, 0x10])))
    );
}

#[test]
fn refuses_other_codecs_by_name() {
    assert_eq!(refused(Kind::Video, &[0x22, 0]), "Sorenson H.263");
    assert_eq!(refused(Kind::Video, &[0x1c, 0]), "HEVC");
    assert_eq!(refused(Kind::Video, b"\x90hvc1"), "HEVC (Enhanced RTMP)");
    assert_eq!(refused(Kind::Video, b"\x90av01"), "AV1 (Enhanced RTMP)");
    assert_eq!(
        refused(Kind::Video, b"\x90\x00xyz"),
        r#""\\x00xyz" (Enhanced RTMP)"#
    );
    assert_eq!(refused(Kind::Audio, &[0x2f, 0]), "MP3");
    assert_eq!(refused(Kind::Audio, b"\x90Opus"), "Opus (Enhanced RTMP)");
    assert_eq!(
        parse(Kind::Video, &[0x22]).unwrap_err().to_string(),
        "video codec Sorenson H.263 is not supported; publish H.264 video and AAC audio"
    );
}

proptest! {
    #[test]
    fn round_trip(
        video: bool,
        key: bool,
        ms in 0u64..1 << 40,
        composition in -0x80_0000i64..0x80_0000,
        data in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let (kind, key, composition) = match video {
            true => (Kind::Video, key, composition.max(-(ms as i64))),
            false => (Kind::Audio, true, 0),
        };
        let sample = Sample {
            kind, key,
            timestamp: ms * 1_000,
            composition: composition * 1_000,
            discardable: false,
            config: None,
            data: data.clone().into(),
        };
        let body = sample_body(&sample);
        prop_assert!(!is_config(kind, &body));
        prop_assert_eq!(is_key(&body), video && key);
        prop_assert_eq!(
            Body::parse(kind, body).unwrap(),
            Body::Media { key, composition: composition as i32, data: data.clone().into() }
        );
        let body = config_body(kind, &data);
        prop_assert!(is_config(kind, &body));
        prop_assert_eq!(Body::parse(kind, body).unwrap(), Body::Config(data.into()));
    }

    #[test]
    fn garbage_never_panics(video: bool, body in proptest::collection::vec(any::<u8>(), 0..16)) {
        let kind = if video { Kind::Video } else { Kind::Audio };
        is_config(kind, &body);
        is_key(&body);
        let _ = Body::parse(kind, body.into());
    }
}
