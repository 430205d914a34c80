//! What is done to the world: each operation says itself when, to whom and for how long, so that
//! others can be dropped without changing it.

use std::{fmt, str::FromStr, time::Duration};

use crate::Dice;

/// What is done. Numbers are taken modulo what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The publisher of slot `a` leaves, and comes back after.
    Publish,
    /// A viewer comes to edge `a` for slot `b`, and leaves after.
    View,
    /// Catalogs say more.
    Say,
    /// Link `a` loses everything.
    Cut,
    /// Link `a` loses everything from side `b`.
    CutOneWay,
    /// Link `a` browns out.
    Brown,
    /// Node `a` is killed, and started again after.
    Kill,
    /// Node `a` is stopped, and continued after.
    Stop,
    /// Relay `a` says goodbye, is killed 5 s later, and started again after.
    Drain,
    /// Links between the regions below `a` and the others lose everything.
    Partition,
    /// Controller `a` is killed.
    KillController,
    /// Controller `a` is stopped.
    StopController,
    /// The store is lost.
    LoseStore,
    /// Tables are told that are false in the manner of `a`; then true ones. By hand only.
    FalseTables,
    /// Side `b` of link `a` suspects it. By hand only.
    Suspect,
}

const NAMES: [(What, &str); 15] = [
    (What::Publish, "publish"),
    (What::View, "view"),
    (What::Say, "say"),
    (What::Cut, "cut"),
    (What::CutOneWay, "cut-one-way"),
    (What::Brown, "brown"),
    (What::Kill, "kill"),
    (What::Stop, "stop"),
    (What::Drain, "drain"),
    (What::Partition, "partition"),
    (What::KillController, "kill-controller"),
    (What::StopController, "stop-controller"),
    (What::LoseStore, "lose-store"),
    (What::FalseTables, "false-tables"),
    (What::Suspect, "suspect"),
];

/// One operation: begins at `at`, ends `for_` later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// After the world has settled.
    pub at: Duration,
    /// How long it lasts.
    pub for_: Duration,
    /// What is done.
    pub what: What,
    /// To whom.
    pub a: u64,
    /// See [`What`].
    pub b: u64,
}

impl What {
    /// Whether it disturbs those who are fed.
    pub fn is_fault(self) -> bool {
        !matches!(self, What::View | What::Say)
    }
}

impl Op {
    /// A fault of a backbone with controllers, drawn.
    pub fn fault(at: Duration, for_: Duration, dice: &mut Dice) -> Op {
        let what = match dice.below(100) {
            0..22 => What::Cut,
            22..34 => What::CutOneWay,
            34..44 => What::Brown,
            44..58 => What::Kill,
            58..68 => What::Stop,
            68..74 => What::Drain,
            74..78 => What::Partition,
            78..84 => What::KillController,
            84..90 => What::StopController,
            90..96 => What::LoseStore,
            _ => What::Publish,
        };
        Op {
            at,
            for_,
            what,
            a: dice.below(1 << 20),
            b: dice.below(1 << 20),
        }
    }
}

/// `AT+FOR WHAT A B`, times in ms.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(what, _)| *what == self.what);
        let name = name.map_or("?", |(_, name)| name);
        let (at, for_) = (self.at.as_millis(), self.for_.as_millis());
        write!(f, "{at}+{for_} {name} {} {}", self.a, self.b)
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(text: &str) -> Result<Op, String> {
        let wrong = || format!("{text:?} is no operation; one reads AT+FOR WHAT A B");
        let [when, name, a, b] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(wrong());
        };
        let (at, for_) = when.split_once('+').ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let what = NAMES.iter().find(|(_, known)| *known == name);
        Ok(Op {
            at: Duration::from_millis(number(at)?),
            for_: Duration::from_millis(number(for_)?),
            what: what.ok_or_else(wrong)?.0,
            a: number(a)?,
            b: number(b)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_read_back() {
        for (what, _) in NAMES {
            let op = Op {
                at: Duration::from_millis(12_345),
                for_: Duration::from_millis(6),
                what,
                a: 7,
                b: 8,
            };
            assert_eq!(op.to_string().parse(), Ok(op));
        }
        assert!("1+2 dance 3 4".parse::<Op>().is_err());
    }
}
