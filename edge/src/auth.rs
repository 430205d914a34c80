//! Who may do what in a room: JSON Web Tokens (RFC 7519), HS256, with LiveKit's grants.
//!
//! ```json
//! {"sub":"teacher-7","exp":1800000000,"tenant":"school-3",
//!  "video":{"room":"math","roomJoin":true,"canPublish":true,"canSubscribe":true,"canPublishData":true},
//!  "messages":{"publish":[{"topic":"chat","class":["log"]}]}}
//! ```
//!
//! As LiveKit does, a grant that is not named is given: `roomJoin` alone allows everything in the
//! room; the claim `messages` narrows what may be said there ([`crate::grants`]). The key is chosen by the header's `kid` or the claim `iss`; without either all are tried.
//! A token is looked at when somebody enters (for HLS: at each request); that it expires later does
//! not end what runs. Pure: the time is an argument.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, dangerous};
use longspan_proto::ids::{Room, RoomName, Tenant};
use serde::Deserialize;

use crate::grants;

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
    /// Be a member of the room's messages (which of them may be published: [`Access::grants`]).
    Join,
}

/// Who somebody is and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The room, in the token's tenant.
    pub room: RoomName,
    /// The token's subject; empty for the anonymous identity of an open edge.
    pub identity: String,
    /// Which messages may be published.
    pub grants: grants::Grants,
    /// Presence does not tell of whoever this is.
    pub hidden: bool,
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
    terms: RwLock<Terms>,
    validation: Validation,
}

/// What a reload may change.
struct Terms {
    open: bool,
    keys: Vec<(String, DecodingKey)>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("open", &self.terms().open)
            .finish()
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
    /// Read once the token is known to be genuine, so that what is wrong with it can be said.
    messages: Option<serde_json::Value>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Grants {
    room: Option<String>,
    room_join: bool,
    can_publish: Option<bool>,
    can_subscribe: Option<bool>,
    can_publish_data: Option<bool>,
    hidden: Option<bool>,
}

impl Auth {
    /// Takes the keys.
    pub fn new(config: &Config) -> Result<Auth, ConfigError> {
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are checked here, against an argument; a token says what it is for by its room.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Ok(Auth {
            terms: RwLock::new(Terms::new(config)?),
            validation,
        })
    }

    /// Takes other keys for whoever comes from now on; keeps the old ones where it refuses.
    pub fn change(&self, config: &Config) -> Result<(), ConfigError> {
        let terms = Terms::new(config)?;
        *self.terms.write().unwrap_or_else(PoisonError::into_inner) = terms;
        Ok(())
    }

    fn terms(&self) -> RwLockReadGuard<'_, Terms> {
        self.terms.read().unwrap_or_else(PoisonError::into_inner)
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
            return if self.terms().open {
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
        let grants = match (claims.messages, grants.can_publish_data) {
            (Some(claim), allowed) => {
                let read = grants::Grants::read(claim, &identity).map_err(Denied::Invalid)?;
                match allowed {
                    Some(false) => grants::Grants::Nothing,
                    _ => read,
                }
            }
            (None, Some(false)) => grants::Grants::Nothing,
            (None, _) => grants::Grants::All,
        };
        Ok(Access {
            room: RoomName {
                tenant,
                room: room.clone(),
            },
            identity,
            grants,
            hidden: claims.video.hidden == Some(true),
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
        let terms = self.terms();
        let mut candidates = terms
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

impl Terms {
    fn new(config: &Config) -> Result<Terms, ConfigError> {
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
        Ok(Terms {
            open: config.open,
            keys,
        })
    }
}

fn anonymous(room: &Room) -> Access {
    Access {
        room: RoomName {
            tenant: Tenant::default_tenant(),
            room: room.clone(),
        },
        identity: String::new(),
        grants: grants::Grants::All,
        hidden: false,
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
mod tests;
