//! What paths are worth: each against the direct link, and against the quickest path there is.
//! Pure. Regions are numbered by their place in the list.

use std::{collections::BTreeMap, time::Duration};

use longspan_lab::matrix::{Matrix, Split};
use longspan_proto::ids::Region;
use longspan_topology::paths::MAX_INTERMEDIATES;
use serde_json::{Value, json};

use crate::bench::report::round;

/// A path may take longer than the quickest by this share of it …
pub const SHARE: f64 = 0.05;
/// … and this much.
pub const MARGIN: Duration = Duration::from_millis(3);
/// Conversation suffers from more than this, one way (ITU-T G.114).
pub const CONVERSATION: Duration = Duration::from_millis(150);

/// Nodes of a path in the order in which a frame crosses them, both ends included.
pub type Way = Vec<usize>;

/// The true time of each direction between two regions, jitter not counted.
#[derive(Debug, Clone)]
pub struct Delays {
    one_way: Vec<Vec<Duration>>,
}

/// One directed pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Where frames enter.
    pub from: usize,
    /// Where they are wanted.
    pub to: usize,
    /// Over the link between both.
    pub direct: Duration,
    /// The path in use; none: there is none.
    pub way: Option<Way>,
    /// How long it takes.
    pub overlay: Option<Duration>,
    /// The quickest with at most [`MAX_INTERMEDIATES`] relays in between.
    pub optimum_way: Way,
    /// How long that takes.
    pub optimum: Duration,
}

/// How the two directions of a pair go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directions {
    /// Pairs whose directions take different paths.
    pub differ: usize,
    /// Of these, pairs for which that is quicker, both directions together, than if each took the
    /// other's path.
    pub quicker: usize,
    /// Pairs for which no path is within the bound both ways, if either direction takes its best.
    pub needed: usize,
    /// Of these, pairs whose directions take different paths.
    pub needed_differ: usize,
}

impl Delays {
    /// All directions between `regions`, which the matrix must hold.
    pub fn new(matrix: &Matrix, split: Split, regions: &[Region]) -> Delays {
        let from = |from: &Region| {
            let to = regions.iter().map(|to| matrix.one_way(from, to, split));
            to.map(|time| time.expect("the matrix holds these regions"))
                .collect()
        };
        Delays {
            one_way: regions.iter().map(from).collect(),
        }
    }

    /// How long a way takes.
    pub fn along(&self, way: &[usize]) -> Duration {
        let links = way.windows(2);
        links.map(|link| self.one_way[link[0]][link[1]]).sum()
    }

    /// The quickest way of all there are.
    pub fn quickest(&self, from: usize, to: usize) -> (Duration, Way) {
        let mut best = (self.one_way[from][to], vec![from, to]);
        self.extend(&mut vec![from], to, &mut best);
        best
    }

    fn extend(&self, way: &mut Way, to: usize, best: &mut (Duration, Way)) {
        if way.len() > MAX_INTERMEDIATES {
            return;
        }
        for next in 0..self.one_way.len() {
            if next == to || way.contains(&next) {
                continue;
            }
            way.push(next);
            let last = self.one_way[next][to];
            let time = self.along(way) + last;
            if time < best.0 {
                *best = (time, way.iter().copied().chain([to]).collect());
            }
            self.extend(way, to, best);
            way.pop();
        }
    }

    /// Judges the paths in use, for every directed pair.
    pub fn judge(&self, ways: &BTreeMap<(usize, usize), Way>) -> Vec<Pair> {
        let all = 0..self.one_way.len();
        let pairs = all
            .clone()
            .flat_map(|from| all.clone().map(move |to| (from, to)));
        pairs
            .filter(|(from, to)| from != to)
            .map(|(from, to)| {
                let way = ways.get(&(from, to)).cloned();
                let (optimum, optimum_way) = self.quickest(from, to);
                Pair {
                    from,
                    to,
                    direct: self.one_way[from][to],
                    overlay: way.as_ref().map(|way| self.along(way)),
                    way,
                    optimum_way,
                    optimum,
                }
            })
            .collect()
    }

    /// Compares the two directions of each pair.
    pub fn directions(&self, pairs: &[Pair]) -> Directions {
        let by_ends: BTreeMap<_, _> = pairs.iter().map(|p| ((p.from, p.to), p)).collect();
        let reversed = |way: &Way| way.iter().rev().copied().collect::<Way>();
        let mut found = Directions::default();
        for there in pairs.iter().filter(|pair| pair.from < pair.to) {
            let Some(back) = by_ends.get(&(there.to, there.from)) else {
                continue;
            };
            let fits = |best: &Pair, other: &Pair| {
                self.along(&reversed(&best.optimum_way)) <= bound(other.optimum)
            };
            let needed = !fits(there, back) && !fits(back, there);
            found.needed += usize::from(needed);
            let (Some(out), Some(home)) = (&there.way, &back.way) else {
                continue;
            };
            if *out == reversed(home) {
                continue;
            }
            found.differ += 1;
            found.needed_differ += usize::from(needed);
            let own = self.along(out) + self.along(home);
            let swapped = self.along(&reversed(home)) + self.along(&reversed(out));
            found.quicker += usize::from(own < swapped);
        }
        found
    }
}

impl Pair {
    /// Whether the path in use is as good as it must be.
    pub fn is_within(&self) -> bool {
        self.overlay
            .is_some_and(|overlay| overlay <= bound(self.optimum))
    }

    /// The path's delay as a multiple of the quickest's.
    pub fn stretch(&self) -> Option<f64> {
        Some(self.overlay?.as_secs_f64() / self.optimum.as_secs_f64())
    }
}

fn bound(optimum: Duration) -> Duration {
    optimum.mul_f64(1.0 + SHARE) + MARGIN
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    round(time.as_secs_f64() * 1_000.0, 3)
}

/// `p50`, `p90` (nearest rank) and `max`; null of nothing.
pub fn quantiles(values: impl Iterator<Item = f64>) -> Value {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * values.len() as f64).ceil() as usize;
        values.get(rank.max(1) - 1).map(|value| round(*value, 3))
    };
    json!({ "p50": at(0.5), "p90": at(0.9), "max": at(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In ms, row by row.
    fn delays<const N: usize>(rows: [[u64; N]; N]) -> Delays {
        let rows = rows.iter().map(|row| row.iter().copied());
        Delays {
            one_way: rows
                .map(|row| row.map(Duration::from_millis).collect())
                .collect(),
        }
    }

    #[test]
    fn the_quickest_way_has_three_relays_in_between_at_most() {
        // A chain of short links among long ones.
        let mut rows = [[100; 6]; 6];
        for at in 0..6 {
            rows[at][at] = 0;
            if at < 5 {
                rows[at][at + 1] = 10;
            }
        }
        let chain = delays(rows);
        assert_eq!(
            chain.quickest(0, 4),
            (Duration::from_millis(40), vec![0, 1, 2, 3, 4])
        );
        // Five links would take 50 ms, but four relays are too many.
        assert_eq!(chain.quickest(0, 5).0, Duration::from_millis(100));
        assert_eq!(
            chain.quickest(1, 0),
            (Duration::from_millis(100), vec![1, 0])
        );
    }

    #[test]
    fn a_pair_is_within_five_percent_and_three_milliseconds() {
        let world = delays([[0, 100, 40], [100, 0, 40], [40, 40, 0]]);
        let ways = BTreeMap::from([((0, 1), vec![0, 2, 1]), ((1, 0), vec![1, 0])]);
        let pairs = world.judge(&ways);
        assert_eq!(pairs.len(), 6);
        let pair = |from, to| pairs.iter().find(|p| (p.from, p.to) == (from, to)).unwrap();
        assert!(pair(0, 1).is_within());
        assert_eq!(pair(0, 1).stretch(), Some(1.0));
        assert_eq!(pair(1, 0).stretch(), Some(1.25));
        assert!(!pair(1, 0).is_within());
        assert!(!pair(0, 2).is_within(), "no path is no good path");
        assert_eq!(bound(Duration::from_millis(80)), Duration::from_millis(87));
    }

    #[test]
    fn directions_are_compared_where_each_has_its_own_path() {
        // Out by 2, home by 3; the other way round both are slow.
        let world = delays([
            [0, 90, 20, 80],
            [90, 0, 80, 20],
            [80, 20, 0, 90],
            [20, 80, 90, 0],
        ]);
        let own = BTreeMap::from([((0, 1), vec![0, 2, 1]), ((1, 0), vec![1, 3, 0])]);
        let found = world.directions(&world.judge(&own));
        assert_eq!((found.differ, found.quicker), (1, 1));
        assert!(found.needed >= 1 && found.needed_differ == 1, "{found:?}");
        let swapped = BTreeMap::from([((0, 1), vec![0, 3, 1]), ((1, 0), vec![1, 2, 0])]);
        let found = world.directions(&world.judge(&swapped));
        assert_eq!((found.differ, found.quicker), (1, 0));
        let same = BTreeMap::from([((0, 1), vec![0, 1]), ((1, 0), vec![1, 0])]);
        let found = world.directions(&world.judge(&same));
        assert_eq!((found.differ, found.needed_differ), (0, 0));
    }

    #[test]
    fn quantiles_are_values_that_were_there() {
        let found = quantiles((1..=10).rev().map(f64::from));
        assert_eq!(found, json!({"p50": 5.0, "p90": 9.0, "max": 10.0}));
        let none = json!({"p50": null, "p90": null, "max": null});
        assert_eq!(quantiles(std::iter::empty()), none);
    }
}
