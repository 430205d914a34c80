//! What a client names when it publishes or plays.

use longspan_proto::ids::{NameError, Room, Stream};

/// The application every stream is under: `rtmp://HOST/live/…`.
pub const APP: &str = "live";

/// What a client wants to publish or play.
///
/// Clients split `rtmp://HOST/live/ROOM/STREAM?token=…` between `app` and key as they like (OBS
/// has a field for each; ffmpeg takes two path parts for the app), and put the query behind
/// either. [`Target::names`] and [`Target::query`] do not care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `app` of `connect`, as said.
    pub app: String,
    /// The name in `publish` or `play`, as said.
    pub key: String,
    /// `tcUrl` of `connect`, as said.
    pub tc_url: String,
    /// `flashVer` of `connect`: the client's program.
    pub client: String,
}

/// Why a target names no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not under [`APP`].
    #[error("application {0:?} is unknown; use rtmp://HOST/{APP} with key ROOM/STREAM")]
    App(String),
    /// Not two names.
    #[error("{0:?} does not name a stream; use rtmp://HOST/{APP} with key ROOM/STREAM")]
    Shape(String),
    /// A name that is not allowed.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Target {
    /// The room and the stream it names.
    pub fn names(&self) -> Result<(Room, Stream), TargetError> {
        let path = format!("{}/{}", without_query(&self.app), without_query(&self.key));
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        match parts.next() {
            Some(APP) => {}
            other => return Err(TargetError::App(other.unwrap_or_default().to_owned())),
        }
        let (Some(room), Some(stream), None) = (parts.next(), parts.next(), parts.next()) else {
            // Never the query: it may hold a token, and errors are logged.
            let named = path.trim_matches('/').trim_start_matches(APP);
            return Err(TargetError::Shape(named.trim_matches('/').to_owned()));
        };
        Ok((Room::new(&percent(room))?, Stream::new(&percent(stream))?))
    }

    /// A parameter of the query, behind the key, the app or the `tcUrl`, in this order.
    pub fn query(&self, name: &str) -> Option<String> {
        [&self.key, &self.app, &self.tc_url]
            .into_iter()
            .filter_map(|part| part.split_once('?'))
            .flat_map(|(_, query)| query.split(['&', '?']))
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| percent(value))
    }
}

fn without_query(part: &str) -> &str {
    part.split_once('?').map_or(part, |(path, _)| path)
}

/// Undoes percent-encoding (RFC 3986 §2.1); what is none stays.
fn percent(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.as_bytes();
    while let Some((first, rest)) = left.split_first() {
        let hex = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
        match (first, rest) {
            (b'%', [high, low, rest @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                bytes.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                left = rest;
            }
            _ => {
                bytes.push(*first);
                left = rest;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(app: &str, key: &str) -> Target {
        Target {
            app: app.into(),
            key: key.into(),
            tc_url: String::new(),
            client: String::new(),
        }
    }

    #[test]
    fn names_however_the_url_was_split() {
        for (app, key) in [
            ("live", "math/teacher"),
            ("live/", "/math/teacher"),
            ("live/math", "teacher"),
            ("live", "math/teacher?token=a.b-c_d"),
            ("live?token=a.b-c_d", "math/teacher"),
            ("live/math?token=a.b-c_d", "teacher"),
            ("live", "m%61th/teacher"),
            ("live/math/teacher", ""),
        ] {
            let (room, stream) = target(app, key).names().unwrap();
            assert_eq!(
                (room.as_str(), stream.as_str()),
                ("math", "teacher"),
                "{app} {key}"
            );
        }
    }

    #[test]
    fn query_wherever_it_stands() {
        let found = |t: Target| t.query("token");
        assert_eq!(found(target("live", "a/b?x=1&token=T")), Some("T".into()));
        assert_eq!(found(target("live?token=T%2e", "a/b")), Some("T.".into()));
        assert_eq!(found(target("live", "a/b?tokens=T")), None);
        let mut with_url = target("live", "a/b");
        with_url.tc_url = "rtmp://h/live?token=T".into();
        assert_eq!(found(with_url), Some("T".into()));
    }

    #[test]
    fn refuses_by_name_without_the_token() {
        let refused = |app, key| target(app, key).names().unwrap_err().to_string();
        assert_eq!(
            refused("vod", "a/b"),
            r#"application "vod" is unknown; use rtmp://HOST/live with key ROOM/STREAM"#
        );
        assert_eq!(
            refused("live", "teacher?token=secret"),
            r#""teacher" does not name a stream; use rtmp://HOST/live with key ROOM/STREAM"#
        );
        assert!(refused("live", "a/b/c").starts_with(r#""a/b/c" does not"#));
        assert!(refused("live", "a b/c").starts_with(r#"room "a b" holds ' '"#));
    }
}
