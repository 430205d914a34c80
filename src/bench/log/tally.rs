//! What the members count together.

use std::collections::BTreeMap;

use super::super::report::Distribution;

/// What was counted.
#[derive(Default)]
pub struct Tally {
    /// From when a message was due to be said until a member has it.
    pub delivery: Distribution,
    /// And until it has come to the member's socket: the member itself shares the edges' cores.
    pub arrival: Distribution,
    /// And until its publisher has its ack.
    pub ack: Distribution,
    /// When each acked message was due, and when its ack came, by the crowd's clock in µs.
    pub acks: Vec<(u64, u64)>,
    /// From connecting until the whole state is there.
    pub join: Distribution,
    /// Messages that were given.
    pub given: u64,
    /// Gaps that were told.
    pub gaps: u64,
    /// Messages that were given twice.
    pub duplicates: u64,
    /// Messages that were left out without a word.
    pub skipped: u64,
    /// Refused messages by reason.
    pub errors: BTreeMap<String, u64>,
    /// Connections that ended by themselves, by reason.
    pub lost: BTreeMap<String, u64>,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.delivery.add(&other.delivery);
        self.arrival.add(&other.arrival);
        self.ack.add(&other.ack);
        self.acks.extend(&other.acks);
        self.join.add(&other.join);
        self.given += other.given;
        self.gaps += other.gaps;
        self.duplicates += other.duplicates;
        self.skipped += other.skipped;
        for (into, from) in [
            (&mut self.errors, &other.errors),
            (&mut self.lost, &other.lost),
        ] {
            for (reason, count) in from {
                *into.entry(reason.clone()).or_default() += count;
            }
        }
    }

    /// Messages that their publisher has heard of.
    pub fn answered(&self) -> u64 {
        self.ack_count() + self.errors.values().sum::<u64>()
    }

    /// Messages that were acked.
    pub fn ack_count(&self) -> u64 {
        self.ack.count()
    }
}
