//! What a placement group's record asks of this node. Pure.

use longspan_proto::{control, ids::NodeId, wire::MAX_VARINT};

use super::super::group::Member;

/// A record that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub id: u64,
    pub era: u16,
    pub revision: u64,
    pub members: Vec<Fellow>,
    pub born: Vec<Member>,
    pub leaving: Vec<Fellow>,
    /// As it was told.
    pub told: control::PlacementGroup,
}

/// A member and where it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fellow {
    pub number: Member,
    pub node: NodeId,
    pub disk: u64,
}

/// The part this node has in a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Held<'a> {
    /// The newest record it knows.
    pub record: &'a Record,
    /// Which member it is.
    pub member: Option<Member>,
    /// Which one it was, and is not any more.
    pub ended: Option<Member>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// It is not newer, or not this node's affair.
    Nothing,
    /// Take part as this member: with what a new group begins with, or with nothing.
    Begin { member: Member, born: bool },
    /// Go on, by the newer record.
    Go,
    /// This node has no part in it any more.
    Leave,
}

impl Record {
    pub fn parse(told: control::PlacementGroup) -> Result<Record, String> {
        let fellow = |member: &control::GroupMember| {
            let node = NodeId::new(&member.node).map_err(|e| e.to_string())?;
            Ok::<_, String>(Fellow {
                number: Member(member.number),
                node,
                disk: member.disk,
            })
        };
        let all = |members: &[control::GroupMember]| {
            members.iter().map(fellow).collect::<Result<Vec<_>, _>>()
        };
        let (members, leaving) = (all(&told.members)?, all(&told.leaving)?);
        let era = told.era.try_into();
        let era = era.map_err(|_| format!("era {}; the limit is {}", told.era, u16::MAX))?;
        let mut numbers: Vec<u64> = members.iter().chain(&leaving).map(|f| f.number.0).collect();
        numbers.sort_unstable();
        if told.id == 0 || told.id.max(numbers.last().copied().unwrap_or(0)) > MAX_VARINT {
            return Err(format!("its id or a number is 0 or above {MAX_VARINT}"));
        }
        if numbers.first() == Some(&0) || numbers.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("a member's number is 0, or given twice".into());
        }
        Ok(Record {
            id: told.id,
            era,
            revision: told.revision,
            members,
            born: told.born.iter().copied().map(Member).collect(),
            leaving,
            told,
        })
    }

    /// Everybody who may speak in it.
    pub fn fellows(&self) -> impl Iterator<Item = &Fellow> {
        self.members.iter().chain(&self.leaving)
    }

    pub fn node(&self, member: Member) -> Option<&NodeId> {
        let found = self.fellows().find(|fellow| fellow.number == member);
        found.map(|fellow| &fellow.node)
    }

    /// What this record asks of a node that has this part in its group.
    pub fn step(&self, me: &NodeId, disk: u64, held: Option<Held<'_>>) -> Step {
        let newer =
            |held: &Held<'_>| (self.era, self.revision) > (held.record.era, held.record.revision);
        if held.as_ref().is_some_and(|held| !newer(held)) {
            return Step::Nothing;
        }
        let own = |fellow: &&Fellow| fellow.node == *me && fellow.disk == disk;
        let wanted = self.members.iter().find(own).map(|own| own.number);
        let (member, ended) = held.map_or((None, None), |held| (held.member, held.ended));
        let same_era = held.is_some_and(|held| held.record.era == self.era);
        if let Some(member) = member
            && same_era
            && self.fellows().any(|f| own(&f) && f.number == member)
        {
            return Step::Go;
        }
        match wanted {
            // A number is given once: whoever was it may have voted under it.
            Some(number) if ended == Some(number) || member == Some(number) => Step::Nothing,
            Some(number) => Step::Begin {
                member: number,
                // Whoever had a part in it is no newborn: it may have voted.
                born: self.born.contains(&number)
                    && (!same_era || (member.is_none() && ended.is_none())),
            },
            None if member.is_some() => Step::Leave,
            None => Step::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use longspan_proto::control::{GroupMember, PlacementGroup};

    use super::*;

    const DISK: u64 = 77;

    fn record(revision: u64, members: &[(u64, &str, u64)], leaving: &[(u64, &str, u64)]) -> Record {
        let all = |members: &[(u64, &str, u64)]| {
            let one = |(number, node, disk): &(u64, &str, u64)| GroupMember {
                number: *number,
                node: (*node).to_owned(),
                disk: *disk,
            };
            members.iter().map(one).collect()
        };
        Record::parse(PlacementGroup {
            id: 5,
            era: 1,
            revision,
            members: all(members),
            born: vec![1, 2, 3],
            leaving: all(leaving),
        })
        .unwrap()
    }

    fn step(told: &Record, held: Option<(&Record, Option<u64>, Option<u64>)>) -> Step {
        let held = held.map(|(record, member, ended)| Held {
            record,
            member: member.map(Member),
            ended: ended.map(Member),
        });
        told.step(&NodeId::new("me").unwrap(), DISK, held)
    }

    fn begin(member: u64, born: bool) -> Step {
        Step::Begin {
            member: Member(member),
            born,
        }
    }

    #[test]
    fn the_born_begin_with_the_group_and_joiners_with_nothing() {
        let first = record(1, &[(1, "me", DISK), (2, "b", 1), (3, "c", 1)], &[]);
        assert_eq!(step(&first, None), begin(1, true));
        let later = record(2, &[(4, "me", DISK), (2, "b", 1)], &[(1, "a", 1)]);
        assert_eq!(step(&later, None), begin(4, false));
        assert_eq!(step(&later, Some((&first, None, None))), begin(4, false));
    }

    #[test]
    fn another_disk_is_another_member() {
        let first = record(1, &[(1, "me", DISK + 1), (2, "b", 1)], &[]);
        assert_eq!(step(&first, None), Step::Nothing);
        let replaced = record(2, &[(4, "me", DISK), (2, "b", 1)], &[(1, "me", DISK + 1)]);
        assert_eq!(step(&replaced, None), begin(4, false));
    }

    #[test]
    fn it_stays_while_it_leaves_and_goes_when_it_is_not_named_any_more() {
        let first = record(1, &[(1, "me", DISK), (2, "b", 1)], &[]);
        let leaving = record(2, &[(4, "d", 1), (2, "b", 1)], &[(1, "me", DISK)]);
        let gone = record(3, &[(4, "d", 1), (2, "b", 1)], &[]);
        assert_eq!(step(&leaving, Some((&first, Some(1), None))), Step::Go);
        assert_eq!(step(&gone, Some((&leaving, Some(1), None))), Step::Leave);
        assert_eq!(step(&first, Some((&gone, None, Some(1)))), Step::Nothing);
        assert_eq!(step(&gone, Some((&gone, Some(1), None))), Step::Nothing);
    }

    #[test]
    fn no_number_is_taken_twice_and_nobody_is_born_twice() {
        let first = record(1, &[(1, "me", DISK), (2, "b", 1)], &[]);
        let again = record(4, &[(1, "me", DISK), (2, "b", 1)], &[]);
        assert_eq!(step(&again, Some((&first, None, Some(1)))), Step::Nothing);
        let other = record(4, &[(3, "me", DISK), (2, "b", 1)], &[]);
        assert_eq!(step(&other, Some((&first, None, Some(1)))), begin(3, false));
        assert_eq!(step(&other, Some((&first, Some(1), None))), begin(3, false));
    }

    #[test]
    fn a_group_made_anew_is_begun_anew() {
        let first = record(9, &[(1, "me", DISK), (2, "b", 1)], &[]);
        let mut anew = record(1, &[(7, "me", DISK)], &[]);
        anew.era = 2;
        anew.born = vec![Member(7)];
        assert_eq!(step(&anew, Some((&first, Some(1), None))), begin(7, true));
        anew.members.clear();
        assert_eq!(step(&anew, Some((&first, Some(1), None))), Step::Leave);
        assert_eq!(step(&first, Some((&anew, None, Some(1)))), Step::Nothing);
    }

    #[test]
    fn an_odd_record_is_refused() {
        let good = record(1, &[(1, "me", DISK)], &[]).told;
        let refused = |change: &dyn Fn(&mut PlacementGroup)| {
            let mut told = good.clone();
            change(&mut told);
            Record::parse(told).is_err()
        };
        assert!(refused(&|told| told.era = 65_536));
        assert!(refused(&|told| told.id = 0));
        assert!(refused(&|told| told.id = u64::MAX));
        assert!(refused(&|told| told.members[0].number = u64::MAX));
        assert!(refused(&|told| told.members[0].number = 0));
        assert!(refused(&|told| told.members[0].node = "Not A Name".into()));
        assert!(refused(&|told| told.leaving = told.members.clone()));
        assert!(!refused(&|_| {}));
    }
}
