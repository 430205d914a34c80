//! What operators want kept of rooms: the driver of a group's [`Policies`](super::super::policy::Policies).

use std::collections::BTreeMap;

use longspan_proto::{
    control,
    ids::{Room, RoomName, Tenant},
    time::Time,
};
use metrics::counter;

use super::{
    super::{Retention, group::Group, machine::Command, policy::Policy},
    running::Running,
};

/// Policies that are taken of one list; what is beyond is left out, and counted. As many as a
/// controller holds.
const POLICIES: usize = 4_096;

impl Running {
    /// A controller says what is wished for the group's rooms.
    pub(super) fn heed_policies(&mut self, now: Time, wishes: Vec<(RoomName, Policy)>) {
        self.policies.wish(wishes);
        self.look_at_policies(now);
    }

    /// Puts into the log what differs from what is wished; whether there was anything.
    pub(super) fn look_at_policies(&mut self, now: Time) -> bool {
        let Some(group) = &self.group else {
            return false;
        };
        let due = self.policies.due(now, group.machine(), group.serves());
        let any = !due.is_empty();
        for command in due {
            if let Command::Retain { room, retention } = &command {
                let group = self.record().id;
                tracing::info!(group, %room, ?retention, "a room's policy is put into the log");
            }
            self.put(now, command);
        }
        any
    }

    /// What holds of each room for which something is wished, if this member leads.
    pub(super) fn kept(&self) -> Vec<control::PolicyStatus> {
        let Some(group) = self.group.as_ref().filter(|group| group.serves()) else {
            return Vec::new();
        };
        let status = |(room, keeps): (RoomName, Option<Retention>)| control::PolicyStatus {
            tenant: room.tenant.to_string(),
            room: room.room.to_string(),
            group: self.record().id,
            keeps: keeps.map(Retention::to_control),
        };
        let standing = self.policies.standing(group.machine());
        standing.into_iter().map(status).collect()
    }

    /// The most it keeps of a room.
    pub(super) fn most(&self) -> Option<control::Retention> {
        let machine = self.group.as_ref().map(Group::machine);
        machine.map(|machine| machine.most().to_control())
    }
}

/// What a controller wishes, by the group that keeps the room. What makes no sense is left out, and
/// counted.
pub(super) fn parse(told: &control::Policies) -> BTreeMap<u64, Vec<(RoomName, Policy)>> {
    let mut wishes: BTreeMap<u64, Vec<(RoomName, Policy)>> = BTreeMap::new();
    let told = told.policies.iter().enumerate();
    for (index, told) in told {
        match one(index, told) {
            Ok(wish) => wishes.entry(told.group).or_default().push(wish),
            Err(why) => {
                counter!("longspan_rejected_total", "reason" => "room_policy").increment(1);
                tracing::warn!(told.room, why, "a room's policy makes no sense");
            }
        }
    }
    wishes
}

fn one(index: usize, told: &control::RoomPolicy) -> Result<(RoomName, Policy), String> {
    let odd = |error: longspan_proto::ids::NameError| error.to_string();
    if index >= POLICIES {
        return Err(format!("{POLICIES} policies came before it, the limit"));
    }
    if told.word == 0 || told.group == 0 {
        return Err(format!(
            "its number {} or group {} is 0",
            told.word, told.group
        ));
    }
    let Some(keep) = &told.keep else {
        return Err("it says nothing".into());
    };
    let room = RoomName {
        tenant: Tenant::new(&told.tenant).map_err(odd)?,
        room: Room::new(&told.room).map_err(odd)?,
    };
    let policy = Policy {
        word: told.word,
        keep: Retention::told(keep),
    };
    Ok((room, policy))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn good() -> control::RoomPolicy {
        control::RoomPolicy {
            tenant: "default".into(),
            room: "math".into(),
            word: 7,
            group: 1,
            keep: Some(control::Retention {
                messages: Some(10),
                bytes: None,
                age_ms: Some(60_000),
            }),
        }
    }

    #[test]
    fn an_odd_policy_is_left_out() {
        let refused = |change: &dyn Fn(&mut control::RoomPolicy)| {
            let mut told = good();
            change(&mut told);
            let policies = vec![told, good()];
            parse(&control::Policies { policies })[&1].len() == 1
        };
        assert!(refused(&|told| told.word = 0));
        assert!(refused(&|told| told.group = 0));
        assert!(refused(&|told| told.keep = None));
        assert!(refused(&|told| told.room = "a/b".into()));
        assert!(refused(&|told| told.tenant = String::new()));
        assert!(!refused(&|_| {}));
        let policies = vec![good(); POLICIES + 1];
        assert_eq!(parse(&control::Policies { policies })[&1].len(), POLICIES);
    }

    #[test]
    fn what_is_left_out_is_not_bounded() {
        let policies = vec![good()];
        let (_, policy) = parse(&control::Policies { policies })[&1][0].clone();
        let keep = Retention {
            messages: 10,
            bytes: usize::MAX,
            age: Duration::from_secs(60),
        };
        assert_eq!(policy, Policy { word: 7, keep });
        let told = Retention::told(&keep.to_control());
        assert_eq!(told, keep, "there and back");
    }
}
