//! What a connected client asks for, and what it is answered.

mod command;
mod play;
mod reply;
mod vocabulary;

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use self::play::Playing;
pub use self::vocabulary::{Error, Event, Input, Output};
use super::{
    amf0,
    chunk::{self, Message},
    handshake::Handshake,
};
use crate::media::Kind;

/// The chunk size we write with: the largest message but key frames goes in one chunk, and what
/// stands between is one byte in 60,000.
const CHUNK_SIZE: u32 = 60_000;

/// How many bytes a client may send before it hears an acknowledgement, and we before we hear one
/// (§5.4.4; the value every server says).
const WINDOW: u32 = 2_500_000;

/// Chunk streams we write on (§5.3.1.1: 2 is for control).
mod chunk_stream {
    pub const CONTROL: u32 = 2;
    pub const COMMAND: u32 = 3;
    pub const DATA: u32 = 5;
    pub const AUDIO: u32 = 6;
    pub const VIDEO: u32 = 7;
}

/// Message type ids (§5.4, §7.1).
mod message_type {
    pub const SET_CHUNK_SIZE: u8 = 1;
    pub const ABORT: u8 = 2;
    pub const ACKNOWLEDGEMENT: u8 = 3;
    pub const USER_CONTROL: u8 = 4;
    pub const WINDOW_SIZE: u8 = 5;
    pub const PEER_BANDWIDTH: u8 = 6;
    pub const AUDIO: u8 = 8;
    pub const VIDEO: u8 = 9;
    pub const DATA_AMF3: u8 = 15;
    pub const COMMAND_AMF3: u8 = 17;
    pub const DATA: u8 = 18;
    pub const COMMAND: u8 = 20;
    pub const AGGREGATE: u8 = 22;
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    handshake: Handshake,
    reader: chunk::Reader,
    chunk_size: usize,
    outputs: VecDeque<Output>,
    /// Bytes received behind the handshake, and how many of them we acknowledged.
    received: u64,
    acknowledged: u64,
    /// How many bytes the peer sends before it wants an acknowledgement.
    peer_window: Option<u32>,
    connected: Option<Connect>,
    streams: u32,
    state: State,
}

/// What `connect` said.
#[derive(Debug)]
struct Connect {
    app: String,
    tc_url: String,
    client: String,
}

#[derive(Debug)]
enum State {
    Idle,
    /// The edge is asked whether the client may publish on this message stream.
    AskedPublish(u32),
    AskedPlay(Playing),
    Publishing(u32),
    Playing(Playing),
    Closed,
}

impl Session {
    /// A fresh connection. `nonce` is random: it fills the handshake.
    pub fn new(nonce: u64) -> Session {
        Session {
            handshake: Handshake::new(nonce),
            reader: chunk::Reader::default(),
            chunk_size: chunk::DEFAULT_CHUNK_SIZE,
            outputs: VecDeque::new(),
            received: 0,
            acknowledged: 0,
            peer_window: None,
            connected: None,
            streams: 0,
            state: State::Idle,
        }
    }

    /// Takes an input. After an error only [`Session::poll_output`] makes sense (it holds what
    /// happened before, and the reason for the client); then close.
    pub fn handle(&mut self, input: Input) -> Result<(), Error> {
        match input {
            Input::Bytes(bytes) => return self.receive(&bytes),
            Input::Accept => self.accept(),
            Input::Reject { code, description } => self.reject(code, &description),
            Input::Metadata(metadata) => self.play_metadata(&metadata),
            Input::Media {
                kind,
                timestamp,
                body,
            } => self.play_media(kind, timestamp, body),
            Input::End => self.play_end(),
        }
        Ok(())
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if matches!(self.state, State::Closed) {
            return Ok(());
        }
        if self.handshake.is_done() {
            self.received += bytes.len() as u64;
            self.reader.push(bytes);
        } else {
            let (answer, rest) = self.handshake.receive(bytes).map_err(Error::Version)?;
            self.outputs.extend(answer.map(Output::Send));
            self.received += rest.len() as u64;
            self.reader.push(&rest);
        }
        let result = self.messages();
        if let Err(error) = &result {
            self.reject("NetConnection.Call.Failed", &error.to_string());
        }
        result
    }

    fn messages(&mut self) -> Result<(), Error> {
        while !matches!(self.state, State::Closed)
            && let Some(message) = self.reader.next_message()?
        {
            self.message(message)?;
        }
        if let Some(window) = self.peer_window
            && self.received - self.acknowledged >= u64::from(window)
        {
            self.acknowledged = self.received;
            // The sequence number wraps (§5.4.3).
            let sequence = self.received as u32;
            self.send_control(message_type::ACKNOWLEDGEMENT, &sequence.to_be_bytes());
        }
        Ok(())
    }

    fn message(&mut self, message: Message) -> Result<(), Error> {
        use message_type::*;
        match message.kind {
            SET_CHUNK_SIZE => self.reader.set_chunk_size(leading_u32(&message)?)?,
            ABORT => self.reader.abort(leading_u32(&message)?),
            WINDOW_SIZE => self.peer_window = Some(leading_u32(&message)?.max(1)),
            USER_CONTROL => self.user_control(&message)?,
            ACKNOWLEDGEMENT | PEER_BANDWIDTH => {}
            AUDIO => self.media(Kind::Audio, message.timestamp, message.payload),
            VIDEO => self.media(Kind::Video, message.timestamp, message.payload),
            AGGREGATE => self.aggregate(message)?,
            DATA => self.data(&message.payload)?,
            COMMAND => self.command(message.stream, &message.payload)?,
            // AMF3 messages of real clients are AMF0 behind a byte 0.
            DATA_AMF3 => self.data(amf0_of_amf3(&message.payload))?,
            COMMAND_AMF3 => self.command(message.stream, amf0_of_amf3(&message.payload))?,
            other => return Err(Error::MessageType(other)),
        }
        Ok(())
    }

    fn user_control(&mut self, message: &Message) -> Result<(), Error> {
        const PING_REQUEST: u16 = 6;
        const PING_RESPONSE: u16 = 7;
        match *message.payload {
            [a, b, ref rest @ ..] if u16::from_be_bytes([a, b]) == PING_REQUEST => {
                let mut pong = PING_RESPONSE.to_be_bytes().to_vec();
                pong.extend_from_slice(&rest[..rest.len().min(4)]);
                self.send_control(message_type::USER_CONTROL, &pong);
                Ok(())
            }
            [_, _, ..] => Ok(()),
            _ => Err(short(message)),
        }
    }

    fn media(&mut self, kind: Kind, timestamp: u32, body: Bytes) {
        if let State::AskedPublish(_) | State::Publishing(_) = self.state {
            self.event(Event::Media {
                kind,
                timestamp,
                body,
            });
        }
    }

    /// Several tags in one message (§7.1.6), their timestamps relative to the first one's.
    fn aggregate(&mut self, message: Message) -> Result<(), Error> {
        const TAG_HEADER: usize = 11;
        const BACK_POINTER: usize = 4;
        let error = short(&message);
        let mut left = message.payload;
        let mut first = None;
        while !left.is_empty() {
            if left.len() < TAG_HEADER {
                return Err(error);
            }
            let kind = left.get_u8();
            let len = left.get_uint(3) as usize;
            let low = left.get_uint(3) as u32;
            let timestamp = low | u32::from(left.get_u8()) << 24;
            left.advance(3);
            if left.len() < len {
                return Err(error);
            }
            let body = left.split_to(len);
            left.advance(left.len().min(BACK_POINTER));
            let since = timestamp.wrapping_sub(*first.get_or_insert(timestamp));
            let timestamp = message.timestamp.wrapping_add(since);
            match kind {
                message_type::AUDIO => self.media(Kind::Audio, timestamp, body),
                message_type::VIDEO => self.media(Kind::Video, timestamp, body),
                message_type::DATA => self.data(&body)?,
                other => return Err(Error::MessageType(other)),
            }
        }
        Ok(())
    }

    /// `onMetaData`, by itself or wrapped in `@setDataFrame`; other data is nobody's.
    fn data(&mut self, payload: &[u8]) -> Result<(), Error> {
        let values = amf0::decode(payload)?;
        let values = match values.split_first() {
            Some((name, rest)) if name.as_str() == Some("@setDataFrame") => rest,
            _ => &values[..],
        };
        let publishing = matches!(self.state, State::AskedPublish(_) | State::Publishing(_));
        if let [name, metadata, ..] = values
            && publishing
            && name.as_str() == Some("onMetaData")
            && let serde_json::Value::Object(metadata) = metadata.to_json()
        {
            self.event(Event::Metadata(metadata));
        }
        Ok(())
    }

    fn accept(&mut self) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::AskedPublish(stream) => {
                self.reply_publish_start(stream);
                self.state = State::Publishing(stream);
            }
            State::AskedPlay(playing) => {
                self.reply_play_start(&playing);
                self.state = State::Playing(playing);
            }
            other => self.state = other,
        }
    }

    fn reject(&mut self, code: &str, description: &str) {
        let stream = match &self.state {
            State::Closed => return,
            State::Idle => 0,
            State::AskedPublish(stream) | State::Publishing(stream) => *stream,
            State::AskedPlay(playing) | State::Playing(playing) => playing.stream,
        };
        if self.handshake.is_done() {
            self.send_status(stream, "error", code, description);
        }
        self.close();
    }

    fn close(&mut self) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            self.event(Event::Closed);
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

fn leading_u32(message: &Message) -> Result<u32, Error> {
    let field = message.payload.first_chunk().ok_or(short(message))?;
    Ok(u32::from_be_bytes(*field))
}

fn short(message: &Message) -> Error {
    Error::Short {
        kind: message.kind,
        len: message.payload.len(),
    }
}

fn amf0_of_amf3(payload: &[u8]) -> &[u8] {
    payload.strip_prefix(&[0]).unwrap_or(payload)
}

#[cfg(test)]
mod tests;
