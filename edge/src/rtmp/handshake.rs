//! The handshake (§5.2), the plain one.
//!
//! A client that offers the digest handshake (a version in C1 that is not 0: ffmpeg, Flash) is
//! answered with version 0 in S1, which tells it to go on without digests. S2 is C1, byte for
//! byte: librtmp (OBS), GStreamer and nginx-rtmp's clients compare it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The version of the protocol.
const VERSION: u8 = 3;

/// C1, S1, C2 and S2 each.
const SIZE: usize = 1536;

/// The server's half of the handshake.
#[derive(Debug)]
pub(super) struct Handshake {
    state: State,
    buffer: BytesMut,
    nonce: u64,
}

#[derive(Debug, PartialEq)]
enum State {
    /// Waiting for C0 and C1.
    Hello,
    /// Waiting for C2.
    Echo,
    Done,
}

impl Handshake {
    pub(super) fn new(nonce: u64) -> Handshake {
        Handshake {
            state: State::Hello,
            buffer: BytesMut::new(),
            nonce,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes bytes; gives what to answer, and, once done, what came behind the handshake.
    /// The error is the version the client asked for.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(Option<Bytes>, BytesMut), u8> {
        self.buffer.extend_from_slice(bytes);
        let mut answer = None;
        if self.state == State::Hello {
            // 6 is RTMPE; a plain text protocol on our port shows here as well.
            if let Some(version) = self.buffer.first()
                && *version != VERSION
            {
                return Err(*version);
            }
            if self.buffer.len() > SIZE {
                self.buffer.advance(1);
                let c1 = self.buffer.split_to(SIZE);
                answer = Some(self.answer(&c1));
                self.state = State::Echo;
            }
        }
        if self.state == State::Echo && self.buffer.len() >= SIZE {
            // What C2 echoes is not checked: clients that do digests send something else.
            self.buffer.advance(SIZE);
            self.state = State::Done;
        }
        let rest = match self.state {
            State::Done => self.buffer.split(),
            _ => BytesMut::new(),
        };
        Ok((answer, rest))
    }

    fn answer(&self, c1: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(1 + 2 * SIZE);
        out.put_u8(VERSION);
        out.put_u64(0); // S1: our time, and version 0
        let mut random = self.nonce;
        for _ in 0..(SIZE - 8) / 8 {
            // Knuth's MMIX generator: it must only not repeat between connections.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            out.put_u64(random);
        }
        out.put_slice(c1);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_hands_on_the_rest_however_split() {
        let c1: Vec<u8> = (0..SIZE).map(|i| i as u8).collect();
        let hello = [&[VERSION], &c1[..], &[9; SIZE], b"rest"].concat();
        for step in [1, 7, 1537, 4000] {
            let mut handshake = Handshake::new(1);
            let (mut sent, mut rest) = (Vec::new(), Vec::new());
            for part in hello.chunks(step) {
                if handshake.is_done() {
                    rest.extend_from_slice(part);
                    continue;
                }
                let (answer, behind) = handshake.receive(part).unwrap();
                sent.extend(answer.into_iter().flatten());
                rest.extend_from_slice(&behind);
            }
            assert_eq!(sent.len(), 1 + 2 * SIZE);
            assert_eq!(sent[..9], [3, 0, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(sent[1 + SIZE..], c1);
            assert_eq!(rest, b"rest");
        }
    }

    #[test]
    fn refuses_another_protocol_at_its_first_byte() {
        assert_eq!(Handshake::new(1).receive(b"GET").unwrap_err(), b'G');
        assert_eq!(Handshake::new(1).receive(&[6]).unwrap_err(), 6);
    }
}
