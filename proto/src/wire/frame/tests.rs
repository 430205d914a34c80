use proptest::{collection::vec, prelude::*};

use super::*;

fn header() -> GroupHeader {
    GroupHeader {
        subscription: 5,
        group: 64,
        first_frame: 0,
        timestamp: 1_000_000,
        origin_time: 1 << 50,
        replay: true,
    }
}

fn frame(timestamp: u64, payload: &'static [u8]) -> Frame {
    Frame {
        timestamp,
        flags: Flags {
            key: true,
            discardable: false,
            replay: false,
            layer: 2,
        },
        priority: Priority::VideoKey,
        payload: Bytes::from_static(payload),
    }
}

#[test]
fn golden_bytes() {
    let mut out = BytesMut::new();
    header().encode(&mut out);
    assert_eq!(
        &out[..],
        b"\x01\x05\x40\x40\x00\x80\x0f\x42\x40\xc0\x04\x00\x00\x00\x00\x00\x00\x01"
    );
    out.clear();
    let stamp = Stamp::new(Time::from_micros(16 * 0x0001_0203), 0);
    frame(1_040_000, b"abc").encode_header(1_000_000, stamp, &mut out);
    assert_eq!(&out[..], b"\x51\x01\x02\x03\x80\x01\x38\x80\x03");
}

#[test]
fn a_very_old_frame_never_looks_new() {
    let (sent, arrived) = (Time::from_micros(5), Time::from_micros(40_005));
    for (age, told) in [
        (0, 0),
        (Stamp::MAX_AGE - 16, Stamp::MAX_AGE - 16),
        (Stamp::MAX_AGE, Stamp::MAX_AGE),
        (140_000_000, Stamp::MAX_AGE),
        (u64::MAX, Stamp::MAX_AGE),
    ] {
        let raw = Stamp::new(sent, age).raw_difference(arrived, 40_000);
        let error = raw - 40_000 - told as i64;
        assert!((0..=16).contains(&error), "{age} µs: off by {error} µs");
    }
}

#[test]
fn a_header_is_at_most_12_bytes() {
    let mut out = BytesMut::new();
    let payload = Bytes::from(vec![0; MAX_FRAME]);
    let frame = Frame {
        payload,
        timestamp: 0,
        ..frame(0, b"")
    };
    frame.encode_header(MAX_TIMESTAMP_DELTA, Stamp::new(Time::ZERO, 7), &mut out);
    assert_eq!(out.len(), MAX_FRAME_HEADER);
}

#[test]
fn a_frame_above_the_limit_is_refused() {
    let mut reader = GroupReader::default();
    reader.push(Bytes::from_static(b"\x05\x40\x40\x00\x00\x00\x00"));
    assert!(matches!(reader.poll(), Ok(Some(GroupEvent::Header(_)))));
    reader.push(Bytes::from_static(b"\x00\x00\x00\x00\x00\x80\x10\x00\x01"));
    let refused = reader.poll().unwrap_err();
    assert_eq!(
        refused.to_string(),
        "frame length is 1048577; the limit is 1048576"
    );
}

#[test]
fn a_cut_stream_is_not_whole() {
    let mut reader = GroupReader::default();
    assert!(!reader.is_whole());
    reader.push(Bytes::from_static(b"\x05\x40\x40\x00\x00\x00\x00"));
    reader.poll().unwrap();
    assert!(reader.is_whole());
    reader.push(Bytes::from_static(b"\x00\x00\x00\x00\x00\x02a"));
    assert_eq!(reader.poll(), Ok(None));
    assert!(!reader.is_whole());
}

proptest! {
    #[test]
    fn stamps_are_read_around_the_expected_difference(
        sent in 0u64..1 << 60, age in 0..=Stamp::MAX_AGE, flight in 0i64..10_000_000, offset in -(1i64 << 59)..1 << 59,
    ) {
        // The receiver's clock is `offset` ahead; its epoch is no earlier than ours.
        let sent = sent + (1 << 59);
        let arrived = Time::from_micros((sent as i64 + offset + flight) as u64);
        let raw = Stamp::new(Time::from_micros(sent), age).raw_difference(arrived, offset);
        prop_assert!((0..=16).contains(&(raw - offset - flight - age as i64)));
    }

    #[test]
    fn group_headers_come_back(numbers in proptest::array::uniform5(0u64..1 << 62), replay: bool) {
        let [subscription, group, first_frame, timestamp, origin_time] = numbers;
        let header = GroupHeader { subscription, group, first_frame, timestamp, origin_time, replay };
        let mut out = BytesMut::new();
        header.encode(&mut out);
        prop_assert!(out.len() <= MAX_GROUP_HEADER);
        prop_assert_eq!(GroupHeader::decode(&mut Reader::new(out.freeze().slice(1..))), Ok(header));
    }

    #[test]
    fn streams_come_back_whatever_the_chunks(
        frames in vec((0..MAX_TIMESTAMP_DELTA, vec(any::<u8>(), 0..300), 0u8..4, any::<[bool; 3]>(), 0u8..4), 0..8),
        cuts in vec(1usize..200, 1..20),
    ) {
        let mut out = BytesMut::new();
        header().encode(&mut out);
        let now = Time::from_micros(123_456_789);
        let frames: Vec<Frame> = frames.into_iter().map(|(delta, payload, priority, [key, discardable, replay], layer)| Frame {
            timestamp: header().timestamp + delta,
            flags: Flags { key, discardable, replay, layer },
            priority: Priority::from_bits(priority),
            payload: payload.into(),
        }).collect();
        for frame in &frames {
            frame.encode_header(header().timestamp, Stamp::new(now, 50_000), &mut out);
            out.put_slice(&frame.payload);
        }
        let mut bytes = out.freeze();
        // The stream's type is read by whoever accepts the stream.
        let _ = bytes.split_to(1);
        let mut reader = GroupReader::default();
        let mut events = Vec::new();
        for cut in cuts.iter().cycle() {
            if bytes.is_empty() { break; }
            reader.push(bytes.split_to((*cut).min(bytes.len())));
            while let Some(event) = reader.poll().unwrap() { events.push(event); }
        }
        prop_assert!(reader.is_whole());
        prop_assert_eq!(events.remove(0), GroupEvent::Header(header()));
        prop_assert_eq!(events, frames.into_iter().map(|f| GroupEvent::Frame(f, Stamp::new(now, 50_000))).collect::<Vec<_>>());
    }

    #[test]
    fn ages_survive_clock_offsets_and_wrapping(
        sent in 0u64..1 << 50, age in 0u64..10_000_000, flight in 0u64..2_000_000, offset in -(1i64 << 49)..1 << 49, error in -1_000_000i64..1_000_000,
    ) {
        prop_assume!(sent as i64 + offset > 0);
        let stamp = Stamp::new(Time::from_micros(sent + age), age);
        let arrived = Time::from_micros((sent as i64 + offset) as u64 + age + flight);
        let difference = stamp.raw_difference(arrived, offset + error);
        let expected = offset + (age + flight) as i64;
        prop_assert!((difference - expected).abs() <= Stamp::UNIT as i64, "{difference} for {expected}");
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200)) {
        let mut reader = GroupReader::default();
        reader.push(bytes.into());
        while let Ok(Some(_)) = reader.poll() {}
    }
}
