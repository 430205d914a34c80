//! What links carry, as operators configure it (DESIGN §4): one default, and rules for nets, regions
//! and links. The most particular one counts.

use std::collections::BTreeMap;

use longspan_proto::ids::{NameError, Net, NodeId, Region};

/// What a link carries unless it is configured, in Mbit/s: what nodes' congestion control assumes too.
const DEFAULT_MBPS: f64 = 200.0;
/// The least that is believed of a link, in Mbit/s: less does not carry one voice and its overhead.
const LEAST_MBPS: f64 = 0.1;
/// The most: five of the fastest network cards there are (800 Gbit/s).
const MOST_MBPS: f64 = 4_000_000.0;

/// In bit/s, for each direction by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Capacities {
    default: u64,
    nets: BTreeMap<Net, u64>,
    /// Of links that begin or end there.
    regions: BTreeMap<Region, u64>,
    /// From sender to receiver; without a net: over every net.
    links: BTreeMap<(NodeId, NodeId, Option<Net>), u64>,
}

/// Why a configured capacity is not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadCapacity {
    /// It is no rule.
    #[error(
        "{rule:?}: write it as \"link FROM TO = MBPS\", \"link FROM TO over NET = MBPS\", \
         \"net NAME = MBPS\" or \"region NAME = MBPS\""
    )]
    NoRule {
        /// As it was written.
        rule: String,
    },
    /// It names what cannot be a name.
    #[error("{rule:?}: {why}")]
    Name {
        /// As it was written.
        rule: String,
        /// What is wrong with the name.
        why: NameError,
    },
    /// No link carries so much or so little.
    #[error("{mbps} Mbit/s is not within {LEAST_MBPS} … {MOST_MBPS}")]
    Range {
        /// As it was written.
        mbps: f64,
    },
    /// Two rules say something of the same.
    #[error("{rule:?}: another rule says what {subject:?} carries")]
    Twice {
        /// The second rule as it was written.
        rule: String,
        /// What both are about.
        subject: String,
    },
}

impl Default for Capacities {
    fn default() -> Capacities {
        Capacities {
            default: (DEFAULT_MBPS * 1e6) as u64,
            nets: BTreeMap::new(),
            regions: BTreeMap::new(),
            links: BTreeMap::new(),
        }
    }
}

impl Capacities {
    /// From the configuration: the default in Mbit/s, and rules as in [`BadCapacity::NoRule`].
    pub fn read(default_mbps: Option<f64>, rules: &[String]) -> Result<Capacities, BadCapacity> {
        let mut read = Capacities {
            default: bps(default_mbps.unwrap_or(DEFAULT_MBPS))?,
            ..Capacities::default()
        };
        for rule in rules {
            read.rule(rule)?;
        }
        Ok(read)
    }

    fn rule(&mut self, rule: &str) -> Result<(), BadCapacity> {
        let no_rule = || BadCapacity::NoRule { rule: rule.into() };
        let name = |why| BadCapacity::Name {
            rule: rule.into(),
            why,
        };
        let (subject, mbps) = rule.split_once('=').ok_or_else(no_rule)?;
        let capacity = bps(mbps.trim().parse().map_err(|_| no_rule())?)?;
        let words: Vec<&str> = subject.split_whitespace().collect();
        let before = match words[..] {
            ["net", net] => self.nets.insert(net.parse().map_err(name)?, capacity),
            ["region", region] => {
                let region = region.parse().map_err(name)?;
                self.regions.insert(region, capacity)
            }
            ["link", from, to, ref over @ ..] => {
                let net = match over {
                    [] => None,
                    ["over", net] => Some(net.parse().map_err(name)?),
                    _ => return Err(no_rule()),
                };
                let ends = (from.parse().map_err(name)?, to.parse().map_err(name)?);
                self.links.insert((ends.0, ends.1, net), capacity)
            }
            _ => return Err(no_rule()),
        };
        match before {
            None => Ok(()),
            Some(_) => Err(BadCapacity::Twice {
                rule: rule.into(),
                subject: words.join(" "),
            }),
        }
    }

    /// What a link carries, in bit/s. `regions` are those of its ends, as far as they are known.
    pub fn of(&self, from: &NodeId, to: &NodeId, net: &Net, regions: [Option<&Region>; 2]) -> u64 {
        let of_link = |net: Option<&Net>| {
            let key = (from.clone(), to.clone(), net.cloned());
            self.links.get(&key).copied()
        };
        let named = !self.links.is_empty();
        let of_link = named.then(|| of_link(Some(net)).or_else(|| of_link(None)));
        let of_regions = regions.into_iter().flatten();
        let of_regions = of_regions.filter_map(|region| self.regions.get(region));
        of_link
            .flatten()
            .or_else(|| self.nets.get(net).copied())
            // What either end's region lets through.
            .or_else(|| of_regions.min().copied())
            .unwrap_or(self.default)
    }
}

fn bps(mbps: f64) -> Result<u64, BadCapacity> {
    match (LEAST_MBPS..=MOST_MBPS).contains(&mbps) {
        true => Ok((mbps * 1e6) as u64),
        false => Err(BadCapacity::Range { mbps }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(default: Option<f64>, rules: &[&str]) -> Result<Capacities, String> {
        let rules: Vec<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
        Capacities::read(default, &rules).map_err(|why| why.to_string())
    }

    #[test]
    fn the_most_particular_rule_counts() {
        let rules = [
            "region cn-beijing = 100",
            "region hk = 50",
            "net leased-1 = 1000",
            "link a b = 20",
            "link a b over leased-1 = 2.5",
        ];
        let read = read(Some(300.0), &rules).unwrap();
        let region = |name: &str| name.parse::<Region>().unwrap();
        let (hk, bj, sg) = (region("hk"), region("cn-beijing"), region("sg"));
        let of = |from: &str, to: &str, net: &str, regions: [Option<&Region>; 2]| {
            let node = |name: &str| NodeId::new(name).unwrap();
            read.of(&node(from), &node(to), &Net::new(net).unwrap(), regions) as f64 / 1e6
        };
        let ends = [Some(&hk), Some(&bj)];
        assert_eq!(of("a", "b", "leased-1", ends), 2.5);
        assert_eq!(of("a", "b", "internet", ends), 20.0);
        assert_eq!(
            of("b", "a", "leased-1", ends),
            1_000.0,
            "the other direction"
        );
        assert_eq!(of("b", "a", "internet", ends), 50.0, "the smaller one");
        assert_eq!(of("b", "c", "internet", [Some(&sg), Some(&bj)]), 100.0);
        assert_eq!(of("b", "c", "internet", [Some(&sg), None]), 300.0);
        let plain = Capacities::read(None, &[]).unwrap();
        assert_eq!(plain, Capacities::default());
    }

    #[test]
    fn what_makes_no_sense_is_refused_naming_it() {
        let how = "write it as \"link FROM TO = MBPS\", \"link FROM TO over NET = MBPS\", \"net NAME \
                   = MBPS\" or \"region NAME = MBPS\"";
        for rule in [
            "hk = 5",
            "net leased-1 5",
            "net leased-1 = fast",
            "link a = 5",
            "link a b via x = 5",
            "zone x = 5",
            "",
        ] {
            assert_eq!(read(None, &[rule]).unwrap_err(), format!("{rule:?}: {how}"));
        }
        for (mbps, told) in [
            ("0", "0"),
            ("-3", "-3"),
            ("NaN", "NaN"),
            ("1e9", "1000000000"),
        ] {
            let rule = format!("net leased-1 = {mbps}");
            let refused = read(None, &[&rule]).unwrap_err();
            assert_eq!(
                refused,
                format!("{told} Mbit/s is not within 0.1 … 4000000")
            );
        }
        assert_eq!(
            read(Some(0.0), &[]).unwrap_err(),
            "0 Mbit/s is not within 0.1 … 4000000"
        );
        assert_eq!(
            read(None, &["link a  b = 5", "link a b = 6"]).unwrap_err(),
            "\"link a b = 6\": another rule says what \"link a b\" carries"
        );
        let bad = read(None, &["region HongKong! = 5"]).unwrap_err();
        assert!(bad.starts_with("\"region HongKong! = 5\": "), "{bad}");
    }
}
