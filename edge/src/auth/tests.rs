use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::grants;

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
    assert_eq!(access.grants, grants::Grants::All);
    assert!(!access.hidden);
    let hidden = admit(with("video.hidden", json!(true)), Verb::Join);
    assert!(hidden.unwrap().hidden);
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
    let silent = admit(with("video.canPublishData", json!(false)), Verb::Join).unwrap();
    assert_eq!(silent.grants, grants::Grants::Nothing);
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

#[test]
fn the_claim_messages_narrows_what_may_be_said() {
    let claim = json!({"publish": [{"topic": "hand", "keys": ["hand/$member"]}]});
    let access = admit(with("messages", claim.clone()), Verb::Join).unwrap();
    let own = grants::Grants::read(claim.clone(), "teacher-7").unwrap();
    assert_eq!(access.grants, own);
    let mut silent = with("messages", claim);
    silent["video"]["canPublishData"] = json!(false);
    let silent = admit(silent, Verb::Join).unwrap();
    assert_eq!(silent.grants, grants::Grants::Nothing);
    let misspelt = json!({"publish": [{"topic": "hand", "key": ["hand/$member"]}]});
    let denied = admit(with("messages", misspelt), Verb::Watch).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "the token is not valid: its claim messages: unknown field `key`, expected one of `topic`, `class`, `keys`"
    );
}
