//! A publisher over RTMP: just as much of a client (Adobe's RTMP 1.0) as publishing takes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use longspan_edge::{
    flv,
    media::Kind,
    rtmp::{
        amf0::{self, Value},
        chunk::{self, Message},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use crate::failure::{Failure, Outcome};

/// Message types (§5.4, §7.1).
const SET_CHUNK_SIZE: u8 = 1;
const COMMAND: u8 = 20;
const DATA: u8 = 18;
/// The stream that createStream gives at our edges, and everywhere else.
const STREAM: u32 = 1;
/// C1, S1, C2, S2 (§5.2.3).
const HANDSHAKE: usize = 1_536;
/// So that a picture is one chunk.
const CHUNK: usize = 1 << 20;
/// How long an edge may take for anything before the run fails.
const WAIT: Duration = Duration::from_secs(30);

/// What is published: the lesson that `up` plays as well.
const LESSON: &[u8] = include_bytes!("../../../assets/sample-lesson.flv");

/// One that publishes from its start on.
pub(super) struct Publisher {
    tcp: TcpStream,
    reader: chunk::Reader,
    chunk: usize,
    lesson: flv::Loop,
}

impl Publisher {
    /// From the TCP connection to `NetStream.Publish.Start`, which the caller times.
    pub(super) async fn start(host: &str, room: &str, stream: &str) -> Outcome<Publisher> {
        let started = timeout(WAIT, Publisher::negotiate(host, room, stream)).await;
        started.map_err(|_| Failure::failed(format!("{host}: not accepted within {WAIT:?}")))?
    }

    async fn negotiate(host: &str, room: &str, stream: &str) -> Outcome<Publisher> {
        let tcp = TcpStream::connect(host).await.map_err(Failure::failed)?;
        tcp.set_nodelay(true).map_err(Failure::failed)?;
        let mut it = Publisher {
            tcp,
            reader: chunk::Reader::default(),
            chunk: chunk::DEFAULT_CHUNK_SIZE,
            lesson: flv::Loop::new(LESSON, None).map_err(Failure::failed)?,
        };
        it.handshake().await?;
        let size = Bytes::copy_from_slice(&(CHUNK as u32).to_be_bytes());
        it.send(2, SET_CHUNK_SIZE, 0, 0, size).await?;
        it.chunk = CHUNK;
        let app = Value::object([
            ("app", Value::string("live")),
            ("type", Value::string("nonprivate")),
            ("tcUrl", Value::string(format!("rtmp://{host}/live"))),
        ]);
        it.command(0, "connect", 1.0, &[app]).await?;
        it.answer("_result", 1.0).await?;
        it.command(0, "createStream", 2.0, &[Value::Null]).await?;
        it.answer("_result", 2.0).await?;
        let key = Value::string(format!("{room}/{stream}"));
        let publish = [Value::Null, key, Value::string("live")];
        it.command(STREAM, "publish", 3.0, &publish).await?;
        it.answer("onStatus", 0.0).await?;
        Ok(it)
    }

    async fn handshake(&mut self) -> Outcome {
        let mut hello = vec![0; 1 + HANDSHAKE];
        hello[0] = 3;
        self.tcp.write_all(&hello).await.map_err(Failure::failed)?;
        let mut answer = vec![0; 1 + 2 * HANDSHAKE];
        let read = self.tcp.read_exact(&mut answer).await;
        read.map_err(Failure::failed)?;
        let echo = &answer[1..=HANDSHAKE];
        self.tcp.write_all(echo).await.map_err(Failure::failed)
    }

    async fn command(&mut self, stream: u32, name: &str, n: f64, rest: &[Value]) -> Outcome {
        let head = [Value::string(name), Value::Number(n)];
        let values: Vec<Value> = head.into_iter().chain(rest.iter().cloned()).collect();
        let payload = amf0::encode(&values).freeze();
        self.send(3, COMMAND, stream, 0, payload).await
    }

    /// Reads until the answer to a command; what refuses it fails the run.
    async fn answer(&mut self, name: &str, n: f64) -> Outcome {
        let mut bytes = BytesMut::with_capacity(16 * 1024);
        loop {
            while let Some(message) = self.reader.next_message().map_err(Failure::failed)? {
                if message.kind == SET_CHUNK_SIZE {
                    let size = message
                        .payload
                        .first_chunk::<4>()
                        .map(|b| u32::from_be_bytes(*b));
                    let set = self.reader.set_chunk_size(size.unwrap_or(0));
                    set.map_err(Failure::failed)?;
                }
                if message.kind != COMMAND {
                    continue;
                }
                let values = amf0::decode(&message.payload).map_err(Failure::failed)?;
                let said = values.first().and_then(Value::as_str).unwrap_or_default();
                let to = values.get(1).and_then(Value::as_number);
                if said == name && to == Some(n) {
                    let code = values.get(3).and_then(|info| info.get("code"));
                    return match code.and_then(Value::as_str) {
                        Some(code) if name == "onStatus" && code != "NetStream.Publish.Start" => {
                            Err(Failure::failed(format!("the publisher was told {code}")))
                        }
                        _ => Ok(()),
                    };
                }
                if said == "_error" {
                    return Err(Failure::failed(format!("{name}: {values:?}")));
                }
            }
            bytes.clear();
            let read = self.tcp.read_buf(&mut bytes).await;
            if read.map_err(Failure::failed)? == 0 {
                return Err(Failure::failed(format!("the edge left instead of {name}")));
            }
            self.reader.push(&bytes);
        }
    }

    /// Publishes in real time until the connection breaks or this is dropped; `first_key` is
    /// called when the first key frame is about to be sent.
    pub(super) async fn publish(&mut self, mut first_key: impl FnMut()) -> Outcome {
        let began = Instant::now();
        let mut keys = 0;
        loop {
            let (due, tag) = self.lesson.next_tag();
            sleep_until(began + due).await;
            let (channel, kind) = match tag.tag_type {
                8 => (4, Kind::Audio),
                9 => (6, Kind::Video),
                _ => {
                    // As encoders send it (and FLV files hold it).
                    let set = amf0::encode(&[Value::string("@setDataFrame")]);
                    let payload = [&set[..], &tag.body[..]].concat().into();
                    self.send(4, DATA, STREAM, tag.timestamp, payload).await?;
                    continue;
                }
            };
            let key =
                kind == Kind::Video && flv::is_key(&tag.body) && !flv::is_config(kind, &tag.body);
            if key && keys == 0 {
                first_key();
            }
            keys += u32::from(key);
            self.send(channel, tag.tag_type, STREAM, tag.timestamp, tag.body)
                .await?;
        }
    }

    async fn send(
        &mut self,
        chunk_stream: u32,
        kind: u8,
        stream: u32,
        timestamp: u32,
        payload: Bytes,
    ) -> Outcome {
        let message = Message {
            chunk_stream,
            timestamp,
            kind,
            stream,
            payload,
        };
        let mut bytes = BytesMut::new();
        chunk::write(&message, self.chunk, |part| bytes.extend_from_slice(&part));
        self.tcp.write_all(&bytes).await.map_err(Failure::failed)
    }
}
