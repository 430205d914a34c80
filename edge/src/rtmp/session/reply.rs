//! What we say to a client.

use bytes::{BufMut, Bytes, BytesMut};

use super::{CHUNK_SIZE, Output, Session, WINDOW, chunk_stream, message_type, play::Playing};
use crate::rtmp::{
    amf0::{self, Value},
    chunk::{self, Message},
};

impl Session {
    pub(super) fn send(&mut self, message: &Message) {
        let outputs = &mut self.outputs;
        chunk::write(message, self.chunk_size, |part| {
            outputs.push_back(Output::Send(part));
        });
    }

    /// A protocol control message (§5.4): chunk stream 2, message stream 0, no timestamp.
    pub(super) fn send_control(&mut self, kind: u8, payload: &[u8]) {
        self.send(&Message {
            chunk_stream: chunk_stream::CONTROL,
            timestamp: 0,
            kind,
            stream: 0,
            payload: Bytes::copy_from_slice(payload),
        });
    }

    pub(super) fn send_command(&mut self, stream: u32, values: &[Value]) {
        self.send(&Message {
            chunk_stream: chunk_stream::COMMAND,
            timestamp: 0,
            kind: message_type::COMMAND,
            stream,
            payload: amf0::encode(values).freeze(),
        });
    }

    pub(super) fn send_data(&mut self, stream: u32, values: &[Value]) {
        self.send(&Message {
            chunk_stream: chunk_stream::DATA,
            timestamp: 0,
            kind: message_type::DATA,
            stream,
            payload: amf0::encode(values).freeze(),
        });
    }

    /// `onStatus` (§7.2.2).
    pub(super) fn send_status(&mut self, stream: u32, level: &str, code: &str, description: &str) {
        self.send_command(
            stream,
            &[
                Value::string("onStatus"),
                Value::Number(0.0),
                Value::Null,
                status(level, code, description),
            ],
        );
    }

    pub(super) fn send_result(&mut self, transaction: f64, first: Value, second: Value) {
        let name = Value::string("_result");
        self.send_command(0, &[name, Value::Number(transaction), first, second]);
    }

    /// The answer to `connect` (§7.2.1.1), before it the sizes both sides shall use.
    pub(super) fn reply_connect(&mut self, transaction: f64, object_encoding: f64) {
        const DYNAMIC: u8 = 2;
        self.send_control(message_type::WINDOW_SIZE, &WINDOW.to_be_bytes());
        let mut bandwidth = WINDOW.to_be_bytes().to_vec();
        bandwidth.push(DYNAMIC);
        self.send_control(message_type::PEER_BANDWIDTH, &bandwidth);
        self.send_control(message_type::SET_CHUNK_SIZE, &CHUNK_SIZE.to_be_bytes());
        self.chunk_size = CHUNK_SIZE as usize;
        let properties = Value::object([
            // What clients look for to know what a server can do: Flash Media Server 3.5.
            ("fmsVer", Value::string("FMS/3,5,7,7009")),
            ("capabilities", Value::Number(31.0)),
        ]);
        let Value::Object(mut information) = status(
            "status",
            "NetConnection.Connect.Success",
            "Connection succeeded.",
        ) else {
            unreachable!("status() makes objects");
        };
        information.push(("objectEncoding".to_owned(), Value::Number(object_encoding)));
        self.send_result(transaction, properties, Value::Object(information));
    }

    pub(super) fn reply_publish_start(&mut self, stream: u32) {
        self.stream_event(STREAM_BEGIN, stream);
        self.send_status(
            stream,
            "status",
            "NetStream.Publish.Start",
            "Publishing has started.",
        );
    }

    pub(super) fn reply_play_start(&mut self, playing: &Playing) {
        let stream = playing.stream;
        self.stream_event(STREAM_BEGIN, stream);
        if playing.reset {
            self.send_status(
                stream,
                "status",
                "NetStream.Play.Reset",
                "Playing and resetting.",
            );
        }
        self.send_status(
            stream,
            "status",
            "NetStream.Play.Start",
            "Playing has started.",
        );
        let access = Value::string("|RtmpSampleAccess");
        self.send_data(
            stream,
            &[access, Value::Boolean(true), Value::Boolean(true)],
        );
    }

    /// A user control message about a stream (§7.1.7).
    pub(super) fn stream_event(&mut self, event: u16, stream: u32) {
        let mut payload = BytesMut::with_capacity(6);
        payload.put_u16(event);
        payload.put_u32(stream);
        self.send_control(message_type::USER_CONTROL, &payload);
    }
}

/// User control event types (§7.1.7).
const STREAM_BEGIN: u16 = 0;
/// See [`STREAM_BEGIN`].
pub(super) const STREAM_EOF: u16 = 1;

fn status(level: &str, code: &str, description: &str) -> Value {
    Value::object([
        ("level", Value::string(level)),
        ("code", Value::string(code)),
        ("description", Value::string(description)),
    ])
}
