//! What happens to the backbone under the members, and its repair.

use std::time::Duration;

use longspan_lab::world::Change;
use longspan_proto::ids::NodeId;
use rand::{Rng, RngExt, seq::IteratorRandom};

use crate::{
    bench::{
        failover::field::{Field, Site},
        log::world::generation,
    },
    failure::{Failure, Outcome},
};

/// How long a fault lasts.
const LASTS: (u64, u64) = (3_000, 9_000);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The relay that leads is killed, and started again.
    KillLeader,
    /// Another relay of the group.
    KillFollower,
    /// An edge with members.
    KillEdge,
    /// The relay that leads gets SIGSTOP, and SIGCONT later.
    StopLeader,
    StopFollower,
    StopEdge,
    /// The relay that leads, and its whole region, are cut off from all others.
    IsolateLeader,
    /// Another region is.
    IsolateFollower,
    /// A link between two relays of the group loses everything.
    Cut,
    /// The same in one direction.
    CutOneWay,
}

impl Kind {
    /// One after the other, so that each comes up as often.
    const ALL: [Kind; 10] = [
        Kind::KillLeader,
        Kind::KillEdge,
        Kind::Cut,
        Kind::StopLeader,
        Kind::KillFollower,
        Kind::IsolateLeader,
        Kind::StopEdge,
        Kind::CutOneWay,
        Kind::StopFollower,
        Kind::IsolateFollower,
    ];

    /// The kind of the fault of this number.
    pub fn of(number: usize) -> Kind {
        Kind::ALL[number % Kind::ALL.len()]
    }

    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.extend(letter.to_lowercase());
        }
        name
    }

    /// Whether the group has to find another leader.
    pub fn takes_the_leader(self) -> bool {
        matches!(
            self,
            Kind::KillLeader | Kind::StopLeader | Kind::IsolateLeader
        )
    }
}

/// A fault that is there.
pub struct Fault {
    pub kind: Kind,
    pub lasts: Duration,
    /// A node or regions.
    at: Vec<String>,
}

/// The relays that keep the room's log, the one that leads first, as they say themselves.
pub async fn group(field: &Field) -> Vec<NodeId> {
    let mut found = Vec::new();
    for site in &field.sites {
        let state = site.debug().await.unwrap_or_default();
        // The members' room is the only one.
        let groups = state["state"]["groups"].as_array().cloned();
        let parts = groups.into_iter().flatten();
        for part in parts.filter(|part| part["rooms"].as_u64() > Some(0)) {
            let leads = part["leader"] == part["member"];
            let generation = generation(&part["generation"]);
            found.push((leads, generation, site.area.relay.id.clone()));
        }
    }
    found.sort_by(|one, other| other.cmp(one));
    found.into_iter().map(|(_, _, id)| id).collect()
}

impl Fault {
    /// Chooses where, and lets it happen.
    pub async fn strike(kind: Kind, field: &mut Field, rng: &mut impl Rng) -> Outcome<Fault> {
        let group = group(field).await;
        let [leader, followers @ ..] = &group[..] else {
            return Err(Failure::failed(
                "no relay says that it keeps the room's log",
            ));
        };
        let lasts = Duration::from_millis(rng.random_range(LASTS.0..LASTS.1));
        let follower = followers.iter().choose(rng);
        let follower = follower.ok_or_else(|| Failure::failed("the group has one member"))?;
        let region = |node: &NodeId| {
            let site = field.site_of(node);
            site.map(|site| site.area.region.to_string())
                .ok_or_else(|| Failure::failed(format!("{node} is nowhere")))
        };
        let at = match kind {
            Kind::KillLeader | Kind::StopLeader => vec![leader.to_string()],
            Kind::KillFollower | Kind::StopFollower => vec![follower.to_string()],
            Kind::KillEdge | Kind::StopEdge => {
                let edges = field.sites.iter().map(|site| &site.area.edge.id);
                let edge = edges.choose(rng).map(NodeId::to_string);
                edge.into_iter().collect()
            }
            Kind::IsolateLeader => vec![region(leader)?],
            Kind::IsolateFollower => vec![region(follower)?],
            Kind::Cut | Kind::CutOneWay => vec![region(leader)?, region(follower)?],
        };
        let fault = Fault { kind, lasts, at };
        fault.begin(field)?;
        Ok(fault)
    }

    /// Where, in words.
    pub fn place(&self) -> String {
        self.at.join(" → ")
    }

    fn begin(&self, field: &mut Field) -> Outcome {
        match self.kind {
            Kind::KillLeader | Kind::KillFollower => self.site_mut(field)?.kill_relay(),
            Kind::KillEdge => self.site_mut(field)?.kill_edge(),
            Kind::StopLeader | Kind::StopFollower => {
                let stopped = self.site(field)?.relay()?.freeze();
                stopped.map_err(Failure::failed)?;
            }
            Kind::StopEdge => {
                let stopped = self.site(field)?.edge()?.freeze();
                stopped.map_err(Failure::failed)?;
            }
            _ => {
                for (from, to) in self.links(field) {
                    field.change(&self.directed(Change::cut(&from, &to)))?;
                }
            }
        }
        Ok(())
    }

    /// Undoes it.
    pub fn repair(&self, field: &mut Field) -> Outcome {
        match self.kind {
            Kind::KillLeader | Kind::KillFollower => field.start_relay(&self.at[0])?,
            Kind::KillEdge => field.start_edge(&self.at[0])?,
            Kind::StopLeader | Kind::StopFollower => {
                let goes_on = self.site(field)?.relay()?.thaw();
                goes_on.map_err(Failure::failed)?;
            }
            Kind::StopEdge => {
                let goes_on = self.site(field)?.edge()?.thaw();
                goes_on.map_err(Failure::failed)?;
            }
            _ => {
                for (from, to) in self.links(field) {
                    field.change(&self.directed(Change::restore(&from, &to)))?;
                }
            }
        }
        Ok(())
    }

    fn directed(&self, change: Change) -> Change {
        match self.kind {
            Kind::CutOneWay => change.one_way(),
            _ => change,
        }
    }

    /// Between which hosts: they are called as their regions.
    fn links(&self, field: &Field) -> Vec<(String, String)> {
        match &self.at[..] {
            [from, to] => vec![(from.clone(), to.clone())],
            [alone] => {
                let all = field.sites.iter().map(|site| site.area.region.to_string());
                let others = all.filter(|other| other != alone);
                others.map(|other| (alone.clone(), other)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn site<'a>(&self, field: &'a Field) -> Outcome<&'a Site> {
        let site = field.site_of(&self.at[0]);
        site.ok_or_else(|| Failure::failed(format!("{} is nowhere", self.at[0])))
    }

    fn site_mut<'a>(&self, field: &'a mut Field) -> Outcome<&'a mut Site> {
        let site = field.site_mut(&self.at[0]);
        site.ok_or_else(|| Failure::failed(format!("{} is nowhere", self.at[0])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_comes_up_and_has_a_name() {
        let names: Vec<String> = (0..10).map(|number| Kind::of(number).name()).collect();
        assert_eq!(names[0], "kill_leader");
        assert_eq!(names[7], "cut_one_way");
        let different: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(different.len(), 10);
        assert_eq!(Kind::of(10), Kind::of(0));
    }
}
