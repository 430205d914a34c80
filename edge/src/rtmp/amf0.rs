//! AMF0 (Adobe's "Action Message Format -- AMF 0"): the values RTMP commands are made of.

use bytes::{BufMut, BytesMut};

/// How deep values may be nested. Real commands nest two deep.
pub const MAX_DEPTH: usize = 16;

/// How many values one message may hold, members of objects and arrays included. A long
/// `onMetaData` with key frame tables has some hundreds.
pub const MAX_VALUES: usize = 16_384;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A truth value.
    Boolean(bool),
    /// Text; longer than 65,535 bytes it is written as a long string.
    String(String),
    /// Named members in their order.
    Object(Vec<(String, Value)>),
    /// Nothing.
    Null,
    /// Not said.
    Undefined,
    /// Named members, as `onMetaData` uses them.
    EcmaArray(Vec<(String, Value)>),
    /// Numbered members.
    StrictArray(Vec<Value>),
    /// Milliseconds since the Unix epoch.
    Date(f64),
}

/// Why bytes are no AMF0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// They end inside a value.
    #[error("AMF0 ends inside {0}")]
    Truncated(&'static str),
    /// A type we do not read.
    #[error("AMF0 type {0:#04x} ({name}) is not supported", name = marker_name(*.0))]
    Marker(u8),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("AMF0 is nested deeper than {MAX_DEPTH}")]
    Depth,
    /// More than [`MAX_VALUES`] values.
    #[error("AMF0 message holds more than {MAX_VALUES} values")]
    Values,
}

const NUMBER: u8 = 0x00;
const BOOLEAN: u8 = 0x01;
const STRING: u8 = 0x02;
const OBJECT: u8 = 0x03;
const NULL: u8 = 0x05;
const UNDEFINED: u8 = 0x06;
const ECMA_ARRAY: u8 = 0x08;
const OBJECT_END: u8 = 0x09;
const STRICT_ARRAY: u8 = 0x0a;
const DATE: u8 = 0x0b;
const LONG_STRING: u8 = 0x0c;
const UNSUPPORTED: u8 = 0x0d;
const XML_DOCUMENT: u8 = 0x0f;
const TYPED_OBJECT: u8 = 0x10;

fn marker_name(marker: u8) -> &'static str {
    match marker {
        0x04 => "movie clip",
        0x07 => "reference",
        OBJECT_END => "object end without an object",
        0x0e => "record set",
        0x11 => "AMF3",
        _ => "unknown",
    }
}

/// Reads all values of a message.
pub fn decode(bytes: &[u8]) -> Result<Vec<Value>, Error> {
    let mut reader = Reader {
        left: bytes,
        values: 0,
    };
    let mut values = Vec::new();
    while !reader.left.is_empty() {
        values.push(reader.value(0)?);
    }
    Ok(values)
}

/// Writes values one after another.
pub fn encode(values: &[Value]) -> BytesMut {
    let mut out = BytesMut::with_capacity(128);
    for value in values {
        value.encode(&mut out);
    }
    out
}

impl Value {
    /// A string.
    pub fn string(text: impl Into<String>) -> Value {
        Value::String(text.into())
    }

    /// An object.
    pub fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
        Value::Object(members.map(|(k, v)| (k.to_owned(), v)).into())
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a number.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A member of an object or an ECMA array.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(members) | Value::EcmaArray(members) => {
                members.iter().find(|(k, _)| k == name).map(|(_, v)| v)
            }
            _ => None,
        }
    }

    /// Appends the value's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Value::Number(number) => {
                out.put_u8(NUMBER);
                out.put_f64(*number);
            }
            Value::Boolean(truth) => {
                out.put_u8(BOOLEAN);
                out.put_u8(u8::from(*truth));
            }
            Value::String(text) if text.len() > usize::from(u16::MAX) => {
                out.put_u8(LONG_STRING);
                out.put_u32(text.len() as u32);
                out.put_slice(text.as_bytes());
            }
            Value::String(text) => {
                out.put_u8(STRING);
                put_short(out, text);
            }
            Value::Object(members) => {
                out.put_u8(OBJECT);
                put_members(out, members);
            }
            Value::Null => out.put_u8(NULL),
            Value::Undefined => out.put_u8(UNDEFINED),
            Value::EcmaArray(members) => {
                out.put_u8(ECMA_ARRAY);
                out.put_u32(members.len() as u32);
                put_members(out, members);
            }
            Value::StrictArray(values) => {
                out.put_u8(STRICT_ARRAY);
                out.put_u32(values.len() as u32);
                for value in values {
                    value.encode(out);
                }
            }
            Value::Date(ms) => {
                out.put_u8(DATE);
                out.put_f64(*ms);
                out.put_i16(0);
            }
        }
    }

    /// As JSON: `null` for what JSON cannot say (undefined, numbers that are not finite).
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Value::Number(number) => whole(*number).map_or_else(|| Json::from(*number), Json::from),
            Value::Boolean(truth) => Json::from(*truth),
            Value::String(text) => Json::from(text.as_str()),
            Value::Object(members) | Value::EcmaArray(members) => members
                .iter()
                .map(|(k, v)| (k.clone(), v.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Value::Null | Value::Undefined => Json::Null,
            Value::StrictArray(values) => values.iter().map(Value::to_json).collect(),
            Value::Date(ms) => Json::from(*ms),
        }
    }

    /// From JSON; a JSON object becomes an object.
    pub fn from_json(json: &serde_json::Value) -> Value {
        use serde_json::Value as Json;
        match json {
            Json::Null => Value::Null,
            Json::Bool(truth) => Value::Boolean(*truth),
            Json::Number(number) => Value::Number(number.as_f64().unwrap_or_default()),
            Json::String(text) => Value::String(text.clone()),
            Json::Array(values) => {
                Value::StrictArray(values.iter().map(Value::from_json).collect())
            }
            Json::Object(members) => Value::Object(members_from_json(members)),
        }
    }
}

/// The members of a JSON object.
pub fn members_from_json(
    members: &serde_json::Map<String, serde_json::Value>,
) -> Vec<(String, Value)> {
    members
        .iter()
        .map(|(k, v)| (k.clone(), Value::from_json(v)))
        .collect()
}

/// A whole number that JSON shall not write as `25.0`.
fn whole(number: f64) -> Option<i64> {
    let exact = number.fract() == 0.0 && number.abs() < (1u64 << 53) as f64;
    exact.then_some(number as i64)
}

fn put_members(out: &mut BytesMut, members: &[(String, Value)]) {
    for (name, value) in members {
        put_short(out, name);
        value.encode(out);
    }
    out.put_slice(&[0, 0, OBJECT_END]);
}

/// Text behind a 16-bit length; cut at a character where it is longer (names only: values are
/// written as long strings).
fn put_short(out: &mut BytesMut, text: &str) {
    let mut len = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    out.put_u16(len as u16);
    out.put_slice(&text.as_bytes()[..len]);
}

struct Reader<'a> {
    left: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let (taken, left) = self
            .left
            .split_at_checked(len)
            .ok_or(Error::Truncated(what))?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn number(&mut self, what: &'static str) -> Result<f64, Error> {
        Ok(f64::from_be_bytes(self.array(what)?))
    }

    /// Text. AMF0 says UTF-8, but metadata comes in whatever the encoder's system writes: what is
    /// not UTF-8 is replaced, not refused.
    fn text(&mut self, len: usize) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(self.take(len, "a string")?).into_owned())
    }

    fn short(&mut self) -> Result<String, Error> {
        let len = u16::from_be_bytes(self.array("a string's length")?);
        self.text(usize::from(len))
    }

    fn long(&mut self) -> Result<String, Error> {
        let len = u32::from_be_bytes(self.array("a string's length")?);
        self.text(len as usize)
    }

    fn members(&mut self, depth: usize) -> Result<Vec<(String, Value)>, Error> {
        let mut members = Vec::new();
        loop {
            if let [0, 0, OBJECT_END, left @ ..] = self.left {
                self.left = left;
                return Ok(members);
            }
            let name = self.short()?;
            members.push((name, self.value(depth + 1)?));
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::Depth);
        }
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(Error::Values);
        }
        let [marker] = self.array("a type")?;
        Ok(match marker {
            NUMBER => Value::Number(self.number("a number")?),
            BOOLEAN => Value::Boolean(self.array::<1>("a boolean")? != [0]),
            STRING => Value::String(self.short()?),
            OBJECT => Value::Object(self.members(depth)?),
            NULL => Value::Null,
            UNDEFINED | UNSUPPORTED => Value::Undefined,
            ECMA_ARRAY => {
                // The count is a hint that many writers get wrong; the end marker counts.
                self.array::<4>("an array's length")?;
                Value::EcmaArray(self.members(depth)?)
            }
            STRICT_ARRAY => {
                let len = u32::from_be_bytes(self.array("an array's length")?);
                let mut values = Vec::new();
                for _ in 0..len {
                    values.push(self.value(depth + 1)?);
                }
                Value::StrictArray(values)
            }
            DATE => {
                let ms = self.number("a date")?;
                self.array::<2>("a date's zone")?;
                Value::Date(ms)
            }
            LONG_STRING | XML_DOCUMENT => Value::String(self.long()?),
            TYPED_OBJECT => {
                self.short()?;
                Value::Object(self.members(depth)?)
            }
            other => return Err(Error::Marker(other)),
        })
    }
}

#[cfg(test)]
mod tests;
