use ciborium::{Value as Cbor, cbor};
use longspan_proto::{
    ids::{Room, RoomName, SessionId, Tenant},
    wire::envelope::{Class, Envelope, MAX_BODY},
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value as Json, json};

use super::*;

fn json(text: &str) -> String {
    match decode(Encoding::Json, text.as_bytes()) {
        Ok(message) => format!("{message:?}"),
        Err(e) => {
            let n = e.n.map_or(String::new(), |n| format!(" n {n}"));
            let limit = e.limit.map_or(String::new(), |l| format!(" limit {l}"));
            format!("{}{n}{limit}: {}", e.slug, e.message)
        }
    }
}

fn to_cbor(value: &Json) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).unwrap();
    out
}

const SESSION: &str = "000102030405060708090a0b0c0d0e0f";

#[test]
fn what_is_wrong_is_named() {
    let cases = [
        (
            "{",
            "invalid: not a message in JSON: EOF while parsing an object at line 1 column 1",
        ),
        ("[]", "invalid: not a message: not an object in JSON"),
        (
            r#"["ping"]"#,
            "invalid: not a message: not an object in JSON",
        ),
        (
            r#"{"n":1}"#,
            "invalid: not a message in JSON: missing field `t` at line 1 column 7",
        ),
        (
            r#"{"t":"sing","n":4}"#,
            r#"unknown_type n 4: t is "sing"; hello, pub and ping are known"#,
        ),
        (
            r#"{"t":"ping","x":1}"#,
            "invalid: not a message in JSON: unknown field `x`, expected `t` at line 1 column 15",
        ),
        (
            r#"{"t":"hello","session":"12"}"#,
            "invalid_session: session is to be 128 random bits as 32 hexadecimal digits",
        ),
        (
            r#"{"t":"hello","session":"+00102030405060708090a0b0c0d0e0f"}"#,
            "invalid_session: session is to be 128 random bits as 32 hexadecimal digits",
        ),
        (
            r#"{"t":"pub","n":3,"topic":"a"}"#,
            "invalid n 3: not a message in JSON: missing field `class` at line 1 column 29",
        ),
        (
            r#"{"t":"pub","n":3,"class":"loud","topic":"a"}"#,
            r#"wrong_class n 3: class is "loud"; log, state and ephemeral are known"#,
        ),
        (
            r#"{"t":"pub","n":3,"class":"state","topic":"a"}"#,
            "wrong_class n 3: class state needs a key",
        ),
        (
            r#"{"t":"pub","n":3,"class":"log","key":"k","topic":"a"}"#,
            "wrong_class n 3: class log takes no key",
        ),
        (
            r#"{"t":"pub","n":3,"class":"ephemeral","if":1,"topic":"a"}"#,
            "wrong_class n 3: if needs class state",
        ),
        (
            r#"{"t":"pub","n":-3,"class":"log","topic":"a"}"#,
            "invalid: not a message in JSON: invalid value: integer `-3`, expected u64 at line 1 column 17",
        ),
        (
            r#"{"t":"pub","n":9007199254740992,"class":"log","topic":"a"}"#,
            "invalid limit 9007199254740991: n and if are at most 9007199254740991",
        ),
        (
            r#"{"t":"pub","n":3,"class":"log","topic":"a","mood":"b"}"#,
            "invalid n 3: not a message in JSON: unknown field `mood`, expected one of `t`, `n`, `class`, `topic`, `key`, `if`, `body` at line 1 column 49",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(json(text), want, "{text}");
    }
}

#[test]
fn sizes_are_bounded_and_the_number_is_still_read() {
    let publish = |body: usize| {
        let body = "x".repeat(body);
        json(&format!(
            r#"{{"t":"pub","class":"log","topic":"a","body":"{body}","n":3}}"#
        ))
    };
    // CBOR's text header takes 3 bytes here.
    assert!(publish(MAX_BODY - 3).starts_with("Publish"));
    assert_eq!(
        publish(MAX_BODY - 2),
        "too_long n 3 limit 16384: body (as CBOR) has 16385 bytes; the limit is 16384"
    );
    assert_eq!(
        publish(500_000),
        "too_long n 3 limit 102400: the message has 500053 bytes; the limit is 102400"
    );
    let long = |field: &str| {
        let text = "k".repeat(129);
        json(&format!(
            r#"{{"t":"pub","n":3,"class":"state","topic":"a","{field}":"{text}"}}"#
        ))
    };
    assert_eq!(
        long("key"),
        "too_long n 3 limit 128: key has 129 bytes; the limit is 128"
    );
}

#[test]
fn a_null_body_deletes_state_and_is_a_value_elsewhere() {
    let publish = |text: &str| match decode(Encoding::Json, text.as_bytes()) {
        Ok(Incoming::Publish(publish)) => publish,
        other => panic!("{other:?}"),
    };
    let state = publish(r#"{"t":"pub","n":1,"class":"state","topic":"a","key":"k","body":null}"#);
    assert!(state.body.is_empty());
    let log = publish(r#"{"t":"pub","n":1,"class":"log","topic":"a"}"#);
    assert_eq!(&log.body[..], b"\xf6");
}

#[test]
fn what_json_cannot_say_is_refused_in_cbor() {
    let refused = |body: Cbor| {
        let mut out = Vec::new();
        let message =
            cbor!({"t" => "pub", "n" => 1, "class" => "log", "topic" => "a", "body" => body});
        ciborium::into_writer(&message.unwrap(), &mut out).unwrap();
        decode(Encoding::Cbor, &out).unwrap_err().message
    };
    let map = Cbor::Map(vec![(Cbor::from(1), Cbor::from(2))]);
    assert_eq!(refused(map), "body has a map key that is not text");
    let tag = Cbor::Tag(0, Box::new(Cbor::from("2026-01-01T00:00:00Z")));
    assert_eq!(refused(Cbor::Array(vec![tag])), "body has a CBOR tag");
    let infinite = Cbor::Float(f64::INFINITY);
    assert_eq!(refused(infinite), "body has a number that is not finite");
    let deep = (0..101).fold(Cbor::Null, |inner, _| Cbor::Array(vec![inner]));
    assert_eq!(refused(deep), "body is nested more than 100 deep");
    let deeper = (0..300).fold(Cbor::Null, |inner, _| Cbor::Array(vec![inner]));
    assert_eq!(
        refused(deeper),
        "not a message in CBOR: it is nested too deep"
    );
}

#[test]
fn cbor_that_is_not_one_whole_message_is_refused() {
    let whole = to_cbor(&json!({"t": "ping"}));
    let message = |bytes: &[u8]| decode(Encoding::Cbor, bytes).unwrap_err().message;
    assert_eq!(
        message(&whole[..whole.len() - 1]),
        "not a message in CBOR: it ends early"
    );
    let two = [&whole[..], &whole].concat();
    assert_eq!(
        message(&two),
        format!("not a message in CBOR: {} bytes follow it", whole.len())
    );
    // A text of one byte that is not UTF-8.
    assert_eq!(
        message(b"\xa1\x61\xff\x01"),
        "not a message in CBOR: byte 1 is out of place"
    );
}

fn event(body: &Body) -> Event {
    Event::new(Envelope {
        room: RoomName {
            tenant: Tenant::default_tenant(),
            room: Room::new("math").unwrap(),
        },
        session: SessionId([1; 16]),
        n: 1,
        class: Class::Log,
        topic: "chat".into(),
        key: None,
        expected: None,
        revision: 0,
        from: "m1".into(),
        recipient: None,
        at: 1_700_000_000_000,
        seq: 5,
        body: body.to_bytes(),
    })
}

#[test]
fn bytes_reach_json_members_as_base64url() {
    let body: Body = ciborium::from_reader(&b"\x82\x42\xfb\xff\x01"[..]).unwrap();
    let text = event(&body).written(Encoding::Json).clone();
    let want = r#"{"t":"ev","seq":5,"from":"m1","at":1700000000000,"class":"log","topic":"chat","body":["-_8",1]}"#;
    assert_eq!(text, want.as_bytes());
    let cbor: Cbor = ciborium::from_reader(&event(&body).written(Encoding::Cbor)[..]).unwrap();
    let (_, body) = cbor.as_map().unwrap().last().unwrap();
    assert_eq!(body.as_array().unwrap()[0], Cbor::Bytes(vec![0xfb, 0xff]));
}

#[test]
fn a_batch_is_one_message_in_both_encodings() {
    let events: Vec<_> = (0..3)
        .map(|i| std::sync::Arc::new(event(&serde_json::from_str(&i.to_string()).unwrap())))
        .collect();
    let from_json: Json = serde_json::from_slice(&batch(Encoding::Json, &events, 0)).unwrap();
    let from_cbor: Json = ciborium::from_reader(&batch(Encoding::Cbor, &events, 0)[..]).unwrap();
    assert_eq!(from_json, from_cbor);
    assert_eq!(from_json["evs"].as_array().unwrap().len(), 3);
    assert_eq!(from_json["evs"][2]["body"], 2);
    let one: Json = serde_json::from_slice(&batch(Encoding::Json, &events[..1], 0)).unwrap();
    assert_eq!(one["t"], "ev");
    // What was left out is told, also before a single one.
    for (events, skipped) in [(&events[..1], 1), (&events[..], 1_000)] {
        let json: Json = serde_json::from_slice(&batch(Encoding::Json, events, skipped)).unwrap();
        let cbor = batch(Encoding::Cbor, events, skipped);
        assert_eq!(json, ciborium::from_reader::<Json, _>(&cbor[..]).unwrap());
        assert_eq!(
            (&json["t"], &json["skipped"]),
            (&"evs".into(), &skipped.into())
        );
        assert_eq!(json["evs"].as_array().unwrap().len(), events.len());
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        (-1e300f64..1e300).prop_map(Json::from),
        ".{0,20}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Json::from),
            prop::collection::btree_map(".{0,8}", inner, 0..5)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    /// The same message means the same in both encodings, and a body comes back as it went.
    #[test]
    fn json_and_cbor_are_one(body in any_json(), n in 1u64..=MAX_NUMBER, class in 0usize..3, topic in ".{0,16}", resume in 0u64..=MAX_NUMBER) {
        let name = ["log", "state", "ephemeral"][class];
        let mut publish = json!({"t": "pub", "n": n, "class": name, "topic": topic, "body": body});
        if class == 1 {
            publish["key"] = "k".into();
            publish["if"] = n.into();
        }
        for message in [publish, json!({"t": "hello", "session": SESSION, "resume": {"seq": resume}}), json!({"t": "ping"})] {
            let a = decode(Encoding::Json, message.to_string().as_bytes());
            let b = decode(Encoding::Cbor, &to_cbor(&message));
            prop_assert!(a.is_ok(), "{a:?}");
            prop_assert_eq!(a, b);
        }
        let event = event(&serde_json::from_value(body.clone()).unwrap());
        let from_json: Json = serde_json::from_slice(event.written(Encoding::Json)).unwrap();
        let from_cbor: Json = ciborium::from_reader(&event.written(Encoding::Cbor)[..]).unwrap();
        prop_assert_eq!(&from_json, &from_cbor);
        prop_assert_eq!(&from_json["body"], &body);
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(Encoding::Json, &bytes);
        let _ = decode(Encoding::Cbor, &bytes);
    }
}
