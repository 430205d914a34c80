//! Whatever may arrive as a datagram or a ticket: probes, fragments, tickets.
#![no_main]
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use longspan_proto::wire::{fragment::Fragment, probe, ticket::Ticket};

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    let _ = probe::Probe::decode(data, &probe::Key::new(&[0; 32]));
    let _ = Ticket::verify(bytes.clone(), &[0; 32]);
    let Ok(fragment) = Fragment::decode(bytes) else { return };
    let mut out = BytesMut::new();
    fragment.encode(&mut out);
    assert_eq!(Fragment::decode(out.freeze()), Ok(fragment));
});
