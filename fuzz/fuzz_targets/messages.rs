//! What members say, in both encodings (the first byte chooses): any bytes are answered, a body is within its
//! limit and comes back as it went, and a refusal says why.
#![no_main]
use libfuzzer_sys::fuzz_target;
use longspan_edge::messages::wire::{Body, Encoding, Incoming, decode};

fuzz_target!(|data: &[u8]| {
    let Some((first, said)) = data.split_first() else { return };
    let encoding = match first & 1 {
        0 => Encoding::Json,
        _ => Encoding::Cbor,
    };
    match decode(encoding, said) {
        Ok(Incoming::Publish(publish)) => {
            assert!(publish.body.len() <= 16 << 10);
            if !publish.body.is_empty() {
                assert_eq!(Body::from_bytes(&publish.body).to_bytes(), publish.body);
            }
        }
        Ok(_) => {}
        Err(invalid) => assert!(!invalid.message.is_empty() && !invalid.slug.is_empty()),
    }
});
