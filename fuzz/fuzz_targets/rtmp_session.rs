//! An RTMP client's bytes behind the handshake. The first byte says whether it is accepted, the
//! second how the bytes are split; the split must make no difference.
#![no_main]
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use longspan_edge::rtmp::{Error, Event, Input, Output, Session};

fn run(data: &[u8], accept: bool, step: usize) -> (Vec<Event>, Result<(), Error>) {
    let mut session = Session::new(1);
    let hello = [&[3][..], &[0; 1536], &[0; 1536]].concat();
    session.handle(Input::Bytes(hello.into())).expect("a handshake");
    let mut events = Vec::new();
    for part in data.chunks(step) {
        let result = session.handle(Input::Bytes(Bytes::copy_from_slice(part)));
        let mut asked = false;
        while let Some(output) = session.poll_output() {
            if let Output::Event(event) = output {
                asked |= matches!(event, Event::Publish(_) | Event::Play(_));
                events.push(event);
            }
        }
        if result.is_err() {
            return (events, result);
        }
        if asked {
            let answer = if accept {
                Input::Accept
            } else {
                Input::Reject { code: "NetStream.Publish.BadName", description: "no".into() }
            };
            session.handle(answer).expect("an answer is no error");
        }
    }
    (events, Ok(()))
}

fuzz_target!(|data: &[u8]| {
    let [accept, step, data @ ..] = data else { return };
    if *accept & 1 == 0 {
        let _ = run(data, false, usize::from(*step) + 1);
        return;
    }
    let split = run(data, true, usize::from(*step) + 1);
    assert_eq!(split, run(data, true, data.len().max(1)));
});
