//! The commands of NetConnection and NetStream (§7.2).

use super::{Connect, Error, Event, Session, State, play::Playing};
use crate::rtmp::{
    Target,
    amf0::{self, Value},
};

/// The most message streams a client may create; each of the real ones creates one.
const MAX_STREAMS: u32 = 8;

impl Session {
    pub(super) fn command(&mut self, stream: u32, payload: &[u8]) -> Result<(), Error> {
        let values = amf0::decode(payload)?;
        let [
            Value::String(name),
            Value::Number(transaction),
            arguments @ ..,
        ] = &values[..]
        else {
            return Err(Error::Command);
        };
        let transaction = *transaction;
        if self.connected.is_none() && name != "connect" {
            return Err(order(name, "came before connect"));
        }
        // The first argument is the command object: null in all but `connect`.
        let first = arguments.get(1);
        let truth = |default| match first {
            Some(Value::Boolean(truth)) => *truth,
            _ => default,
        };
        match name.as_str() {
            "connect" => self.connect(transaction, arguments.first())?,
            "createStream" => {
                if self.streams == MAX_STREAMS {
                    return Err(order(name, "came more than 8 times"));
                }
                self.streams += 1;
                let stream = Value::Number(f64::from(self.streams));
                self.send_result(transaction, Value::Null, stream);
            }
            "publish" => {
                let target = self.target(name, first)?;
                self.state = State::AskedPublish(stream);
                self.event(Event::Publish(target));
            }
            "play" => {
                let target = self.target(name, first)?;
                let reset = !matches!(arguments.get(4), Some(Value::Boolean(false)));
                self.state = State::AskedPlay(Playing::new(stream, reset));
                self.event(Event::Play(target));
            }
            "closeStream" => self.done(stream),
            "deleteStream" => {
                let deleted = first.and_then(Value::as_number).unwrap_or_default();
                self.done(deleted as u32);
            }
            // Whoever asks how long a live stream is hears 0: it does not end.
            "getStreamLength" => self.send_result(transaction, Value::Null, Value::Number(0.0)),
            "pause" => self.pause(truth(true)),
            "receiveAudio" => self.receive_audio(truth(true)),
            "receiveVideo" => self.receive_video(truth(true)),
            "seek" => self.send_status(
                stream,
                "error",
                "NetStream.Seek.Failed",
                "A live stream cannot be sought in.",
            ),
            // Courtesies of Flash Media Server: agreed to.
            "releaseStream" | "FCPublish" | "FCUnpublish" | "FCSubscribe" | "FCUnsubscribe"
            | "_checkbw" => self.courtesy(transaction),
            // Answers to what we did not ask, and telemetry.
            "_result" | "_error" | "onStatus" | "setBufferLength" => {}
            _ => self.unknown(transaction, name),
        }
        Ok(())
    }

    fn connect(&mut self, transaction: f64, object: Option<&Value>) -> Result<(), Error> {
        if self.connected.is_some() {
            return Err(order("connect", "came a second time"));
        }
        let text = |name| {
            let member = object.and_then(|o| o.get(name));
            member
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        self.connected = Some(Connect {
            app: text("app"),
            tc_url: text("tcUrl"),
            client: text("flashVer"),
        });
        let encoding = object.and_then(|o| o.get("objectEncoding"));
        let encoding = encoding.and_then(Value::as_number).unwrap_or_default();
        self.reply_connect(transaction, encoding);
        Ok(())
    }

    /// What `publish` or `play` names, if the client may ask now.
    fn target(&self, command: &str, key: Option<&Value>) -> Result<Target, Error> {
        if !matches!(self.state, State::Idle) {
            return Err(order(command, "came while the connection is in use"));
        }
        let Some(connect) = &self.connected else {
            return Err(order(command, "came before connect"));
        };
        Ok(Target {
            app: connect.app.clone(),
            key: key.and_then(Value::as_str).unwrap_or_default().to_owned(),
            tc_url: connect.tc_url.clone(),
            client: connect.client.clone(),
        })
    }

    /// The client is done with a message stream.
    fn done(&mut self, stream: u32) {
        let used = match &self.state {
            State::AskedPublish(used) | State::Publishing(used) => *used,
            State::AskedPlay(playing) | State::Playing(playing) => playing.stream,
            State::Idle | State::Closed => return,
        };
        // Some clients close stream 0, meaning the one they have.
        if stream == used || stream == 0 {
            self.close();
        }
    }

    fn courtesy(&mut self, transaction: f64) {
        if transaction != 0.0 {
            self.send_result(transaction, Value::Null, Value::Undefined);
        }
    }

    fn unknown(&mut self, transaction: f64, name: &str) {
        if transaction == 0.0 {
            return;
        }
        let information = Value::object([
            ("level", Value::string("error")),
            ("code", Value::string("NetConnection.Call.Failed")),
            (
                "description",
                Value::String(format!("Command {name:?} is not known.")),
            ),
        ]);
        let values = [
            Value::string("_error"),
            Value::Number(transaction),
            Value::Null,
            information,
        ];
        self.send_command(0, &values);
    }
}

fn order(name: &str, why: &'static str) -> Error {
    Error::Order {
        name: name.to_owned(),
        why,
    }
}
