//! Users' tokens: JSON Web Tokens (RFC 7519), HS256, with LiveKit's grants, as edges read them.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use crate::{
    config::jwt_keys,
    failure::{Failure, Outcome, hint},
};

/// What a token allows.
pub struct Grant<'a> {
    /// Which room.
    pub room: &'a str,
    /// Who brings it: the same identity takes over its own stream.
    pub identity: &'a str,
    /// May publish.
    pub publish: bool,
    /// How long from now.
    pub seconds: u64,
    /// Whose rooms; `default` if none is named.
    pub tenant: Option<&'a str>,
}

/// Signs a token with the key `id`; without one, with the file's only or first key.
pub fn mint(keys: &Path, id: Option<&str>, grant: &Grant<'_>) -> Outcome<String> {
    let held = jwt_keys::read(keys)?;
    let (id, secret) = match id {
        Some(id) => held.get_key_value(id).ok_or_else(|| {
            let near = hint(id, held.keys().map(String::as_str));
            Failure::not_found(format!("{} holds no key {id:?}{near}", keys.display()))
        })?,
        None => held.first_key_value().ok_or_else(|| {
            Failure::not_found(format!(
                "{} holds no key; make one: longspan key create --file {}",
                keys.display(),
                keys.display()
            ))
        })?,
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut claims = json!({
        "iss": id,
        "sub": grant.identity,
        "nbf": now.as_secs(),
        "exp": now.as_secs() + grant.seconds,
        "video": { "roomJoin": true, "canPublish": grant.publish, "canSubscribe": true, "room": grant.room },
    });
    if let Some(tenant) = grant.tenant {
        claims["tenant"] = tenant.into();
    }
    let header = Header {
        kid: Some(id.clone()),
        ..Header::new(Algorithm::HS256)
    };
    jsonwebtoken::encode(
        &header,
        &claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .map_err(|error| Failure::failed(format!("cannot sign the token: {error}")))
}
