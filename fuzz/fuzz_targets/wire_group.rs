//! A group's stream in chunks of a size that the first byte chooses.
#![no_main]
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use longspan_proto::wire::{GroupReader, MAX_FRAME};

fuzz_target!(|data: &[u8]| {
    let Some((size, data)) = data.split_first() else { return };
    let mut reader = GroupReader::default();
    for chunk in data.chunks(usize::from(*size) + 1) {
        reader.push(Bytes::copy_from_slice(chunk));
        loop {
            match reader.poll() {
                Ok(Some(longspan_proto::wire::GroupEvent::Frame(frame, _))) => assert!(frame.payload.len() <= MAX_FRAME),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
