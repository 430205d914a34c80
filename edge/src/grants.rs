//! What a token's bearer may publish in a room: the claim `messages` (docs/messages.md).
//!
//! ```json
//! {"messages": {"publish": [
//!   {"topic": "chat", "class": ["log"]},
//!   {"topic": "hand", "class": ["state"], "keys": ["hand/$member"]},
//!   {"topic": "board", "keys": ["board/*"]}]}}
//! ```
//!
//! A message is allowed if one grant names its topic, its class and, where it has a key, its key; a
//! grant that names no classes or no keys means all of them. Topics and keys are patterns: a `*` at
//! the end stands for anything, `$member` and `$identity` for the token's subject. Without the claim
//! everything is allowed but what edges write themselves: [`RESERVED`]. Pure.

use longspan_proto::wire::envelope::Class;
use serde::Deserialize;

/// The topic under which edges say who is in a room; also the first part of its keys.
pub const RESERVED: &str = "presence";

/// Grants in a token.
pub const MAX_GRANTS: usize = 32;
/// Key patterns of a grant.
pub const MAX_KEYS: usize = 16;
/// A pattern, in bytes, as the token writes it: that of the longest key.
pub const MAX_PATTERN: usize = longspan_proto::wire::envelope::MAX_KEY;

/// Patterns that a refusal names; it says how many more there are.
const NAMED: usize = 8;

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grants {
    /// Everything that is not reserved.
    All,
    /// Nothing at all.
    Nothing,
    /// What one of these allows.
    These(Vec<Grant>),
}

/// What one entry of the claim allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    topic: Pattern,
    /// None: all.
    classes: Option<Vec<Class>>,
    /// None: all.
    keys: Option<Vec<Pattern>>,
}

/// A text, or how it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    text: String,
    /// Anything may follow.
    open: bool,
}

/// Why a message is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The token allows no publishing at all.
    #[error("the token does not allow publishing (video.canPublishData)")]
    Everything,
    /// Written by edges only.
    #[error("{what} {asked:?} is reserved: edges say there who is in the room")]
    Reserved {
        /// Topic or key.
        what: &'static str,
        /// What was asked.
        asked: String,
    },
    /// No grant names the topic.
    #[error("topic {asked:?} is not allowed by the token; {allowed}")]
    Topic {
        /// What was asked.
        asked: String,
        /// What is.
        allowed: String,
    },
    /// No grant of the topic names the class.
    #[error("class {asked} is not allowed by the token for topic {topic:?}; {allowed}")]
    Class {
        /// What was asked.
        asked: &'static str,
        /// For this topic.
        topic: String,
        /// What is.
        allowed: String,
    },
    /// No grant of topic and class names the key.
    #[error("key {asked:?} is not allowed by the token for topic {topic:?}; {allowed}")]
    Key {
        /// What was asked.
        asked: String,
        /// For this topic.
        topic: String,
        /// What is.
        allowed: String,
    },
}

impl Forbidden {
    /// For programs and counters.
    pub fn slug(&self) -> &'static str {
        match self {
            Forbidden::Everything => "forbidden",
            Forbidden::Reserved { what: "topic", .. } | Forbidden::Topic { .. } => {
                "forbidden_topic"
            }
            Forbidden::Class { .. } => "forbidden_class",
            Forbidden::Reserved { .. } | Forbidden::Key { .. } => "forbidden_key",
        }
    }
}

/// The claim as tokens write it. What is not known is refused: a restriction that is misspelt must
/// not vanish.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    publish: Vec<ClaimedGrant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimedGrant {
    topic: String,
    class: Option<Vec<String>>,
    keys: Option<Vec<String>>,
}

impl Grants {
    /// From the claim, for the bearer of this identity; what is wrong with it, in words.
    pub fn read(claim: serde_json::Value, identity: &str) -> Result<Grants, String> {
        let claim: Claim =
            serde_json::from_value(claim).map_err(|e| format!("its claim messages: {e}"))?;
        let count = claim.publish.len();
        if count > MAX_GRANTS {
            return Err(format!(
                "its claim messages.publish has {count} grants; the limit is {MAX_GRANTS}"
            ));
        }
        let read = |(at, grant): (usize, ClaimedGrant)| {
            Grant::read(grant, identity).map_err(|why| format!("messages.publish[{at}]: {why}"))
        };
        let grants = claim.publish.into_iter().enumerate().map(read);
        Ok(Grants::These(grants.collect::<Result<_, _>>()?))
    }

    /// Whether a message of this class, topic and key may be published.
    pub fn check(&self, class: Class, topic: &str, key: Option<&str>) -> Result<(), Forbidden> {
        let grants = match self {
            Grants::Nothing => return Err(Forbidden::Everything),
            Grants::All => &[][..],
            Grants::These(grants) => grants,
        };
        if topic == RESERVED {
            return Err(reserved("topic", topic));
        }
        if let Some(key) = key.filter(|key| is_reserved(key)) {
            return Err(reserved("key", key));
        }
        if *self == Grants::All {
            return Ok(());
        }
        let of_topic: Vec<&Grant> = grants.iter().filter(|g| g.topic.matches(topic)).collect();
        if of_topic.is_empty() {
            return Err(Forbidden::Topic {
                asked: topic.to_owned(),
                allowed: listed(grants.iter().map(|grant| grant.topic.to_string())),
            });
        }
        let takes = |grant: &&&Grant| grant.classes.as_ref().is_none_or(|c| c.contains(&class));
        let of_class: Vec<&Grant> = of_topic.iter().filter(takes).copied().collect();
        if of_class.is_empty() {
            let classes = of_topic.iter().flat_map(|grant| &grant.classes).flatten();
            return Err(Forbidden::Class {
                asked: class.name(),
                topic: topic.to_owned(),
                allowed: listed(classes.map(|class| class.name().to_owned())),
            });
        }
        let Some(key) = key else {
            return Ok(());
        };
        let mut keys = of_class.iter().map(|grant| &grant.keys);
        if keys.any(|keys| matches(keys.as_deref(), key)) {
            return Ok(());
        }
        let keys = of_class.iter().flat_map(|grant| &grant.keys).flatten();
        Err(Forbidden::Key {
            asked: key.to_owned(),
            topic: topic.to_owned(),
            allowed: listed(keys.map(Pattern::to_string)),
        })
    }
}

impl Grant {
    fn read(claimed: ClaimedGrant, identity: &str) -> Result<Grant, String> {
        let class = |name: &String| match name.as_str() {
            "log" => Ok(Class::Log),
            "state" => Ok(Class::State),
            "ephemeral" => Ok(Class::Ephemeral),
            other => Err(format!(
                "class {other:?}; log, state and ephemeral are known"
            )),
        };
        let classes = claimed.class.as_ref();
        let keys = claimed.keys.as_ref();
        let count = keys.map_or(0, Vec::len);
        if count > MAX_KEYS {
            return Err(format!("{count} keys; the limit is {MAX_KEYS}"));
        }
        let key = |key: &String| Pattern::read(key, identity);
        Ok(Grant {
            topic: Pattern::read(&claimed.topic, identity)?,
            classes: classes
                .map(|classes| classes.iter().map(class).collect())
                .transpose()?,
            keys: keys
                .map(|keys| keys.iter().map(key).collect())
                .transpose()?,
        })
    }
}

impl Pattern {
    fn read(written: &str, identity: &str) -> Result<Pattern, String> {
        if written.len() > MAX_PATTERN {
            let len = written.len();
            return Err(format!(
                "a pattern of {len} bytes; the limit is {MAX_PATTERN}"
            ));
        }
        // What stands for a name is put in afterwards: a name with `*` in it opens nothing.
        let (fixed, open) = match written.strip_suffix('*') {
            Some(fixed) => (fixed, true),
            None => (written, false),
        };
        if fixed.contains('*') {
            return Err(format!("pattern {written:?}: `*` may only end it"));
        }
        let mut parts = fixed.split('$');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_lowercase());
            let (name, rest) = part.split_at(end.unwrap_or(part.len()));
            if name != "member" && name != "identity" {
                return Err(format!(
                    "pattern {written:?}: ${name} is not known; $member and $identity are"
                ));
            }
            text.push_str(identity);
            text.push_str(rest);
        }
        Ok(Pattern { text, open })
    }

    fn matches(&self, asked: &str) -> bool {
        match self.open {
            true => asked.starts_with(&self.text),
            false => asked == self.text,
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(if self.open { "*" } else { "" })
    }
}

fn matches(keys: Option<&[Pattern]>, key: &str) -> bool {
    keys.is_none_or(|keys| keys.iter().any(|pattern| pattern.matches(key)))
}

/// Whether only edges write it.
fn is_reserved(key: &str) -> bool {
    key.strip_prefix(RESERVED)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn reserved(what: &'static str, asked: &str) -> Forbidden {
    Forbidden::Reserved {
        what,
        asked: asked.to_owned(),
    }
}

/// What is allowed, in words.
fn listed(all: impl Iterator<Item = String>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for one in all {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    let more = distinct.len().saturating_sub(NAMED);
    distinct.truncate(NAMED);
    match (distinct.is_empty(), more) {
        (true, _) => "none is".into(),
        (false, 0) => format!("allowed: {}", distinct.join(", ")),
        (false, more) => format!("allowed: {} and {more} more", distinct.join(", ")),
    }
}

#[cfg(test)]
mod tests;
