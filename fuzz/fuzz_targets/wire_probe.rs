//! Probes. The input is what the tag covers: a target that had to guess the tag would read nothing.
#![no_main]
use aws_lc_rs::hmac;
use libfuzzer_sys::fuzz_target;
use longspan_proto::wire::probe::{Key, Probe, TAG_LEN};

fuzz_target!(|body: &[u8]| {
    let key = [7; 32];
    let _ = Probe::decode(body, &Key::new(&key));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), body);
    let datagram = [body, &tag.as_ref()[..TAG_LEN]].concat();
    let Ok(probe) = Probe::decode(&datagram, &Key::new(&key)) else { return };
    assert_eq!(Probe::decode(&probe.encode(&Key::new(&key)), &Key::new(&key)), Ok(probe));
});
