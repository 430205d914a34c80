//! FLV as it comes: tags out of bytes, and viewers over HTTP.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinHandle;

use super::http;

/// One tag, as far as the tests look at it.
#[derive(Debug, Clone)]
pub struct Tag {
    /// 8 audio, 9 video, 18 script (FLV 10.1 §E.4.1).
    pub kind: u8,
    /// In ms.
    pub timestamp: u32,
    pub key: bool,
    pub config: bool,
    pub body: Bytes,
    pub arrived: Instant,
}

impl Tag {
    /// Whether it is a picture (no configuration).
    pub fn is_picture(&self) -> bool {
        self.kind == 9 && !self.config
    }
}

/// Tags out of bytes.
#[derive(Default)]
pub struct Parser {
    buffer: BytesMut,
    header_seen: bool,
}

impl Parser {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole tag.
    pub fn next(&mut self) -> Option<Tag> {
        // File header (9 bytes) and the first PreviousTagSize (4).
        if !self.header_seen {
            if self.buffer.len() < 13 {
                return None;
            }
            assert_eq!(&self.buffer[..3], b"FLV");
            self.buffer.advance(13);
            self.header_seen = true;
        }
        let b = &self.buffer;
        if b.len() < 11 {
            return None;
        }
        let len = usize::from(b[1]) << 16 | usize::from(b[2]) << 8 | usize::from(b[3]);
        if b.len() < 11 + len + 4 {
            return None;
        }
        let kind = b[0] & 0x1f;
        let timestamp = u32::from_be_bytes([b[7], b[4], b[5], b[6]]);
        self.buffer.advance(11);
        let body = self.buffer.split_to(len).freeze();
        self.buffer.advance(4);
        Some(Tag {
            kind,
            timestamp,
            key: kind == 9 && body.first().is_some_and(|b| b >> 4 == 1),
            config: kind != 18 && body.get(1) == Some(&0),
            body,
            arrived: Instant::now(),
        })
    }
}

/// An open stream.
pub struct Viewer {
    body: Incoming,
    parser: Parser,
}

impl Viewer {
    /// Opens `url`; the error holds the status and body of a refusal.
    pub async fn open(url: &str) -> Result<Viewer, String> {
        let response = http::open(url, None).await?;
        let status = response.status();
        if !status.is_success() {
            let body = response
                .into_body()
                .collect()
                .await
                .map_err(|e| e.to_string())?
                .to_bytes();
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
        }
        Ok(Viewer {
            body: response.into_body(),
            parser: Parser::default(),
        })
    }

    /// The next tag; None at the end, or if nothing comes for `bound`.
    pub async fn next(&mut self, bound: Duration) -> Option<Tag> {
        loop {
            if let Some(tag) = self.parser.next() {
                return Some(tag);
            }
            let frame = tokio::time::timeout(bound, self.body.frame())
                .await
                .ok()??
                .ok()?;
            if let Ok(data) = frame.into_data() {
                self.parser.push(&data);
            }
        }
    }

    /// The next picture (no configuration).
    pub async fn next_video(&mut self, bound: Duration) -> Option<Tag> {
        loop {
            let tag = self.next(bound).await?;
            if tag.is_picture() {
                return Some(tag);
            }
        }
    }

    /// Reads on by itself and keeps what comes.
    pub fn record(mut self) -> Recording {
        /// Longer than any wait of these tests.
        const BOUND: Duration = Duration::from_secs(120);
        let tags = Arc::new(Mutex::new(Vec::new()));
        let kept = tags.clone();
        let task = tokio::spawn(async move {
            while let Some(tag) = self.next(BOUND).await {
                kept.lock().expect("nobody panics with it").push(tag);
            }
        });
        Recording { tags, task }
    }
}

/// A viewer that keeps all it gets.
pub struct Recording {
    tags: Arc<Mutex<Vec<Tag>>>,
    task: JoinHandle<()>,
}

impl Recording {
    /// All pictures so far.
    pub fn pictures(&self) -> Vec<Tag> {
        let tags = self.tags.lock().expect("nobody panics with it");
        tags.iter()
            .filter(|tag| tag.is_picture())
            .cloned()
            .collect()
    }

    /// Whether the edge has closed the stream.
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.task.abort();
    }
}
