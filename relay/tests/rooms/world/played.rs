//! What was met on the way.

use std::{collections::BTreeMap, fmt};

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Played {
    pub events: u64,
    counts: BTreeMap<&'static str, u64>,
}

impl Played {
    pub fn count(&mut self, what: &'static str, by: u64) {
        *self.counts.entry(what).or_default() += by;
    }

    pub fn add(&mut self, other: &Played) {
        self.events += other.events;
        for (what, count) in &other.counts {
            self.count(what, *count);
        }
    }

    #[cfg(test)]
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }
}

impl fmt::Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events", self.events)?;
        for (what, count) in &self.counts {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}
