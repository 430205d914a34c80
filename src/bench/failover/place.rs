//! Where a fault happens, its beginning and its repair.

use longspan_lab::{
    wan::Profile,
    world::{Change, Effect},
};
use longspan_proto::ids::NodeId;
use rand::{Rng, seq::IteratorRandom};

use super::{Fault, field::Field, guest::Guest};
use crate::failure::{Failure, Outcome};

/// Between the nodes number `upper` and `lower` of a way: their link, or the relay in the middle.
pub struct Place {
    fault: Fault,
    way: Vec<NodeId>,
    upper: usize,
    lower: usize,
}

impl Place {
    /// On a way of edge, relays, edge: one of its links between relays that is `fit`, or a relay in
    /// the middle. None: there is none.
    pub fn choose(
        way: &[NodeId],
        rng: &mut impl Rng,
        fault: Fault,
        fit: impl Fn(&NodeId, &NodeId) -> bool,
    ) -> Option<Place> {
        let relays = 1..way.len().checked_sub(1)?;
        let (upper, lower) = match fault {
            Fault::Blackhole | Fault::Oneway | Fault::Brownout => {
                let uppers = relays.start..relays.end.checked_sub(1)?;
                let fit = |upper: &usize| fit(&way[*upper], &way[upper + 1]);
                let upper = uppers.filter(fit).choose(rng)?;
                (upper, upper + 1)
            }
            Fault::Kill | Fault::Stop => {
                let middle = relays.start + 1..relays.end.checked_sub(1)?;
                let at = middle.choose(rng)?;
                (at - 1, at + 1)
            }
        };
        Some(Place {
            fault,
            way: way.to_vec(),
            upper,
            lower,
        })
    }

    /// Whoever loses its upstream.
    pub fn lower(&self) -> &NodeId {
        &self.way[self.lower]
    }

    /// Where the way begins.
    pub fn origin(&self) -> &NodeId {
        &self.way[0]
    }

    /// The nodes below the fault, whoever loses its upstream first.
    pub fn below(&self) -> &[NodeId] {
        &self.way[self.lower..]
    }

    /// Whether a way does not cross it.
    pub fn is_left_by(&self, way: &[NodeId]) -> bool {
        match self.fault {
            Fault::Kill | Fault::Stop => !way.contains(self.victim()),
            Fault::Blackhole | Fault::Oneway | Fault::Brownout => {
                let link = [&self.way[self.upper], &self.way[self.lower]];
                let crosses = |pair: &[NodeId]| pair.iter().eq(link);
                !way.windows(2).any(crosses)
            }
        }
    }

    /// Lets it happen; what happened, in words.
    pub fn strike(&self, field: &mut Field) -> Outcome<String> {
        let between = format!("{} → {}", self.way[self.upper], self.way[self.lower]);
        let victim = self.victim();
        match self.fault {
            Fault::Blackhole => {
                field.change(&self.laid(field, Profile::blackhole())?)?;
                Ok(format!("{between} cut"))
            }
            Fault::Oneway => {
                field.change(&self.laid(field, Profile::blackhole())?.one_way())?;
                Ok(format!("{between} cut one way"))
            }
            Fault::Brownout => {
                field.change(&self.laid(field, Profile::brownout())?)?;
                Ok(format!("{between} browned out"))
            }
            Fault::Kill => {
                if let Some(site) = field.site_mut(victim) {
                    site.kill_relay();
                }
                Ok(format!("{victim} killed"))
            }
            Fault::Stop => {
                if let Some(site) = field.site_of(victim) {
                    site.relay()?.freeze().map_err(Failure::failed)?;
                }
                Ok(format!("{victim} stopped"))
            }
        }
    }

    /// Does the same to a guest; a link is shared.
    pub fn strike_guest(&self, field: &Field, guest: &mut Guest) -> Outcome {
        match field.site_of(self.victim()) {
            Some(site) => guest.strike(self.fault, &site.area.region),
            None => Ok(()),
        }
    }

    /// Undoes it.
    pub fn repair(&self, field: &mut Field) -> Outcome {
        let restore = |field: &Field| {
            let (from, to) = self.ends(field)?;
            Ok::<_, Failure>(Change::restore(&from, &to))
        };
        let victim = self.victim();
        match self.fault {
            Fault::Blackhole | Fault::Brownout => field.change(&restore(field)?),
            Fault::Oneway => field.change(&restore(field)?.one_way()),
            Fault::Kill => field.start_relay(victim),
            Fault::Stop => match field.site_of(victim) {
                Some(site) => site.relay()?.thaw().map_err(Failure::failed),
                None => Ok(()),
            },
        }
    }

    /// Of a new way, the part from the nearest node that had the track above the fault to the first
    /// node below it.
    pub fn way_back(&self, after: &[NodeId]) -> Vec<NodeId> {
        let (above, below) = (&self.way[..=self.upper], self.below());
        let Some(to) = after.iter().position(|node| below.contains(node)) else {
            return Vec::new();
        };
        let from = after[..to].iter().rposition(|node| above.contains(node));
        after[from.unwrap_or(0)..=to].to_vec()
    }

    fn victim(&self) -> &NodeId {
        &self.way[self.lower - 1]
    }

    fn laid(&self, field: &Field, profile: Profile) -> Outcome<Change> {
        let (from, to) = self.ends(field)?;
        let effect = Effect {
            profile: Some(profile),
            ..Effect::default()
        };
        Ok(Change::lay(&from, &to, effect))
    }

    /// The hosts at both ends of the link: they are called as their regions.
    fn ends(&self, field: &Field) -> Outcome<(String, String)> {
        let host = |node: &NodeId| {
            let site = field.site_of(node);
            site.map(|site| site.area.region.to_string())
                .ok_or_else(|| Failure::failed(format!("{node} is nowhere")))
        };
        Ok((host(&self.way[self.upper])?, host(&self.way[self.lower])?))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn nodes(names: &str) -> Vec<NodeId> {
        names
            .split(' ')
            .map(|name| NodeId::new(name).expect("a name"))
            .collect()
    }

    fn place(way: &str, fault: Fault, upper: usize, lower: usize) -> Place {
        Place {
            fault,
            way: nodes(way),
            upper,
            lower,
        }
    }

    #[test]
    fn the_way_back_is_from_the_nearest_cache_to_whoever_lost_its_upstream() {
        let cut = place("o a b c v", Fault::Blackhole, 1, 2);
        // b takes it over d from a, which still has it.
        assert_eq!(cut.way_back(&nodes("o a d b c v")), nodes("a d b"));
        // c found another way all the way from the origin's edge.
        let killed = place("o a b c v", Fault::Kill, 1, 3);
        assert_eq!(killed.way_back(&nodes("o e c v")), nodes("o e c"));
        assert!(cut.way_back(&nodes("x y")).is_empty());
    }

    #[test]
    fn a_place_is_left_by_a_way_that_does_not_cross_it() {
        let cut = place("o a b c v", Fault::Oneway, 1, 2);
        assert!(!cut.is_left_by(&nodes("o a b v")));
        assert!(cut.is_left_by(&nodes("o a d b c v")));
        assert!(cut.is_left_by(&nodes("o b a v")), "the other direction");
        let stopped = place("o a b c v", Fault::Stop, 1, 3);
        assert!(!stopped.is_left_by(&nodes("o d b v")));
        assert!(stopped.is_left_by(&nodes("o a c v")));
    }

    #[test]
    fn faults_happen_between_relays() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut choose =
            |way: &str, fault| Place::choose(&nodes(way), &mut rng, fault, |_, _| true);
        let cut = choose("o a b v", Fault::Blackhole).expect("a link");
        assert_eq!((cut.upper, cut.lower), (1, 2));
        assert!(choose("o a v", Fault::Blackhole).is_none());
        assert!(choose("o a b v", Fault::Kill).is_none());
        let killed = choose("o a b c v", Fault::Kill).expect("a relay");
        assert_eq!(killed.victim().as_str(), "b");
    }
}
