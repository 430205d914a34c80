//! Who takes a part in a group.

use std::collections::{BTreeMap, BTreeSet};

use longspan_proto::ids::{NodeId, Region};
use longspan_topology::graph::Country;

use super::{Backbone, Loads, MEMBERS, Site};

/// What a group is for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Whose rooms are placed in it.
    pub region: &'a Region,
    /// The countries in which their logs may be kept; empty: all.
    pub residency: &'a BTreeSet<Country>,
}

impl Wanted<'_> {
    /// Whether a relay may be given a part. One whose country is unknown is in no country that is
    /// allowed.
    fn allows(&self, site: &Site) -> bool {
        let here = |country| self.residency.contains(&country);
        site.free.is_some() && (self.residency.is_empty() || site.country.is_some_and(here))
    }
}

/// The relay that fits best beside `others`: of the region in another zone, else of the region,
/// else of the nearest region; among those the one with the fewest parts, then the first by name.
/// None of `others`, and none of `barred`.
pub fn choose<'b>(
    backbone: &'b Backbone<'_>,
    wanted: Wanted<'_>,
    others: &[NodeId],
    barred: &[NodeId],
    loads: &Loads,
) -> Option<&'b Site> {
    let zones: BTreeSet<_> = others
        .iter()
        .filter_map(|id| backbone.site(id))
        .map(|site| (&site.region, &site.zone))
        .collect();
    let mut far: BTreeMap<&Region, u64> = BTreeMap::new();
    let fit = backbone
        .sites()
        .iter()
        .filter(|site| wanted.allows(site))
        .filter(|site| !others.contains(&site.id) && !barred.contains(&site.id));
    fit.min_by_key(|site| {
        let far = *far
            .entry(&site.region)
            .or_insert_with(|| match site.region == *wanted.region {
                true => 0,
                false => backbone.far_us(wanted.region, &site.region),
            });
        let abroad = site.region != *wanted.region;
        let same_zone = zones.contains(&(&site.region, &site.zone));
        // Abroad the region is part of the order: two may be equally far.
        let region = abroad.then_some(&site.region);
        let load = loads.get(&site.id).copied().unwrap_or_default();
        (abroad, far, region, same_zone, load, &site.id)
    })
}

/// The members of `count` new groups: three each, or as many as there are. Their parts are counted
/// into `loads`.
pub fn make(
    backbone: &Backbone<'_>,
    wanted: Wanted<'_>,
    count: usize,
    loads: &mut Loads,
) -> Vec<Vec<(NodeId, u64)>> {
    let mut groups = Vec::new();
    for _ in 0..count {
        let (mut names, mut members) = (Vec::new(), Vec::new());
        while members.len() < MEMBERS
            && let Some(site) = choose(backbone, wanted, &names, &[], loads)
            && let Some(disk) = site.free
        {
            *loads.entry(site.id.clone()).or_default() += 1;
            names.push(site.id.clone());
            members.push((site.id.clone(), disk));
        }
        if members.is_empty() {
            break;
        }
        groups.push(members);
    }
    groups
}
