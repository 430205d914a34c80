//! Which relays keep the logs of rooms together: pure.
//!
//! A placement group is three relays that replicate the logs of many rooms (DESIGN §5). Here is
//! decided who they are (`choose`), and what is to be changed about a group whose relays are gone,
//! drained, or have lost their disk (`step`). What is decided becomes true when the record is in
//! the store, and takes place when the group itself has carried it out.

mod choose;
mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use longspan_proto::ids::{NodeId, Region, Zone};
use longspan_topology::graph::Country;

pub use choose::{Wanted, choose, make};
pub use step::{Facts, Report, Standing, Step, next};

/// Members of a group: one may be lost, and what is acked is still on two disks.
pub const MEMBERS: usize = 3;
/// Groups of one region at most. A group is one Raft log with its own elections and syncs: 64 spread
/// the rooms of a region over all cores and disks it is likely to have, and one relay that dies
/// leaves no more than 64 groups without a leader for a moment.
pub const MAX_GROUPS: usize = 64;

/// How many parts in groups a relay has.
pub type Loads = BTreeMap<NodeId, usize>;

/// A relay, as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Its name.
    pub id: NodeId,
    /// Where it runs.
    pub region: Region,
    /// Which IDC of the region.
    pub zone: Zone,
    /// Where that is; none: not said.
    pub country: Option<Country>,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
    /// The file of its room logs, if it may be given a part in a group: it is here, keeps logs, and
    /// is neither cordoned nor draining.
    pub free: Option<u64>,
}

/// The measured round trip between two relays in µs.
type RoundTrip<'a> = dyn Fn(&NodeId, &NodeId) -> Option<u64> + 'a;

/// All relays, and how far they are from each other.
pub struct Backbone<'a> {
    sites: Vec<Site>,
    rtt_us: Box<RoundTrip<'a>>,
}

impl<'a> Backbone<'a> {
    /// Out of all relays, in whatever order they come, and the measured round trip between two.
    pub fn new(
        sites: impl IntoIterator<Item = Site>,
        rtt_us: impl Fn(&NodeId, &NodeId) -> Option<u64> + 'a,
    ) -> Backbone<'a> {
        let mut sites: Vec<Site> = sites.into_iter().collect();
        sites.sort_by(|a, b| a.id.cmp(&b.id));
        Backbone {
            sites,
            rtt_us: Box::new(rtt_us),
        }
    }

    /// All relays, by name.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    fn site(&self, id: &NodeId) -> Option<&Site> {
        let found = self.sites.binary_search_by(|site| site.id.cmp(id));
        found.ok().map(|at| &self.sites[at])
    }

    fn of<'b>(&'b self, region: &'b Region) -> impl Iterator<Item = &'b Site> {
        self.sites.iter().filter(move |site| site.region == *region)
    }

    /// The round trip between two regions in µs: the shortest that is measured between relays of
    /// theirs; where none is, what light takes through glass along the great circle.
    fn far_us(&self, a: &Region, b: &Region) -> u64 {
        let pairs = || self.of(a).flat_map(|x| self.of(b).map(move |y| (x, y)));
        let measured = pairs().filter_map(|(x, y)| (self.rtt_us)(&x.id, &y.id));
        let guessed = || pairs().map(|(x, y)| guess_us(x, y));
        measured
            .min()
            .or_else(|| guessed().min())
            .unwrap_or(u64::MAX)
    }
}

/// Light in glass goes 200 km a ms; there and back.
fn guess_us(a: &Site, b: &Site) -> u64 {
    let (lat_a, lat_b) = (a.lat.to_radians(), b.lat.to_radians());
    let half = |d: f64| (d / 2.0).sin().powi(2);
    let lon = half((b.lon - a.lon).to_radians());
    let h = half(lat_b - lat_a) + lat_a.cos() * lat_b.cos() * lon;
    let km = 2.0 * 6_371.0 * h.sqrt().min(1.0).asin();
    (km * 10.0) as u64
}
