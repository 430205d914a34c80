//! The room log: any bytes are answered as a packet, an entry and a snapshot; what decodes, encodes to something
//! that decodes alike.
#![no_main]
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use longspan_relay::roomlog::{
    group::Packet,
    machine::{Entry, Machine},
};

fuzz_target!(|data: &[u8]| {
    let data = Bytes::copy_from_slice(data);
    if let Ok(packet) = Packet::decode(data.clone()) {
        assert_eq!(Packet::decode(packet.encode()), Ok(packet));
    }
    if let Ok(entry) = Entry::decode(data.clone()) {
        assert_eq!(Entry::decode(entry.encode()), Ok(entry));
    }
    if let Ok(machine) = Machine::restore(data) {
        let snapshot = machine.snapshot();
        let again = Machine::restore(snapshot.clone()).expect("it was written just now");
        assert_eq!(again.snapshot(), snapshot);
    }
});
