//! The media a player is sent.

use bytes::Bytes;

use super::{Message, Session, State, chunk_stream, message_type, reply::STREAM_EOF};
use crate::{
    flv,
    media::Kind,
    rtmp::amf0::{self, Value},
};

/// What a player wants of its stream.
#[derive(Debug)]
pub(super) struct Playing {
    /// Its message stream.
    pub(super) stream: u32,
    /// It wants earlier playlists flushed (§7.2.2.1): it is told they were.
    pub(super) reset: bool,
    paused: bool,
    audio: bool,
    video: bool,
    /// Pictures were left out: the next one sent must be a key frame.
    need_key: bool,
}

impl Playing {
    pub(super) fn new(stream: u32, reset: bool) -> Playing {
        Playing {
            stream,
            reset,
            paused: false,
            audio: true,
            video: true,
            need_key: false,
        }
    }

    /// Whether the player is to have this tag. Decoder configs always pass: without them nothing
    /// after does any good.
    fn wants(&mut self, kind: Kind, body: &[u8]) -> bool {
        if flv::is_config(kind, body) {
            return true;
        }
        match kind {
            Kind::Audio => self.audio && !self.paused,
            Kind::Video if self.paused || !self.video => {
                self.need_key = true;
                false
            }
            Kind::Video => {
                self.need_key &= !flv::is_key(body);
                !self.need_key
            }
        }
    }
}

impl Session {
    pub(super) fn play_metadata(&mut self, metadata: &serde_json::Map<String, serde_json::Value>) {
        if let State::Playing(playing) = &self.state {
            let members = Value::EcmaArray(amf0::members_from_json(metadata));
            self.send_data(playing.stream, &[Value::string("onMetaData"), members]);
        }
    }

    pub(super) fn play_media(&mut self, kind: Kind, timestamp: u32, body: Bytes) {
        let State::Playing(playing) = &mut self.state else {
            return;
        };
        if !playing.wants(kind, &body) {
            return;
        }
        let stream = playing.stream;
        let (chunk_stream, kind) = match kind {
            Kind::Audio => (chunk_stream::AUDIO, message_type::AUDIO),
            Kind::Video => (chunk_stream::VIDEO, message_type::VIDEO),
        };
        self.send(&Message {
            chunk_stream,
            timestamp,
            kind,
            stream,
            payload: body,
        });
    }

    pub(super) fn play_end(&mut self) {
        if let State::Playing(playing) = &self.state {
            let stream = playing.stream;
            self.stream_event(STREAM_EOF, stream);
            self.send_status(
                stream,
                "status",
                "NetStream.Play.UnpublishNotify",
                "The stream has ended.",
            );
        }
        self.close();
    }

    pub(super) fn pause(&mut self, pause: bool) {
        if let State::Playing(playing) = &mut self.state {
            playing.paused = pause;
            let stream = playing.stream;
            let (code, description) = if pause {
                ("NetStream.Pause.Notify", "Paused; live goes on meanwhile.")
            } else {
                ("NetStream.Unpause.Notify", "Going on live.")
            };
            self.send_status(stream, "status", code, description);
        }
    }

    pub(super) fn receive_audio(&mut self, receive: bool) {
        if let State::Playing(playing) = &mut self.state {
            playing.audio = receive;
        }
    }

    pub(super) fn receive_video(&mut self, receive: bool) {
        if let State::Playing(playing) = &mut self.state {
            playing.video = receive;
        }
    }
}
