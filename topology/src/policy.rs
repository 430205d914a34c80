//! What a room asks of its paths (DESIGN §4): a constraint, never a weight.

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::graph::{Country, Node};

/// Most policy classes of a backbone: each has its own paths in every table.
pub const MAX_CLASSES: usize = 64;

/// What a room is for.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// People talk with each other.
    #[default]
    Interactive,
    /// One talks, others ask now and then.
    Lecture,
    /// Nobody answers.
    Broadcast,
}

impl Mode {
    /// Within this delivery latency the cheapest path wins; beyond it the quickest does.
    pub fn budget(self) -> Duration {
        match self {
            // ITU-T G.114: up to 150 ms one way a talk does not suffer.
            Mode::Interactive => Duration::from_millis(150),
            // ITU-T G.114: above 400 ms one way no planning is acceptable.
            Mode::Lecture => Duration::from_millis(400),
            // Well below the target latency of low-latency HLS (two to five seconds).
            Mode::Broadcast => Duration::from_secs(2),
        }
    }
}

/// A policy class: rooms that agree in both have the same paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// Its latency budget.
    pub mode: Mode,
    /// The countries that tracks may cross; empty: all.
    pub residency: BTreeSet<Country>,
}

impl Class {
    /// Whether paths of this class may touch a relay: begin, cross or end. A relay whose country is
    /// unknown is in no country that is allowed.
    pub fn allows(&self, node: &Node) -> bool {
        self.residency.is_empty() || node.country.is_some_and(|c| self.residency.contains(&c))
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Interactive => "interactive",
            Mode::Lecture => "lecture",
            Mode::Broadcast => "broadcast",
        };
        f.write_str(mode)?;
        for (place, country) in self.residency.iter().enumerate() {
            f.write_str(if place == 0 { " within " } else { ", " })?;
            f.write_str(&String::from_utf8_lossy(country))?;
        }
        Ok(())
    }
}

/// One class more than there may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy class \"{class}\" would be one more than the limit of {limit}")]
pub struct TooMany {
    /// What was asked for.
    pub class: Class,
    /// [`MAX_CLASSES`].
    pub limit: usize,
}

/// The classes in use, by number. Number 0 is the default class and always there.
#[derive(Debug, Clone)]
pub struct Classes(Vec<Class>);

impl Default for Classes {
    fn default() -> Classes {
        Classes(vec![Class::default()])
    }
}

impl Classes {
    /// The number of a class, which it gets now if it is new.
    pub fn number(&mut self, class: &Class) -> Result<u8, TooMany> {
        if let Some(number) = self.0.iter().position(|known| known == class) {
            return Ok(number as u8);
        }
        if self.0.len() >= MAX_CLASSES {
            let (class, limit) = (class.clone(), MAX_CLASSES);
            return Err(TooMany { class, limit });
        }
        self.0.push(class.clone());
        Ok((self.0.len() - 1) as u8)
    }

    /// A class by its number.
    pub fn get(&self, number: u8) -> Option<&Class> {
        self.0.get(usize::from(number))
    }

    /// All, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &Class)> {
        self.0.iter().enumerate().map(|(n, class)| (n as u8, class))
    }
}

#[cfg(test)]
mod tests {
    use longspan_proto::wire::Role;

    use super::*;

    #[test]
    fn the_class_after_the_last_is_refused_with_the_limit() {
        let mut classes = Classes::default();
        assert_eq!(classes.number(&Class::default()), Ok(0));
        let within = |n: u8| Class {
            mode: Mode::Lecture,
            residency: [[b'A', n]].into(),
        };
        for n in 1..64 {
            assert_eq!(classes.number(&within(n)), Ok(n));
        }
        assert_eq!(classes.number(&within(7)), Ok(7), "one that is known");
        let refused = classes.number(&within(b'Z')).unwrap_err().to_string();
        assert_eq!(
            refused,
            "the policy class \"lecture within AZ\" would be one more than the limit of 64"
        );
        assert_eq!(classes.iter().count(), MAX_CLASSES);
    }

    #[test]
    fn an_unknown_country_is_in_no_set() {
        let at = |country| Node {
            country,
            ..Node::new(Role::Relay)
        };
        let within = Class {
            residency: [*b"CN", *b"HK"].into(),
            ..Class::default()
        };
        assert!(within.allows(&at(Some(*b"HK"))));
        assert!(!within.allows(&at(Some(*b"SG"))));
        assert!(!within.allows(&at(None)));
        assert!(Class::default().allows(&at(None)));
    }
}
