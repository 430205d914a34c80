//! AMF0: any bytes are answered; what decodes, encodes to something that decodes alike.
#![no_main]
use libfuzzer_sys::fuzz_target;
use longspan_edge::rtmp::amf0::{Value, decode, encode};

fuzz_target!(|data: &[u8]| {
    let Ok(values) = decode(data) else { return };
    for value in &values {
        Value::from_json(&value.to_json());
    }
    // A name that was not UTF-8 may have grown beyond its length field: only what round-trips
    // once must go on doing so. Numbers are compared as text, for NaN is not itself.
    let Ok(again) = decode(&encode(&values)) else { return };
    let thrice = decode(&encode(&again)).expect("it was read before");
    assert_eq!(format!("{again:?}"), format!("{thrice:?}"));
});
