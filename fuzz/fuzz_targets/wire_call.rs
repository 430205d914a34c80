//! Openings and replies of calls, and what groups say when a room moves.
#![no_main]
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use longspan_proto::wire::{
    call::{CALL_STREAM, MAX_OPEN, MessageReader, Open, Reply},
    moving::{Arrived, Carry},
    room::Lead,
};

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    let _ = Reply::decode(bytes.clone());
    let _ = Arrived::decode(bytes.clone());
    if let Ok(carry) = Carry::decode(bytes.clone()) {
        let mut out = BytesMut::new();
        carry.encode(&mut out);
        assert_eq!(Carry::decode(out.freeze()), Ok(carry));
    }
    if let Ok(Some(lead)) = Lead::decode(bytes.clone()) {
        let mut out = BytesMut::new();
        lead.encode(&mut out);
        assert_eq!(Lead::decode(out.freeze()), Ok(Some(lead)));
    }
    let Ok(open) = Open::decode(bytes) else { return };
    let mut out = BytesMut::new();
    open.encode(&mut out);
    assert_eq!(u64::from(out[0]), CALL_STREAM);
    let mut reader = MessageReader::new("opening", MAX_OPEN);
    reader.push(&out[1..]);
    assert_eq!(Open::decode(reader.poll().expect("within limits").expect("whole")), Ok(open));
});
