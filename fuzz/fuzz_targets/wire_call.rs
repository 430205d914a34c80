//! Openings and replies of calls.
#![no_main]
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use longspan_proto::wire::call::{CALL_STREAM, MAX_OPEN, MessageReader, Open, Reply};

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    let _ = Reply::decode(bytes.clone());
    let Ok(open) = Open::decode(bytes) else { return };
    let mut out = BytesMut::new();
    open.encode(&mut out);
    assert_eq!(u64::from(out[0]), CALL_STREAM);
    let mut reader = MessageReader::new("opening", MAX_OPEN);
    reader.push(&out[1..]);
    assert_eq!(Open::decode(reader.poll().expect("within limits").expect("whole")), Ok(open));
});
