use proptest::prelude::*;

use super::*;

#[test]
fn golden() {
    let values = [
        Value::string("connect"),
        Value::Number(1.0),
        Value::object([("app", Value::string("live")), ("x", Value::Boolean(true))]),
        Value::Null,
    ];
    let bytes = b"\x02\x00\x07connect\x00\x3f\xf0\0\0\0\0\0\0\
        \x03\x00\x03app\x02\x00\x04live\x00\x01x\x01\x01\x00\x00\x09\x05";
    assert_eq!(encode(&values), &bytes[..]);
    assert_eq!(decode(bytes).unwrap(), values);
    assert_eq!(values[2].get("app").and_then(Value::as_str), Some("live"));
}

#[test]
fn reads_what_it_does_not_write() {
    let typed = b"\x10\x00\x01T\x00\x01a\x05\x00\x00\x09";
    assert_eq!(
        decode(typed).unwrap(),
        [Value::object([("a", Value::Null)])]
    );
    // An ECMA array whose count lies.
    let array = b"\x08\xff\xff\xff\xff\x00\x01a\x05\x00\x00\x09";
    assert_eq!(
        decode(array).unwrap(),
        [Value::EcmaArray(vec![("a".into(), Value::Null)])]
    );
    assert_eq!(
        decode(b"\x02\x00\x01\xff").unwrap(),
        [Value::string("\u{fffd}")]
    );
}

#[test]
fn refuses_by_name() {
    assert_eq!(decode(&[0x11]), Err(Error::Marker(0x11)));
    assert_eq!(
        Error::Marker(0x11).to_string(),
        "AMF0 type 0x11 (AMF3) is not supported"
    );
    assert_eq!(decode(&[0, 1]), Err(Error::Truncated("a number")));
    let nest = |depth| [10, 0, 0, 0, 1].repeat(depth);
    assert_eq!(decode(&nest(MAX_DEPTH)), Err(Error::Truncated("a type")));
    assert_eq!(decode(&nest(MAX_DEPTH + 1)), Err(Error::Depth));
    assert!(decode(&[NULL; MAX_VALUES]).is_ok());
    assert_eq!(decode(&[NULL; MAX_VALUES + 1]), Err(Error::Values));
}

#[test]
fn a_long_string_round_trips() {
    let values = [Value::String("é".repeat(40_000))];
    assert_eq!(decode(&encode(&values)).unwrap(), values);
}

#[test]
fn json() {
    let value = Value::EcmaArray(vec![
        ("width".into(), Value::Number(1280.0)),
        ("framerate".into(), Value::Number(29.97)),
        ("nan".into(), Value::Number(f64::NAN)),
    ]);
    let json = serde_json::json!({"width": 1280, "framerate": 29.97, "nan": null});
    assert_eq!(value.to_json(), json);
    assert_eq!(
        Value::from_json(&json).get("width"),
        Some(&Value::Number(1280.0))
    );
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(|n| Value::Number(f64::from(n))),
        any::<bool>().prop_map(Value::Boolean),
        ".{0,9}".prop_map(Value::String),
        Just(Value::Null),
        Just(Value::Undefined),
        any::<i32>().prop_map(|n| Value::Date(f64::from(n))),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        // An empty name before an object end marker cannot be told from the end.
        let members = proptest::collection::vec((".{1,5}", inner.clone()), 0..4);
        prop_oneof![
            members.clone().prop_map(Value::Object),
            members.prop_map(Value::EcmaArray),
            proptest::collection::vec(inner, 0..4).prop_map(Value::StrictArray),
        ]
    })
}

proptest! {
    #[test]
    fn round_trip(values in proptest::collection::vec(value(), 0..4)) {
        prop_assert_eq!(decode(&encode(&values)).unwrap(), values);
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }
}
