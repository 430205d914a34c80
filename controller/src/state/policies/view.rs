//! Policies of rooms as operators see them: what is wished, and what holds.

use longspan_proto::ids::{RoomName, Tenant};
use serde::Serialize;

use super::{
    super::{State, Unchanged, record},
    Kept,
};

/// How far a wish is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyStands {
    /// Nobody wishes anything: the room keeps what its group gives.
    Default,
    /// What was wished holds.
    Holds,
    /// What was wished is more than the group allows; the most it allows holds.
    Clamped,
    /// The room is not open; it holds from its first message on.
    NotOpen,
    /// It does not hold yet.
    Waiting,
}

/// What is wished for a room, and what holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyView {
    /// The room.
    pub room: String,
    /// Whose it is.
    pub tenant: String,
    /// How far the wish is.
    pub state: PolicyStands,
    /// What it waits for, or what a group did not allow.
    pub why: Option<String>,
    /// What holds, as the leader of the room's group said last; none: nobody said so.
    pub holds: Option<Kept>,
    /// The most that the group allows, and gives where nobody wishes anything; none: nobody said so.
    pub most: Option<Kept>,
    /// As it stands in the store.
    pub wished: Option<record::Policy>,
}

impl State {
    /// What is wished for all rooms of a tenant, or of all.
    pub fn view_policies(&self, tenant: Option<&Tenant>) -> Vec<PolicyView> {
        let rooms = self.policies.wished.keys();
        let of = rooms.filter(|room| tenant.is_none_or(|tenant| room.tenant == *tenant));
        of.filter_map(|room| self.view_policy(room).ok()).collect()
    }

    /// What is wished for a room, and what holds.
    pub fn view_policy(&self, name: &RoomName) -> Result<PolicyView, Unchanged> {
        let wished = self.policies.of(name);
        let room = self.rooms.get(name);
        if room.is_none() && wished.is_none() {
            return Err(self.no_room(name));
        }
        let group = room.and_then(|room| room.group);
        let leader = group.and_then(|group| Some((group, self.group_leader(group)?.0)));
        let leader = leader.and_then(|(group, id)| Some((group, self.nodes.get(id)?)));
        let most = leader.and_then(|(group, node)| node.groups.get(&group)?.most);
        let said = leader.and_then(|(group, node)| node.policies.get(&(group, name.clone())));
        let holds = match wished {
            Some(_) => said.copied().flatten(),
            None => most,
        };
        let (state, why) = match (wished, most) {
            (None, _) => (PolicyStands::Default, None),
            (Some(_), _) if room.is_none() => {
                let why = format!("there is no room {name} yet{}", self.near_room(name));
                (PolicyStands::NotOpen, Some(why))
            }
            (Some(_), _) if group.is_none() => {
                let why = "the room is in no placement group yet".to_owned();
                (PolicyStands::Waiting, Some(why))
            }
            (Some(policy), Some(most)) => match said {
                Some(None) => {
                    let why = "nobody has said anything in the room yet".to_owned();
                    (PolicyStands::NotOpen, Some(why))
                }
                Some(Some(holds)) if *holds == most.bounds(&policy.keep) => {
                    match most.allows(&policy.keep) {
                        true => (PolicyStands::Holds, None),
                        false => {
                            let why = "a group keeps no more of a room".to_owned();
                            (PolicyStands::Clamped, Some(why))
                        }
                    }
                }
                _ => {
                    let id = leader.map(|(_, node)| node.info.id.to_string());
                    let why = format!(
                        "{} leads the room's group, and has not said that it holds",
                        id.unwrap_or_default()
                    );
                    (PolicyStands::Waiting, Some(why))
                }
            },
            (Some(_), None) => {
                let why = match leader {
                    None => "the room's group has no leader now".to_owned(),
                    Some((_, node)) => format!(
                        "{} leads the room's group, and says nothing of policies: is it older?",
                        node.info.id
                    ),
                };
                (PolicyStands::Waiting, Some(why))
            }
        };
        Ok(PolicyView {
            room: name.room.to_string(),
            tenant: name.tenant.to_string(),
            state,
            why,
            holds,
            most,
            wished: wished.cloned(),
        })
    }

    /// ` (did you mean …?)`, or nothing.
    fn near_room(&self, name: &RoomName) -> String {
        match self.no_room(name) {
            Unchanged::NotFound {
                near: Some(near), ..
            } => format!(" (did you mean {near}?)"),
            _ => String::new(),
        }
    }
}
