//! Who may do what in a room: JSON Web Tokens (RFC 7519), HS256, with LiveKit's grants.
//!
//! ```json
//! {"sub":"teacher-7","exp":1800000000,"tenant":"school-3",
//!  "video":{"room":"math","roomJoin":true,"canPublish":true,"canSubscribe":true,"canPublishData":true}}
//! ```
//!
//! As LiveKit does, a grant that is not named is given: `roomJoin` alone allows everything in the
//! room. The key is chosen by the header's `kid` or the claim `iss`; without either all are tried.
//! Pure: the time is an argument.

use std::{collections::BTreeMap, fmt};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, dangerous};
use longspan_proto::ids::{Room, RoomName, Tenant};
use serde::Deserialize;

/// The shortest secret: the hash's own length (RFC 7518 §3.2).
pub const MIN_SECRET: usize = 32;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;

/// The longest `sub`, in bytes: it is kept with every stream the identity publishes.
pub const MAX_IDENTITY: usize = 256;

/// How far the clocks of whoever issues tokens and of this edge may differ, in seconds.
pub const LEEWAY: u64 = 10;

/// The keys of the tokens an edge accepts, and whether it asks for one.
#[derive(Clone, Default)]
pub struct Config {
    /// Whoever brings no token may do everything, as the anonymous identity of the tenant
    /// `default`. A token that is brought is checked nevertheless.
    pub open: bool,
    /// Secrets by key id, each at least [`MIN_SECRET`] bytes.
    pub jwt_keys: BTreeMap<String, String>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.jwt_keys.keys().map(String::as_str).collect();
        f.debug_struct("Config")
            .field("open", &self.open)
            .field("jwt_keys", &ids)
            .finish()
    }
}

/// Why keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Too short to be safe.
    #[error(
        "auth: the secret of key {id:?} has {len} bytes; HS256 needs at least {MIN_SECRET} (RFC 7518 §3.2)"
    )]
    ShortSecret {
        /// The key's id.
        id: String,
        /// The secret's length.
        len: usize,
    },
    /// Nobody could ever enter.
    #[error("auth: the edge is not open and has no jwt_keys: nobody could enter; set one of them")]
    NobodyEnters,
}

/// What somebody wants to do in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Publish a stream.
    Publish,
    /// Watch streams, and see what is in the room.
    Watch,
    /// Be a member of the room's messages (publishing them needs [`Access::talk`]).
    Join,
}

/// Who somebody is and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The room, in the token's tenant.
    pub room: RoomName,
    /// The token's subject; empty for the anonymous identity of an open edge.
    pub identity: String,
    /// May publish messages.
    pub talk: bool,
    /// When the token ends, in seconds since the Unix epoch; never for the anonymous.
    pub expires: Option<u64>,
}

/// Why somebody is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no token, and the edge is not open.
    #[error("a token is needed: Authorization: Bearer, ?token= or ?jwt=")]
    Missing,
    /// The token proves nothing.
    #[error("the token is not valid: {0}")]
    Invalid(String),
    /// The token is valid, for something else.
    #[error("the token does not allow it: {0}")]
    Forbidden(String),
}

impl Denied {
    /// For errors and counters.
    pub fn slug(&self) -> &'static str {
        match self {
            Denied::Missing => "token_missing",
            Denied::Invalid(_) => "token_invalid",
            Denied::Forbidden(_) => "forbidden",
        }
    }
}

/// Decides who enters.
pub struct Auth {
    open: bool,
    keys: Vec<(String, DecodingKey)>,
    validation: Validation,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("open", &self.open).finish()
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    iss: Option<String>,
    exp: Option<u64>,
    nbf: Option<u64>,
    tenant: Option<String>,
    #[serde(default)]
    video: Grants,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Grants {
    room: Option<String>,
    room_join: bool,
    can_publish: Option<bool>,
    can_subscribe: Option<bool>,
    can_publish_data: Option<bool>,
}

impl Auth {
    /// Takes the keys.
    pub fn new(config: &Config) -> Result<Auth, ConfigError> {
        if !config.open && config.jwt_keys.is_empty() {
            return Err(ConfigError::NobodyEnters);
        }
        let mut keys = Vec::with_capacity(config.jwt_keys.len());
        for (id, secret) in &config.jwt_keys {
            if secret.len() < MIN_SECRET {
                return Err(ConfigError::ShortSecret {
                    id: id.clone(),
                    len: secret.len(),
                });
            }
            keys.push((id.clone(), DecodingKey::from_secret(secret.as_bytes())));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are checked here, against an argument; a token says what it is for by its room.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Ok(Auth {
            open: config.open,
            keys,
            validation,
        })
    }

    /// Decides whether the bearer of `token` may do `verb` in `room`; `now` in seconds since the
    /// Unix epoch.
    pub fn admit(
        &self,
        token: Option<&str>,
        room: &Room,
        verb: Verb,
        now: u64,
    ) -> Result<Access, Denied> {
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return if self.open {
                Ok(anonymous(room))
            } else {
                Err(Denied::Missing)
            };
        };
        let claims = self.verify(token)?;
        let expires = check_times(&claims, now)?;
        let grants = &claims.video;
        if !grants.room_join {
            return Err(forbidden("it has no grant video.roomJoin"));
        }
        match &grants.room {
            Some(granted) if granted == room.as_str() => {}
            Some(granted) => {
                return Err(Denied::Forbidden(format!("it is for the room {granted:?}")));
            }
            None => return Err(forbidden("it names no room in video.room")),
        }
        let (allowed, grant) = match verb {
            Verb::Publish => (grants.can_publish, "canPublish"),
            Verb::Watch => (grants.can_subscribe, "canSubscribe"),
            Verb::Join => (None, "roomJoin"),
        };
        if allowed == Some(false) {
            return Err(Denied::Forbidden(format!("video.{grant} is false")));
        }
        let tenant = match &claims.tenant {
            None => Tenant::default_tenant(),
            Some(tenant) => Tenant::new(tenant).map_err(|e| Denied::Invalid(e.to_string()))?,
        };
        let identity = claims.sub.unwrap_or_default();
        if identity.is_empty() || identity.len() > MAX_IDENTITY {
            return Err(Denied::Invalid(format!(
                "its subject has {} bytes; 1 to {MAX_IDENTITY} are allowed",
                identity.len()
            )));
        }
        Ok(Access {
            room: RoomName {
                tenant,
                room: room.clone(),
            },
            identity,
            talk: grants.can_publish_data != Some(false),
            expires: Some(expires),
        })
    }

    fn verify(&self, token: &str) -> Result<Claims, Denied> {
        if token.len() > MAX_TOKEN {
            return Err(Denied::Invalid(format!(
                "it has {} bytes; the limit is {MAX_TOKEN}",
                token.len()
            )));
        }
        let header = jsonwebtoken::decode_header(token).map_err(unreadable)?;
        if header.alg != Algorithm::HS256 {
            return Err(Denied::Invalid(format!(
                "its algorithm is {:?}; HS256 is accepted",
                header.alg
            )));
        }
        let id = match header.kid {
            Some(kid) => Some(kid),
            // Not trusted: it only chooses with which key the signature is checked.
            None => {
                dangerous::insecure_decode_claims::<Claims>(token)
                    .map_err(unreadable)?
                    .iss
            }
        };
        let mut candidates = self
            .keys
            .iter()
            .filter(|(known, _)| id.as_ref().is_none_or(|id| id == known))
            .peekable();
        if candidates.peek().is_none() {
            return Err(invalid("its key id (kid or iss) is not known here"));
        }
        candidates
            .find_map(|(_, key)| jsonwebtoken::decode::<Claims>(token, key, &self.validation).ok())
            .map(|data| data.claims)
            .ok_or_else(|| invalid("its signature is wrong"))
    }
}

fn anonymous(room: &Room) -> Access {
    Access {
        room: RoomName {
            tenant: Tenant::default_tenant(),
            room: room.clone(),
        },
        identity: String::new(),
        talk: true,
        expires: None,
    }
}

fn check_times(claims: &Claims, now: u64) -> Result<u64, Denied> {
    let expires = claims
        .exp
        .ok_or_else(|| invalid("it never expires (exp)"))?;
    if expires.saturating_add(LEEWAY) <= now {
        return Err(Denied::Invalid(format!(
            "it expired {} s ago",
            now - expires
        )));
    }
    if let Some(from) = claims.nbf
        && from > now.saturating_add(LEEWAY)
    {
        return Err(Denied::Invalid(format!(
            "it becomes valid in {} s",
            from - now
        )));
    }
    Ok(expires)
}

fn unreadable(error: jsonwebtoken::errors::Error) -> Denied {
    Denied::Invalid(format!("it cannot be read ({error})"))
}

fn invalid(why: &str) -> Denied {
    Denied::Invalid(why.to_owned())
}

fn forbidden(why: &str) -> Denied {
    Denied::Forbidden(why.to_owned())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn auth(open: bool) -> Auth {
        Auth::new(&Config {
            open,
            jwt_keys: [("school".to_owned(), SECRET.to_owned())].into(),
        })
        .unwrap()
    }

    fn room() -> Room {
        Room::new("math").unwrap()
    }

    fn sign(claims: &Value, secret: &str) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::default(), claims, &key).unwrap()
    }

    fn claims() -> Value {
        json!({"sub": "teacher-7", "iss": "school", "exp": NOW + 60,
               "video": {"room": "math", "roomJoin": true}})
    }

    fn admit(claims: Value, verb: Verb) -> Result<Access, Denied> {
        auth(false).admit(Some(&sign(&claims, SECRET)), &room(), verb, NOW)
    }

    fn with(path: &str, value: Value) -> Value {
        let mut claims = claims();
        match path.split_once('.') {
            Some((outer, inner)) => claims[outer][inner] = value,
            None => claims[path] = value,
        }
        claims
    }

    #[test]
    fn a_livekit_token_opens_its_room() {
        let access = admit(with("tenant", json!("school-3")), Verb::Publish).unwrap();
        assert_eq!(access.room.to_string(), "school-3/math");
        assert_eq!(access.identity, "teacher-7");
        assert_eq!(access.expires, Some(NOW + 60));
        assert!(access.talk);
        assert_eq!(
            admit(claims(), Verb::Watch).unwrap().room.to_string(),
            "default/math"
        );
    }

    #[test]
    fn grants_are_obeyed() {
        for (path, verb) in [
            ("video.canPublish", Verb::Publish),
            ("video.canSubscribe", Verb::Watch),
            ("video.roomJoin", Verb::Join),
        ] {
            let denied = admit(with(path, json!(false)), verb).unwrap_err();
            assert_eq!(denied.slug(), "forbidden", "{path}");
        }
        assert!(admit(with("video.canPublish", json!(false)), Verb::Watch).is_ok());
        assert!(
            !admit(with("video.canPublishData", json!(false)), Verb::Join)
                .unwrap()
                .talk
        );
        let other = admit(with("video.room", json!("physics")), Verb::Watch).unwrap_err();
        assert_eq!(
            other.to_string(),
            r#"the token does not allow it: it is for the room "physics""#
        );
    }

    #[test]
    fn times_count_on_both_sides_of_the_leeway() {
        let at = |path, value: u64| admit(with(path, json!(value)), Verb::Watch);
        assert!(at("exp", NOW - LEEWAY + 1).is_ok());
        assert_eq!(at("exp", NOW - LEEWAY).unwrap_err().slug(), "token_invalid");
        assert!(at("nbf", NOW + LEEWAY).is_ok());
        assert_eq!(
            at("nbf", NOW + LEEWAY + 1).unwrap_err().to_string(),
            "the token is not valid: it becomes valid in 11 s"
        );
        let mut eternal = claims();
        eternal.as_object_mut().unwrap().remove("exp");
        assert!(admit(eternal, Verb::Watch).is_err());
    }

    #[test]
    fn forgeries_are_refused_with_the_reason() {
        let refused = |token: &str| {
            let denied = auth(true).admit(Some(token), &room(), Verb::Watch, NOW);
            denied.unwrap_err().to_string()
        };
        let other = sign(&claims(), "another secret of at least 32 bytes");
        assert_eq!(
            refused(&other),
            "the token is not valid: its signature is wrong"
        );
        let unknown = sign(&with("iss", json!("nobody")), SECRET);
        assert!(refused(&unknown).contains("not known here"));
        assert!(refused("garbage").contains("cannot be read"));
        assert!(refused(&"x".repeat(MAX_TOKEN + 1)).contains("the limit is 8192"));
        // {"alg":"none"}
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.";
        assert!(refused(none).contains("cannot be read"));
        let nobody = sign(&with("sub", json!("")), SECRET);
        assert!(refused(&nobody).contains("subject"));
    }

    #[test]
    fn without_a_token_only_an_open_edge_is_entered() {
        let nobody = auth(true).admit(None, &room(), Verb::Publish, NOW).unwrap();
        assert_eq!((nobody.identity.as_str(), nobody.expires), ("", None));
        assert_eq!(
            auth(false).admit(None, &room(), Verb::Watch, NOW),
            Err(Denied::Missing)
        );
    }

    #[test]
    fn unsafe_keys_are_refused() {
        let config = |open, secret: Option<&str>| Config {
            open,
            jwt_keys: secret
                .map(|s| ("k".to_owned(), s.to_owned()))
                .into_iter()
                .collect(),
        };
        assert_eq!(
            Auth::new(&config(false, None)).unwrap_err(),
            ConfigError::NobodyEnters
        );
        assert!(matches!(
            Auth::new(&config(true, Some(&SECRET[1..]))),
            Err(ConfigError::ShortSecret { len: 31, .. })
        ));
        assert!(!format!("{:?}", config(true, Some(SECRET))).contains(SECRET));
    }
}
