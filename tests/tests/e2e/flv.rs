//! A viewer over HTTP-FLV that looks at tags as they come.

use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::http;

/// One tag, as far as the tests look at it.
#[derive(Debug, Clone, Copy)]
pub struct Tag {
    /// 8 audio, 9 video, 18 script (FLV 10.1 §E.4.1).
    pub kind: u8,
    /// In ms.
    pub timestamp: u32,
    pub key: bool,
    pub config: bool,
    pub arrived: Instant,
}

/// An open stream.
pub struct Viewer {
    body: Incoming,
    buffer: BytesMut,
    header_seen: bool,
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
            buffer: BytesMut::new(),
            header_seen: false,
        })
    }

    /// The next tag; None at the end, or if nothing comes for `bound`.
    pub async fn next(&mut self, bound: Duration) -> Option<Tag> {
        loop {
            if let Some(tag) = self.parse() {
                return Some(tag);
            }
            let frame = tokio::time::timeout(bound, self.body.frame())
                .await
                .ok()??
                .ok()?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// The next picture (no configuration).
    pub async fn next_video(&mut self, bound: Duration) -> Option<Tag> {
        loop {
            let tag = self.next(bound).await?;
            if tag.kind == 9 && !tag.config {
                return Some(tag);
            }
        }
    }

    fn parse(&mut self) -> Option<Tag> {
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
        let timestamp = u32::from_be_bytes([b[7], b[4], b[5], b[6]]);
        let tag = Tag {
            kind: b[0] & 0x1f,
            timestamp,
            key: b[0] & 0x1f == 9 && b[11] >> 4 == 1,
            config: len > 1 && b[0] & 0x1f != 18 && b[12] == 0,
            arrived: Instant::now(),
        };
        self.buffer.advance(11 + len + 4);
        Some(tag)
    }
}
