use proptest::{collection::vec, option, prelude::*};
use serde_json::{Value, json};

use super::*;

fn grants(publish: Value) -> Grants {
    Grants::read(json!({ "publish": publish }), "anna").unwrap()
}

fn wrong(claim: Value) -> String {
    Grants::read(claim, "anna").unwrap_err()
}

fn said(grants: &Grants, class: Class, topic: &str, key: Option<&str>) -> String {
    match grants.check(class, topic, key) {
        Ok(()) => "allowed".into(),
        Err(forbidden) => format!("{}: {forbidden}", forbidden.slug()),
    }
}

fn pupil() -> Grants {
    grants(json!([
        { "topic": "chat", "class": ["log"] },
        { "topic": "hand", "class": ["state"], "keys": ["hand/$member"] },
        { "topic": "draw/*", "keys": ["draw/$identity/*"] },
    ]))
}

#[test]
fn a_grant_allows_its_topics_classes_and_keys_and_no_others() {
    let pupil = pupil();
    for (class, topic, key) in [
        (Class::Log, "chat", None),
        (Class::State, "hand", Some("hand/anna")),
        (Class::State, "draw/a", Some("draw/anna/")),
        (Class::Ephemeral, "draw/", Some("draw/anna/7")),
        // A label is not asked for where there is none.
        (Class::Ephemeral, "draw/b", None),
    ] {
        assert_eq!(said(&pupil, class, topic, key), "allowed", "{topic}");
    }
    for (class, topic, key, want) in [
        (
            Class::Log,
            "chats",
            None,
            r#"forbidden_topic: topic "chats" is not allowed by the token; allowed: chat, hand, draw/*"#,
        ),
        (
            Class::State,
            "chat",
            Some("hand/anna"),
            r#"forbidden_class: class state is not allowed by the token for topic "chat"; allowed: log"#,
        ),
        (
            Class::State,
            "hand",
            Some("hand/annabel"),
            r#"forbidden_key: key "hand/annabel" is not allowed by the token for topic "hand"; allowed: hand/anna"#,
        ),
        (
            Class::Ephemeral,
            "draw/x",
            Some("draw/ben/7"),
            r#"forbidden_key: key "draw/ben/7" is not allowed by the token for topic "draw/x"; allowed: draw/anna/*"#,
        ),
    ] {
        assert_eq!(said(&pupil, class, topic, key), want);
    }
    let none = grants(json!([]));
    assert_eq!(
        said(&none, Class::Log, "chat", None),
        r#"forbidden_topic: topic "chat" is not allowed by the token; none is"#
    );
    assert_eq!(
        said(&Grants::Nothing, Class::Log, "chat", None),
        "forbidden: the token does not allow publishing (video.canPublishData)"
    );
}

#[test]
fn any_grant_is_enough_and_they_do_not_mix() {
    let grants = grants(json!([
        { "topic": "a", "class": ["state"], "keys": ["x"] },
        { "topic": "*", "class": ["ephemeral"] },
    ]));
    let ok = |class, topic, key| grants.check(class, topic, key).is_ok();
    assert!(ok(Class::State, "a", Some("x")));
    assert!(ok(Class::Ephemeral, "a", Some("y")));
    assert!(!ok(Class::State, "a", Some("y")));
    assert!(!ok(Class::State, "b", Some("x")));
}

#[test]
fn what_edges_write_is_reserved_whatever_the_token_says() {
    let generous = grants(json!([{ "topic": "*" }]));
    for grants in [&Grants::All, &generous] {
        let said = |topic, key| said(grants, Class::State, topic, key);
        assert_eq!(
            said("presence", Some("a")),
            r#"forbidden_topic: topic "presence" is reserved: edges say there who is in the room"#
        );
        for key in ["presence", "presence/", "presence/anna"] {
            assert!(said("chat", Some(key)).starts_with("forbidden_key: key"));
        }
        for key in ["presences", "a/presence", "a"] {
            assert_eq!(said("chat", Some(key)), "allowed");
        }
    }
}

#[test]
fn a_name_opens_nothing() {
    let claim = json!({ "publish": [{ "topic": "hand", "keys": ["hand/$member"] }] });
    let grants = Grants::read(claim, "a*$identity").unwrap();
    let ok = |key| grants.check(Class::State, "hand", Some(key)).is_ok();
    assert!(ok("hand/a*$identity"));
    assert!(!ok("hand/abc") && !ok("hand/a"));
}

#[test]
fn a_claim_that_is_not_understood_is_refused_with_the_place() {
    for (claim, want) in [
        (
            json!([]),
            "its claim messages: invalid length 0, expected struct Claim with 1 element",
        ),
        (json!({}), "its claim messages: missing field `publish`"),
        (
            json!({ "publish": [], "subscribe": [] }),
            "its claim messages: unknown field `subscribe`, expected `publish`",
        ),
        (
            json!({ "publish": [{ "topic": "a", "key": ["k"] }] }),
            "its claim messages: unknown field `key`, expected one of `topic`, `class`, `keys`",
        ),
        (
            json!({ "publish": [{ "topic": "a" }, { "topic": "b", "class": ["loud"] }] }),
            r#"messages.publish[1]: class "loud"; log, state and ephemeral are known"#,
        ),
        (
            json!({ "publish": [{ "topic": "a*b" }] }),
            r#"messages.publish[0]: pattern "a*b": `*` may only end it"#,
        ),
        (
            json!({ "publish": [{ "topic": "a", "keys": ["$members/x"] }] }),
            r#"messages.publish[0]: pattern "$members/x": $members is not known; $member and $identity are"#,
        ),
        (
            json!({ "publish": vec![json!({ "topic": "a" }); MAX_GRANTS + 1] }),
            "its claim messages.publish has 33 grants; the limit is 32",
        ),
        (
            json!({ "publish": [{ "topic": "a", "keys": vec!["k"; MAX_KEYS + 1] }] }),
            "messages.publish[0]: 17 keys; the limit is 16",
        ),
        (
            json!({ "publish": [{ "topic": "a".repeat(MAX_PATTERN + 1) }] }),
            "messages.publish[0]: a pattern of 129 bytes; the limit is 128",
        ),
    ] {
        assert_eq!(wrong(claim), want);
    }
    grants(json!(vec![
        json!({ "topic": "a".repeat(MAX_PATTERN) });
        MAX_GRANTS
    ]));
}

#[test]
fn a_refusal_stays_short() {
    let many: Vec<Value> = (0..MAX_GRANTS)
        .map(|at| json!({ "topic": format!("topic-{at}") }))
        .collect();
    let said = said(&grants(json!(many)), Class::Log, "chat", None);
    assert!(said.ends_with("topic-7 and 24 more"), "{said}");
}

proptest! {
    /// Grants are a union: what a longer list refuses, none of its grants allows alone.
    #[test]
    fn a_list_allows_what_one_of_it_allows(
        list in vec(("[ab]{0,2}\\*?", option::of(vec(0usize..3, 0..3)), option::of(vec("[ab]{0,2}\\*?", 0..3))), 0..4),
        topic in "[ab]{0,3}", class in 0usize..3, key in option::of("[ab]{0,3}"),
    ) {
        let names = ["log", "state", "ephemeral"];
        let written: Vec<Value> = list.into_iter().map(|(topic, classes, keys)| {
            let mut grant = json!({ "topic": topic });
            if let Some(classes) = classes {
                grant["class"] = classes.into_iter().map(|class| names[class]).collect();
            }
            if let Some(keys) = keys {
                grant["keys"] = json!(keys);
            }
            grant
        }).collect();
        let class = [Class::Log, Class::State, Class::Ephemeral][class];
        let allowed = |list: Value| grants(list).check(class, &topic, key.as_deref()).is_ok();
        let one = written.iter().any(|grant| allowed(json!([grant])));
        prop_assert_eq!(allowed(json!(written)), one);
    }
}
