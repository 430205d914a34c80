//! What members say.

use bytes::Bytes;
use longspan_proto::{
    ids::SessionId,
    wire::envelope::{Class, MAX_BODY, MAX_KEY, MAX_TOPIC},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{Body, Encoding, MAX_DEPTH, MAX_MESSAGE, MAX_NUMBER};

/// What a member may say.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// The first message of a connection.
    Hello {
        /// 128 random bits of the member's.
        session: SessionId,
        /// Where the member's last connection ended.
        resume: Option<Resume>,
    },
    /// A message for the room.
    Publish(Publish),
    /// Is anybody there?
    Ping,
}

/// What a member has seen already.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The newest message.
    pub seq: u64,
    /// In which log, as the welcome named it; if absent, the current one.
    pub log: Option<String>,
}

/// A message for the room.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// The session's next number.
    pub n: u64,
    /// What becomes of it.
    pub class: Class,
    /// What it is about.
    pub topic: String,
    /// The state's key, or a label of an ephemeral message.
    pub key: Option<String>,
    /// Only if the key has this revision.
    pub expected: Option<u64>,
    /// As it travels; empty: delete the key.
    pub body: Bytes,
}

/// Why a message was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The number of the message, where it could be read.
    pub n: Option<u64>,
    /// For programs.
    pub slug: &'static str,
    /// What is wrong, naming it.
    pub message: String,
    /// The limit, if it is above one.
    pub limit: Option<u64>,
}

/// Reads a message.
pub fn decode(encoding: Encoding, bytes: &[u8]) -> Result<Incoming, Invalid> {
    let head: Head = read(encoding, bytes).map_err(|message| Invalid {
        n: None,
        slug: "invalid",
        message,
        limit: None,
    })?;
    let n = head.n;
    let invalid = |slug, message| Invalid {
        n,
        slug,
        message,
        limit: None,
    };
    if bytes.len() > MAX_MESSAGE {
        return Err(too_large(n, "the message", bytes.len(), MAX_MESSAGE));
    }
    match head.t.as_str() {
        "hello" => {
            let hello: Hello = read(encoding, bytes).map_err(|m| invalid("invalid", m))?;
            let session = session(&hello.session).ok_or_else(|| {
                invalid(
                    "invalid_session",
                    "session is to be 128 random bits as 32 hexadecimal digits".into(),
                )
            })?;
            Ok(Incoming::Hello {
                session,
                resume: hello.resume,
            })
        }
        "pub" => {
            let publish: Pub = read(encoding, bytes).map_err(|m| invalid("invalid", m))?;
            publish.check().map(Incoming::Publish)
        }
        "ping" => {
            let _: Ping = read(encoding, bytes).map_err(|m| invalid("invalid", m))?;
            Ok(Incoming::Ping)
        }
        other => {
            let other: String = other.chars().take(40).collect();
            let message = format!("t is {other:?}; hello, pub and ping are known");
            Err(invalid("unknown_type", message))
        }
    }
}

/// What can be read of a message whatever its kind.
#[derive(Deserialize)]
struct Head {
    t: String,
    n: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    #[serde(rename = "t")]
    _t: String,
    session: String,
    resume: Option<Resume>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ping {
    #[serde(rename = "t")]
    _t: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pub {
    #[serde(rename = "t")]
    _t: String,
    n: u64,
    class: String,
    topic: String,
    key: Option<String>,
    #[serde(rename = "if")]
    expected: Option<u64>,
    #[serde(default = "Body::null")]
    body: Body,
}

impl Pub {
    fn check(self) -> Result<Publish, Invalid> {
        let n = Some(self.n).filter(|n| *n <= MAX_NUMBER);
        let invalid = |slug, message| Invalid {
            n,
            slug,
            message,
            limit: None,
        };
        if n.is_none() || self.expected.is_some_and(|e| e > MAX_NUMBER) {
            return Err(Invalid {
                limit: Some(MAX_NUMBER),
                ..invalid("invalid", format!("n and if are at most {MAX_NUMBER}"))
            });
        }
        let class = match self.class.as_str() {
            "log" => Class::Log,
            "state" => Class::State,
            "ephemeral" => Class::Ephemeral,
            other => {
                let other: String = other.chars().take(40).collect();
                let message = format!("class is {other:?}; log, state and ephemeral are known");
                return Err(invalid("wrong_class", message));
            }
        };
        for (what, len, limit) in [
            ("topic", self.topic.len(), MAX_TOPIC),
            (
                "key",
                self.key.as_deref().unwrap_or_default().len(),
                MAX_KEY,
            ),
        ] {
            if len > limit {
                return Err(too_large(n, what, len, limit));
            }
        }
        let key = self.key.as_deref();
        let wrong = match class {
            Class::State if key.is_none_or(str::is_empty) => Some("class state needs a key"),
            Class::Log if key.is_some() => Some("class log takes no key"),
            Class::Log | Class::Ephemeral if self.expected.is_some() => {
                Some("if needs class state")
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(invalid("wrong_class", wrong.into()));
        }
        if let Err(why) = self.body.check() {
            return Err(invalid("invalid_body", format!("body {why}")));
        }
        let body = match class {
            Class::State if self.body.is_null() => Bytes::new(),
            _ => self.body.to_bytes(),
        };
        if body.len() > MAX_BODY {
            return Err(too_large(n, "body (as CBOR)", body.len(), MAX_BODY));
        }
        Ok(Publish {
            n: self.n,
            class,
            topic: self.topic,
            key: self.key,
            expected: self.expected,
            body,
        })
    }
}

fn too_large(n: Option<u64>, what: &str, len: usize, limit: usize) -> Invalid {
    Invalid {
        n,
        slug: "too_long",
        message: format!("{what} has {len} bytes; the limit is {limit}"),
        limit: Some(limit as u64),
    }
}

/// Reads exactly one value.
fn read<T: DeserializeOwned>(encoding: Encoding, bytes: &[u8]) -> Result<T, String> {
    // serde would take an array of the values too.
    let is_map = match encoding {
        Encoding::Json => bytes.trim_ascii_start().first() == Some(&b'{'),
        // RFC 8949 §3.1: major type 5.
        Encoding::Cbor => bytes.first().is_some_and(|byte| byte >> 5 == 5),
    };
    if !is_map {
        return Err(format!("not a message: not {}", encoding.map()));
    }
    match encoding {
        Encoding::Json => {
            serde_json::from_slice(bytes).map_err(|e| format!("not a message in JSON: {e}"))
        }
        Encoding::Cbor => {
            // The message's own map, and one more for what is too deep to be found so by the
            // body's check.
            let depth = MAX_DEPTH + 10;
            let mut rest = bytes;
            let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, depth)
                .map_err(|e| format!("not a message in CBOR: {}", why(&e)))?;
            if !rest.is_empty() {
                return Err(format!(
                    "not a message in CBOR: {} bytes follow it",
                    rest.len()
                ));
            }
            Ok(value)
        }
    }
}

fn why(error: &ciborium::de::Error<std::io::Error>) -> String {
    use ciborium::de::Error;
    match error {
        Error::Io(_) => "it ends early".into(),
        Error::Syntax(at) => format!("byte {at} is out of place"),
        Error::Semantic(_, message) => message.clone(),
        Error::RecursionLimitExceeded => "it is nested too deep".into(),
    }
}

fn session(hex: &str) -> Option<SessionId> {
    if hex.len() != 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(hex, 16)
        .ok()
        .map(|bits| SessionId(bits.to_be_bytes()))
}
