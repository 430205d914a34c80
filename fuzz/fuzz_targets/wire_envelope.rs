//! Message envelopes.
#![no_main]
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use longspan_proto::wire::envelope::Envelope;

fuzz_target!(|data: &[u8]| {
    let Ok(envelope) = Envelope::decode(Bytes::copy_from_slice(data)) else { return };
    let mut out = BytesMut::new();
    envelope.encode(&mut out);
    assert_eq!(Envelope::decode(out.freeze()), Ok(envelope));
});
