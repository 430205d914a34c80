//! Tickets. The input is what is signed: a target that had to guess the signature would read nothing.
#![no_main]
use aws_lc_rs::signature::Ed25519KeyPair;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use longspan_proto::wire::ticket::{Ticket, public_key};

fuzz_target!(|body: &[u8]| {
    let key = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).expect("32 bytes");
    let public = public_key(&key);
    let _ = Ticket::verify(Bytes::copy_from_slice(body), &public);
    let signed = [body, key.sign(body).as_ref()].concat();
    let Ok(ticket) = Ticket::verify(signed.into(), &public) else { return };
    assert_eq!(Ticket::verify(ticket.sign(&key), &public), Ok(ticket));
});
