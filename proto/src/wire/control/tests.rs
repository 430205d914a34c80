use proptest::{collection::vec, prelude::*};

use super::*;
use crate::ids::{Room, Stream, Tenant, Track};

fn track() -> TrackId {
    TrackId {
        room: RoomName {
            tenant: Tenant::default_tenant(),
            room: Room::new("r").unwrap(),
        },
        stream: Stream::new("s").unwrap(),
        track: Track::new("video").unwrap(),
        generation: Generation::new(1, 7),
    }
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out.to_vec()
}

fn decoded(bytes: &[u8]) -> Message {
    let (len, at) = crate::wire::codec::peek_varint(bytes).unwrap();
    assert_eq!(bytes.len() - at, len as usize);
    Message::decode(Bytes::copy_from_slice(&bytes[at..]))
        .unwrap()
        .unwrap()
}

/// WIRE.md's examples: a change here is a new version of the format.
#[test]
fn golden_bytes() {
    let node = |n: &str| NodeId::new(n).unwrap();
    for (message, golden) in [
            (
                Message::Hello(Hello {
                    version: 1,
                    min_version: 1,
                    features: 0,
                    node: node("hk-relay-1"),
                    role: Role::Relay,
                    boot: BootId(0x0102_0304_0506_0708),
                    region: Region::new("hk").unwrap(),
                }),
                &b"\x24\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x0ahk-relay-1\x01\x01\x02\x03\x04\x05\x06\x07\x08\x02hk"[..],
            ),
            (
                Message::Subscribe(Subscribe {
                    id: 5,
                    track: track(),
                    path: vec![node("b"), node("c")],
                    crossed: vec![node("a")],
                    start: Start::At(Position { group: 64, frame: 3 }),
                    rate: 1_000_000,
                    budget_ms: 400,
                    ticket: Bytes::new(),
                }),
                b"\x2f\x01\x05\x07default\x01r\x01s\x05video\x00\x01\x00\x00\x00\x00\x00\x07\x02\x01b\x01c\x01\x01a\x01\x40\x40\x03\x80\x0f\x42\x40\x41\x90\x00",
            ),
            (
                Message::Ok(Ok { id: 5, chain: vec![node("c"), node("b")], first: Some(Position { group: 64, frame: 3 }) }),
                b"\x0b\x02\x05\x02\x01c\x01b\x01\x40\x40\x03",
            ),
            (Message::Update(Update { id: 5, chain: vec![node("c")] }), b"\x05\x03\x05\x01\x01c"),
            (
                Message::End(End { id: 5, reason: EndReason::Loop, streams: 64, message: "loop".into() }),
                b"\x0a\x04\x05\x02\x40\x40\x04loop",
            ),
            (Message::Unsubscribe(Unsubscribe { id: 5 }), b"\x02\x05\x05"),
            (Message::GroupDropped(GroupDropped { id: 5, group: 64, from_frame: 2 }), b"\x05\x06\x05\x40\x40\x02"),
            (Message::GoAway { deadline_ms: 400 }, b"\x03\x07\x41\x90"),
        ] {
            assert_eq!(encoded(&message), golden, "{message:?}");
            assert_eq!(decoded(golden), message);
        }
}

#[test]
fn neighbours_one_version_apart_agree_and_two_apart_do_not() {
    let hello = |version, min_version| Hello {
        version,
        min_version,
        features: 0,
        node: NodeId::new("a").unwrap(),
        role: Role::Relay,
        boot: BootId(1),
        region: Region::new("hk").unwrap(),
    };
    for (a, b, agreed) in [
        ((2, 1), (2, 1), Some(2)),
        ((2, 1), (1, 1), Some(1)),
        ((3, 2), (1, 1), None),
    ] {
        assert_eq!(hello(a.0, a.1).agree(&hello(b.0, b.1)), agreed);
        assert_eq!(hello(b.0, b.1).agree(&hello(a.0, a.1)), agreed);
    }
}

#[test]
fn fields_of_a_newer_version_are_passed_over() {
    assert_eq!(
        Message::decode(Bytes::from_static(b"\x05\x05new")),
        Ok(Some(Message::Unsubscribe(Unsubscribe { id: 5 })))
    );
}

#[test]
fn unknown_types_are_skipped_only_in_the_ignorable_range() {
    assert_eq!(
        Message::decode(Bytes::from_static(b"\x40\x40abc")),
        Ok(None)
    );
    let refused = Message::decode(Bytes::from_static(b"\x3f"));
    assert_eq!(
        refused,
        Err(Error::Unknown {
            what: "message type",
            value: 0x3f
        })
    );
}

#[test]
fn limits_are_named() {
    let mut out = BytesMut::new();
    out.put_u8(3);
    out.put_u8(1);
    out.varint(17);
    let refused = Message::decode(out.freeze()).unwrap_err();
    assert_eq!(refused.to_string(), "chain is 17; the limit is 16");
    let long = Message::End(End {
        id: 1,
        reason: EndReason::Limit,
        streams: 0,
        message: "é".repeat(200),
    });
    let Message::End(end) = decoded(&encoded(&long)) else {
        panic!("an end")
    };
    assert_eq!(end.message, "é".repeat(128));
}

fn names() -> impl Strategy<Value = Vec<NodeId>> {
    vec(
        "[a-z0-9-]{1,63}".prop_map(|n| NodeId::new(&n).unwrap()),
        0..=MAX_PATH,
    )
}

fn position() -> impl Strategy<Value = Position> {
    (0..1u64 << 62, 0..1u64 << 62).prop_map(|(group, frame)| Position { group, frame })
}

proptest! {
    #[test]
    fn subscriptions_come_back(
        id in 0..1u64 << 62, generation: u64, path in names(), crossed in names(),
        start in prop_oneof![Just(Start::Latest), position().prop_map(Start::At)],
        rate in 0..1u64 << 62, budget_ms: u32, ticket in vec(any::<u8>(), 0..=MAX_TICKET),
    ) {
        let track = TrackId { generation: Generation(generation), ..track() };
        let message = Message::Subscribe(Subscribe { id, track, path, crossed, start, rate, budget_ms, ticket: ticket.into() });
        prop_assert_eq!(decoded(&encoded(&message)), message);
    }

    #[test]
    fn answers_come_back(id in 0..1u64 << 62, chain in names(), first in proptest::option::of(position()), code in 0u8..=10, streams in 0..1u64 << 62, text in ".{0,60}") {
        for message in [
            Message::Ok(Ok { id, chain: chain.clone(), first }),
            Message::Update(Update { id, chain: chain.clone() }),
            Message::End(End { id, reason: EndReason::from_code(code).unwrap(), streams, message: text.clone() }),
        ] {
            prop_assert_eq!(decoded(&encoded(&message)), message);
        }
    }

    #[test]
    fn the_others_come_back(
        version: u16, min_version: u16, features: u64, name in "[a-z0-9-]{1,63}", edge: bool, boot: u64,
        id in 0..1u64 << 62, at in position(), deadline_ms: u32,
    ) {
        for message in [
            Message::Hello(Hello {
                version,
                min_version,
                features,
                node: NodeId::new(&name).unwrap(),
                role: if edge { Role::Edge } else { Role::Relay },
                boot: BootId(boot),
                region: Region::new(&name).unwrap(),
            }),
            Message::Unsubscribe(Unsubscribe { id }),
            Message::GroupDropped(GroupDropped { id, group: at.group, from_frame: at.frame }),
            Message::GoAway { deadline_ms },
        ] {
            prop_assert_eq!(decoded(&encoded(&message)), message);
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Message::decode(bytes.into());
    }
}
