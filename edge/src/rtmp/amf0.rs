//! AMF0 (Adobe's "Action Message Format -- AMF 0"): the values RTMP commands are made of.

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
