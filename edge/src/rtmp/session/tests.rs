use proptest::prelude::*;

use super::*;
use crate::rtmp::{Target, amf0::Value};

/// A client: writes messages, reads what it is answered.
struct Client {
    session: Session,
    reader: chunk::Reader,
    chunk_size: usize,
    /// How many bytes the session is fed at once.
    step: usize,
    messages: Vec<Message>,
    events: Vec<Event>,
    greeted: bool,
    buffer: Vec<u8>,
}

impl Client {
    fn new(step: usize) -> Client {
        let mut client = Client {
            session: Session::new(1),
            reader: chunk::Reader::default(),
            chunk_size: chunk::DEFAULT_CHUNK_SIZE,
            step,
            messages: Vec::new(),
            events: Vec::new(),
            greeted: false,
            buffer: Vec::new(),
        };
        let hello = [&[3][..], &[0; 1536], &[0; 1536]].concat();
        client.feed(&hello).unwrap();
        client
    }

    /// Connected, with message stream 1.
    fn connected(step: usize) -> Client {
        let mut client = Client::new(step);
        let object = Value::object([
            ("app", Value::string("live")),
            ("flashVer", Value::string("test")),
            ("tcUrl", Value::string("rtmp://h/live")),
        ]);
        client.command("connect", 1.0, &[object]).unwrap();
        client.command("createStream", 2.0, &[Value::Null]).unwrap();
        client
    }

    fn publishing(step: usize) -> Client {
        let mut client = Client::connected(step);
        let arguments = [Value::Null, Value::string("a/b"), Value::string("live")];
        client.command("publish", 3.0, &arguments).unwrap();
        client.session.handle(Input::Accept).unwrap();
        client.drain();
        client
    }

    fn playing() -> Client {
        let mut client = Client::connected(4096);
        let arguments = [Value::Null, Value::string("a/b"), Value::Number(-2.0)];
        client.command("play", 3.0, &arguments).unwrap();
        client.session.handle(Input::Accept).unwrap();
        client.drain();
        client
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut result = Ok(());
        for part in bytes.chunks(self.step) {
            result = self
                .session
                .handle(Input::Bytes(Bytes::copy_from_slice(part)));
            self.drain();
            if result.is_err() {
                break;
            }
        }
        result
    }

    fn drain(&mut self) {
        const GREETING: usize = 1 + 2 * 1536;
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(bytes) => self.buffer.extend_from_slice(&bytes),
                Output::Event(event) => self.events.push(event),
            }
        }
        if !self.greeted && self.buffer.len() >= GREETING {
            self.buffer.drain(..GREETING);
            self.greeted = true;
        }
        self.reader.push(&std::mem::take(&mut self.buffer));
        while let Some(message) = self.reader.next_message().unwrap() {
            if message.kind == message_type::SET_CHUNK_SIZE {
                let size = leading_u32(&message).unwrap();
                self.reader.set_chunk_size(size).unwrap();
            }
            self.messages.push(message);
        }
    }

    fn send(&mut self, kind: u8, timestamp: u32, payload: &[u8]) -> Result<(), Error> {
        let message = Message {
            chunk_stream: 4,
            timestamp,
            kind,
            stream: 1,
            payload: Bytes::copy_from_slice(payload),
        };
        let mut bytes = Vec::new();
        chunk::write(&message, self.chunk_size, |part| {
            bytes.extend_from_slice(&part)
        });
        self.feed(&bytes)
    }

    fn command(&mut self, name: &str, transaction: f64, rest: &[Value]) -> Result<(), Error> {
        let mut values = vec![Value::string(name), Value::Number(transaction)];
        values.extend_from_slice(rest);
        self.send(message_type::COMMAND, 0, &amf0::encode(&values))
    }

    /// The commands it was sent so far, each by name and what matters of it.
    fn told(&self) -> Vec<String> {
        let commands = self
            .messages
            .iter()
            .filter(|m| m.kind == message_type::COMMAND);
        commands
            .map(|message| {
                let values = amf0::decode(&message.payload).unwrap();
                let name = values[0].as_str().unwrap();
                let last = values.last().unwrap();
                match last.get("code").and_then(Value::as_str) {
                    Some(code) => format!("{name} {code}"),
                    None => format!("{name} {}", last.to_json()),
                }
            })
            .collect()
    }

    fn description(&self) -> String {
        let last = self.messages.last().unwrap();
        let values = amf0::decode(&last.payload).unwrap();
        let description = values.last().unwrap().get("description");
        description.and_then(Value::as_str).unwrap().to_owned()
    }
}

fn target() -> Target {
    Target {
        app: "live".into(),
        key: "a/b".into(),
        tc_url: "rtmp://h/live".into(),
        client: "test".into(),
    }
}

#[test]
fn a_publisher_however_its_bytes_are_split() {
    for step in [1, 3, 127, 128, 4096] {
        let mut client = Client::publishing(step);
        assert_eq!(
            client.told(),
            [
                "_result NetConnection.Connect.Success",
                "_result 1",
                "onStatus NetStream.Publish.Start"
            ]
        );
        let metadata = amf0::encode(&[
            Value::string("@setDataFrame"),
            Value::string("onMetaData"),
            Value::EcmaArray(vec![("width".into(), Value::Number(1280.0))]),
        ]);
        client.send(message_type::DATA, 0, &metadata).unwrap();
        // As librtmp does: a larger chunk size, then a message longer than the default one.
        let size = 4096u32.to_be_bytes();
        client.send(message_type::SET_CHUNK_SIZE, 0, &size).unwrap();
        client.chunk_size = 4096;
        client.send(message_type::VIDEO, 40, &[7; 5000]).unwrap();
        client.send(message_type::AUDIO, 41, &[8]).unwrap();
        let last = [Value::Null, Value::Number(1.0)];
        client.command("FCUnpublish", 4.0, &last).unwrap();
        client.command("deleteStream", 5.0, &last).unwrap();
        let media = |kind, timestamp, body: &'static [u8]| Event::Media {
            kind,
            timestamp,
            body: Bytes::from_static(body),
        };
        let metadata = serde_json::json!({"width": 1280});
        assert_eq!(
            client.events,
            [
                Event::Publish(target()),
                Event::Metadata(metadata.as_object().unwrap().clone()),
                media(Kind::Video, 40, &[7; 5000]),
                media(Kind::Audio, 41, &[8]),
                Event::Closed,
            ]
        );
    }
}

#[test]
fn a_rejected_publisher_hears_why() {
    let mut client = Client::connected(4096);
    let arguments = [Value::Null, Value::string("a/b"), Value::string("live")];
    client.command("publish", 3.0, &arguments).unwrap();
    let reject = Input::Reject {
        code: "NetStream.Publish.BadName",
        description: "a/b is being published by another identity".into(),
    };
    client.session.handle(reject).unwrap();
    client.drain();
    assert_eq!(client.told()[2], "onStatus NetStream.Publish.BadName");
    assert_eq!(
        client.description(),
        "a/b is being published by another identity"
    );
    assert_eq!(client.events.last(), Some(&Event::Closed));
    // Nothing it says after that matters.
    client.send(message_type::VIDEO, 0, &[1]).unwrap();
    assert_eq!(client.events.last(), Some(&Event::Closed));
}

#[test]
fn a_player() {
    let mut client = Client::playing();
    let metadata = serde_json::json!({"width": 1280});
    let metadata = metadata.as_object().unwrap().clone();
    client.session.handle(Input::Metadata(metadata)).unwrap();
    let body = Bytes::from(vec![0x17; 200_000]);
    let media = Input::Media {
        kind: Kind::Video,
        timestamp: 0x0100_0000,
        body: body.clone(),
    };
    client.session.handle(media).unwrap();
    client.session.handle(Input::End).unwrap();
    client.drain();
    assert_eq!(
        client.told()[2..],
        [
            "onStatus NetStream.Play.Reset",
            "onStatus NetStream.Play.Start",
            "onStatus NetStream.Play.UnpublishNotify"
        ]
    );
    let video = client
        .messages
        .iter()
        .find(|m| m.kind == message_type::VIDEO);
    let video = video.unwrap();
    assert_eq!((video.timestamp, video.stream), (0x0100_0000, 1));
    assert_eq!(video.payload, body);
    let data = client
        .messages
        .iter()
        .rev()
        .find(|m| m.kind == message_type::DATA);
    assert_eq!(
        amf0::decode(&data.unwrap().payload).unwrap()[1].get("width"),
        Some(&Value::Number(1280.0))
    );
    assert_eq!(client.events, [Event::Play(target()), Event::Closed]);
}

#[test]
fn a_paused_player_goes_on_at_a_key_frame() {
    let mut client = Client::playing();
    let play = |client: &mut Client, kind, body: &'static [u8]| {
        let before = client.messages.len();
        let media = Input::Media {
            kind,
            timestamp: 0,
            body: Bytes::from_static(body),
        };
        client.session.handle(media).unwrap();
        client.drain();
        client.messages.len() > before
    };
    let (key, delta, config) = (&[0x17, 1, 0][..], &[0x27, 1, 0][..], &[0x17, 0, 0][..]);
    assert!(play(&mut client, Kind::Video, delta));
    let pause = |pause| [Value::Null, Value::Boolean(pause), Value::Number(0.0)];
    client.command("pause", 0.0, &pause(true)).unwrap();
    assert!(!play(&mut client, Kind::Video, key));
    assert!(!play(&mut client, Kind::Audio, &[0xaf, 1]));
    assert!(play(&mut client, Kind::Video, config));
    client.command("pause", 0.0, &pause(false)).unwrap();
    assert!(play(&mut client, Kind::Audio, &[0xaf, 1]));
    assert!(!play(&mut client, Kind::Video, delta));
    assert!(play(&mut client, Kind::Video, key));
    assert!(play(&mut client, Kind::Video, delta));
    let none = [Value::Null, Value::Boolean(false)];
    client.command("receiveAudio", 0.0, &none).unwrap();
    assert!(!play(&mut client, Kind::Audio, &[0xaf, 1]));
}

#[test]
fn courtesies_and_unknown_commands_are_answered() {
    let mut client = Client::connected(4096);
    for name in [
        "releaseStream",
        "FCPublish",
        "_checkbw",
        "getStreamLength",
        "levitate",
    ] {
        client.command(name, 9.0, &[Value::Null]).unwrap();
    }
    assert_eq!(
        client.told()[2..],
        [
            "_result null",
            "_result null",
            "_result null",
            "_result 0",
            "_error NetConnection.Call.Failed"
        ]
    );
}

#[test]
fn pings_and_acknowledgements() {
    let mut client = Client::connected(4096);
    let ping = [0, 6, 1, 2, 3, 4];
    client.send(message_type::USER_CONTROL, 0, &ping).unwrap();
    let pong = client.messages.last().unwrap();
    assert_eq!(pong.payload, [0, 7, 1, 2, 3, 4][..]);
    let window = 1_000u32.to_be_bytes();
    client.send(message_type::WINDOW_SIZE, 0, &window).unwrap();
    client.messages.clear();
    client.send(message_type::AUDIO, 0, &[0; 1_000]).unwrap();
    let acknowledgement = client.messages.last().unwrap();
    assert_eq!(acknowledgement.kind, message_type::ACKNOWLEDGEMENT);
    assert_eq!(
        leading_u32(acknowledgement),
        Ok(client.session.received as u32)
    );
}

#[test]
fn aggregates_are_taken_apart() {
    let mut client = Client::publishing(4096);
    let tag = |kind: u8, timestamp: u8, body: u8| {
        let header = [kind, 0, 0, 1, 0, 0, timestamp, 0, 0, 0, 0];
        [&header[..], &[body], &[0, 0, 0, 12]].concat()
    };
    let aggregate = [tag(8, 100, 1), tag(9, 123, 2)].concat();
    client
        .send(message_type::AGGREGATE, 5_000, &aggregate)
        .unwrap();
    let media = |kind, timestamp, body: &'static [u8]| Event::Media {
        kind,
        timestamp,
        body: Bytes::from_static(body),
    };
    assert_eq!(
        client.events[1..],
        [
            media(Kind::Audio, 5_000, &[1]),
            media(Kind::Video, 5_023, &[2])
        ]
    );
    let cut = client.send(message_type::AGGREGATE, 0, &aggregate[..13]);
    assert_eq!(cut, Ok(())); // a missing back pointer harms nobody
    let cut = client.send(message_type::AGGREGATE, 0, &aggregate[..9]);
    assert_eq!(cut, Err(Error::Short { kind: 22, len: 9 }));
}

#[test]
fn bad_input_is_refused_by_name_and_the_client_hears_it() {
    let refused = |result: Result<(), Error>| result.unwrap_err().to_string();
    let mut client = Client::new(4096);
    assert_eq!(
        refused(client.command("publish", 1.0, &[])),
        r#"command "publish" came before connect"#
    );
    assert_eq!(client.events, [Event::Closed]);
    assert_eq!(
        client.description(),
        r#"command "publish" came before connect"#
    );

    let mut client = Client::connected(4096);
    assert_eq!(
        refused(client.send(message_type::COMMAND, 0, &[0x11])),
        "AMF0 type 0x11 (AMF3) is not supported"
    );
    let mut client = Client::connected(4096);
    assert_eq!(
        refused(client.send(message_type::COMMAND, 0, &[5])),
        "command does not begin with a name and a number"
    );
    let mut client = Client::connected(4096);
    assert_eq!(
        refused(client.send(99, 0, &[])),
        "message type 99 is not supported"
    );
    let mut client = Client::publishing(4096);
    assert_eq!(
        refused(client.command("play", 0.0, &[])),
        r#"command "play" came while the connection is in use"#
    );
    let mut session = Session::new(1);
    let get = Bytes::from_static(b"GET / HTTP/1.1\r\n");
    assert_eq!(
        refused(session.handle(Input::Bytes(get))),
        "handshake begins with 0x47, not RTMP version 3"
    );
    assert_eq!(session.poll_output(), None);
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let mut client = Client::publishing(4096);
        let _ = client.feed(&bytes);
    }

    #[test]
    fn messages_of_garbage_never_panic(
        messages in proptest::collection::vec(
            (prop_oneof![0u8..24, any::<u8>()], any::<u32>(),
             proptest::collection::vec(any::<u8>(), 0..60)),
            0..20),
        playing: bool,
    ) {
        let mut client = if playing { Client::playing() } else { Client::publishing(4096) };
        for (kind, timestamp, payload) in messages {
            // A chunk size of its choice would make the test's own writer wrong.
            if kind != message_type::SET_CHUNK_SIZE
                && client.send(kind, timestamp, &payload).is_err()
            {
                break;
            }
        }
    }
}
