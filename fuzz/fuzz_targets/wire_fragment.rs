//! Fragments.
#![no_main]
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use longspan_proto::wire::fragment::Fragment;

fuzz_target!(|data: &[u8]| {
    let Ok(fragment) = Fragment::decode(Bytes::copy_from_slice(data)) else { return };
    let mut out = BytesMut::new();
    fragment.encode(&mut out);
    assert_eq!(Fragment::decode(out.freeze()), Ok(fragment));
});
