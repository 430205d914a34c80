//! Bodies: opaque to the backbone, where they travel as CBOR; at the edge they are JSON or CBOR.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ciborium::Value;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use super::MAX_DEPTH;

/// A body: what JSON can say, and byte strings (which JSON members see as base64url, RFC 8949
/// §6.1).
#[derive(Debug, Clone, PartialEq)]
pub struct Body(Value);

impl Body {
    /// Nothing: as the body of a `state` message it deletes the key.
    pub fn null() -> Body {
        Body(Value::Null)
    }

    /// Whether it is nothing.
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// What is not allowed in it, if anything is.
    pub fn check(&self) -> Result<(), &'static str> {
        check(&self.0, MAX_DEPTH)
    }

    /// As it travels in an envelope.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        // Writing to memory does not fail.
        let _ = ciborium::into_writer(&self.0, &mut out);
        out.into()
    }

    /// From an envelope; what cannot be read (it came from a program that is not an edge) is
    /// nothing.
    pub fn from_bytes(bytes: &[u8]) -> Body {
        ciborium::de::from_reader_with_recursion_limit(bytes, 2 * MAX_DEPTH)
            .map_or(Body::null(), Body)
    }
}

fn check(value: &Value, depth: usize) -> Result<(), &'static str> {
    if depth == 0 {
        return Err("is nested more than 100 deep");
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| check(item, depth - 1)),
        Value::Map(entries) => entries.iter().try_for_each(|(key, value)| {
            if !key.is_text() {
                return Err("has a map key that is not text");
            }
            check(value, depth - 1)
        }),
        Value::Float(float) if !float.is_finite() => Err("has a number that is not finite"),
        Value::Tag(..) => Err("has a CBOR tag"),
        _ => Ok(()),
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Body, D::Error> {
        Value::deserialize(deserializer).map(Body)
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            Json(&self.0).serialize(serializer)
        } else {
            self.0.serialize(serializer)
        }
    }
}

/// A value as JSON says it.
struct Json<'a>(&'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bytes(bytes) => serializer.serialize_str(&URL_SAFE_NO_PAD.encode(bytes)),
            Value::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(&Json(item))?;
                }
                seq.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key.as_text().unwrap_or_default(), &Json(value))?;
                }
                map.end()
            }
            Value::Tag(_, inner) => Json(inner).serialize(serializer),
            plain => plain.serialize(serializer),
        }
    }
}
