//! What an edge says to a member, read as cheaply as can be: one process reads what ten thousand
//! members are told. Pure.
//!
//! WebSocket frames (RFC 6455 §5.2) of JSON. Of messages of the room only what the bench put there
//! is looked at; everything else is read as JSON.

use serde::Deserialize;

/// Largest frame that is taken, in bytes: many times what an edge sends.
const MAX_FRAME: usize = 4 << 20;

/// One thing that a member is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It is in, and messages after this place follow; more of the state before them, or not.
    Welcome { seq: u64, more: bool },
    /// A piece of the state.
    State { more: bool },
    /// Its message has its place.
    Ack { n: u64 },
    /// A message of the room; when it was said, by the bench's clock, if the bench said so.
    Event { seq: u64, stamp: Option<u64> },
    /// Messages will not come.
    Gap { from: u64, to: u64 },
    /// Something was not done.
    Error { n: Option<u64>, error: String },
    /// A ping, to be answered with this.
    Ping(Vec<u8>),
    /// The edge closes.
    Close,
    /// Anything else.
    Other,
}

/// Why what comes cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("a frame of {0} bytes; the limit is {MAX_FRAME}")]
    Long(u64),
    #[error("a frame with opcode {0}, of which no edge makes use")]
    Opcode(u8),
    #[error("not JSON: {0}")]
    Json(String),
}

/// The rest of a frame that has not all come yet.
#[derive(Debug, Default)]
pub struct Reader {
    left: Vec<u8>,
}

impl Reader {
    /// Takes what came; `hear` is told what is complete. Bodies hold `filler` bytes beside their
    /// stamp: those are stepped over.
    pub fn read(
        &mut self,
        bytes: &[u8],
        filler: usize,
        mut hear: impl FnMut(Said),
    ) -> Result<(), Unreadable> {
        if self.left.is_empty() {
            let taken = frames(bytes, filler, &mut hear)?;
            self.left.extend_from_slice(&bytes[taken..]);
            return Ok(());
        }
        self.left.extend_from_slice(bytes);
        let taken = frames(&self.left, filler, &mut hear)?;
        if taken == self.left.len() {
            // What a large state needed is given back.
            self.left = Vec::new();
        } else {
            self.left.drain(..taken);
        }
        Ok(())
    }
}

/// All whole frames; how many bytes they are.
fn frames(bytes: &[u8], filler: usize, hear: &mut impl FnMut(Said)) -> Result<usize, Unreadable> {
    let mut taken = 0;
    while let Some((opcode, from, to)) = frame(&bytes[taken..])? {
        let payload = &bytes[taken + from..taken + to];
        match opcode {
            1 => message(payload, filler, hear)?,
            8 => hear(Said::Close),
            9 => hear(Said::Ping(payload.to_vec())),
            10 => {}
            other => return Err(Unreadable::Opcode(other)),
        }
        taken += to;
    }
    Ok(taken)
}

/// The first frame, if all of it is there: its opcode, and where its payload begins and ends.
fn frame(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, Unreadable> {
    let (&[first, second, ..], rest) = (bytes, bytes.get(2..).unwrap_or_default()) else {
        return Ok(None);
    };
    let (len, from) = match second & 0x7f {
        126 => match rest.first_chunk() {
            Some(len) => (u64::from(u16::from_be_bytes(*len)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(len) => (u64::from_be_bytes(*len), 10),
            None => return Ok(None),
        },
        len => (u64::from(len), 2),
    };
    if len > MAX_FRAME as u64 {
        return Err(Unreadable::Long(len));
    }
    let to = from + len as usize;
    Ok((bytes.len() >= to).then_some((first & 0x0f, from, to)))
}

fn message(text: &[u8], filler: usize, hear: &mut impl FnMut(Said)) -> Result<(), Unreadable> {
    if text.starts_with(br#"{"t":"ev"#) {
        events(text, filler, hear);
        return Ok(());
    }
    let light: Light =
        serde_json::from_slice(text).map_err(|error| Unreadable::Json(error.to_string()))?;
    hear(match light.t {
        "welcome" => Said::Welcome {
            seq: light.seq,
            more: light.more,
        },
        "state" => Said::State { more: light.more },
        "ack" => Said::Ack {
            n: light.n.unwrap_or(0),
        },
        "gap" => Said::Gap {
            from: light.from,
            to: light.to,
        },
        "err" => Said::Error {
            n: light.n,
            error: light.error.into_owned(),
        },
        _ => Said::Other,
    });
    Ok(())
}

/// What matters of a message that is no message of the room.
#[derive(Deserialize)]
struct Light<'a> {
    t: &'a str,
    #[serde(default)]
    more: bool,
    #[serde(default)]
    seq: u64,
    n: Option<u64>,
    #[serde(default)]
    from: u64,
    #[serde(default)]
    to: u64,
    #[serde(default)]
    error: std::borrow::Cow<'a, str>,
}

/// Messages of the room: one `ev`, or several in `evs`.
fn events(text: &[u8], filler: usize, hear: &mut impl FnMut(Said)) {
    let mut rest = text;
    while let Some(seq) = after(rest, br#""seq":"#) {
        let (seq, tail) = number(seq);
        let body = after(tail, br#""body":"#).unwrap_or_default();
        rest = tail;
        let mut stamp = None;
        if let [b'[', inside @ ..] = body {
            let (of, tail) = number(inside);
            stamp = Some(of);
            // `,"…"]`
            rest = match tail.get(filler + 2..) {
                Some(end) if end.starts_with(br#""]"#) => end,
                _ => tail,
            };
        }
        hear(Said::Event { seq, stamp });
    }
}

/// What follows the first `word`.
fn after<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(word.len()).position(|part| part == word)?;
    Some(&text[at + word.len()..])
}

/// A number, and what follows it.
fn number(text: &[u8]) -> (u64, &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    let add = |sum: u64, digit: &u8| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
    (digits.iter().fold(0, add), rest)
}

/// A frame of a client's. It is to be masked (RFC 6455 §5.3): with zeros, which change nothing.
pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of a server's: not masked.
    fn framed(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let masked = masked(opcode, payload);
        let head = masked.len() - payload.len() - 4;
        let mut out = masked[..head].to_vec();
        out[1] &= 0x7f;
        out.extend_from_slice(payload);
        out
    }

    fn event(seq: u64, stamp: u64, filler: usize) -> String {
        let x = "x".repeat(filler);
        format!(
            r#"{{"t":"ev","seq":{seq},"from":"m-1","at":9,"class":"log","topic":"bench","body":[{stamp},"{x}"]}}"#
        )
    }

    fn all() -> (Vec<u8>, Vec<Said>) {
        let batch = format!(
            r#"{{"t":"evs","evs":[{},{}]}}"#,
            event(8, 800, 1_000),
            // Somebody else's, shorter than the bench's.
            event(9, 900, 3),
        );
        let texts = [
            r#"{"t":"welcome","member":"m-1","log":"group-1-1","seq":6,"n":0,"state":{"a":{"body":"\"seq\":1"}},"more":true,"limits":{}}"#.to_owned(),
            r#"{"t":"state","log":"group-1-1","seq":6,"state":{},"more":false}"#.to_owned(),
            event(7, 700, 1_000),
            batch,
            r#"{"t":"ack","n":17,"seq":7}"#.to_owned(),
            r#"{"t":"gap","from":10,"to":12,"log":"group-1-1"}"#.to_owned(),
            r#"{"t":"err","n":18,"error":"busy","message":"a \"word\""}"#.to_owned(),
            r#"{"t":"pong"}"#.to_owned(),
        ];
        let mut bytes: Vec<u8> = texts
            .iter()
            .flat_map(|text| framed(1, text.as_bytes()))
            .collect();
        bytes.extend(framed(9, b"hi"));
        bytes.extend(framed(8, &[3, 232]));
        let event = |seq, stamp| Said::Event {
            seq,
            stamp: Some(stamp),
        };
        let said = vec![
            Said::Welcome { seq: 6, more: true },
            Said::State { more: false },
            event(7, 700),
            event(8, 800),
            event(9, 900),
            Said::Ack { n: 17 },
            Said::Gap { from: 10, to: 12 },
            Said::Error {
                n: Some(18),
                error: "busy".into(),
            },
            Said::Other,
            Said::Ping(b"hi".to_vec()),
            Said::Close,
        ];
        (bytes, said)
    }

    #[test]
    fn what_is_said_is_heard_however_it_is_cut() {
        let (bytes, said) = all();
        for piece in [1, 2, 3, 7, 100, 1_333, bytes.len()] {
            let mut reader = Reader::default();
            let mut heard = Vec::new();
            for bytes in bytes.chunks(piece) {
                let read = reader.read(bytes, 1_000, |said| heard.push(said));
                assert_eq!(read, Ok(()));
            }
            assert_eq!(heard, said, "in pieces of {piece}");
            assert!(reader.left.is_empty());
        }
    }

    #[test]
    fn what_no_edge_says_is_told() {
        let read = |bytes: &[u8]| Reader::default().read(bytes, 0, |_| {});
        assert_eq!(read(&framed(2, b"x")), Err(Unreadable::Opcode(2)));
        let long = [0x81, 127, 0, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(read(&long), Err(Unreadable::Long(1 << 24)));
        assert!(matches!(
            read(&framed(1, b"nope")),
            Err(Unreadable::Json(_))
        ));
    }
}
