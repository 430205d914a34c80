//! Control messages: any bytes are answered; what decodes, encodes to something that decodes alike.
#![no_main]
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use longspan_proto::wire::{Message, call::MessageReader, MAX_MESSAGE};

fuzz_target!(|data: &[u8]| {
    let Ok(Some(message)) = Message::decode(Bytes::copy_from_slice(data)) else { return };
    let mut out = BytesMut::new();
    message.encode(&mut out);
    let mut reader = MessageReader::new("message", MAX_MESSAGE);
    reader.push(&out);
    let body = reader.poll().expect("within limits").expect("whole");
    assert_eq!(Message::decode(body), Ok(Some(message)));
});
