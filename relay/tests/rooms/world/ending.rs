//! How a world ends: everything is repaired, and must come to rest.

use bytes::Bytes;
use longspan_lab::history::What;
use longspan_proto::ids::RoomName;
use longspan_relay::roomlog::group::Group;

use super::{Played, Story, World, client::Client, history::Broken, record};

impl<S: Story> World<S> {
    pub(super) fn repair(&mut self) -> Result<(), Broken> {
        self.net.heal();
        self.story.repair();
        for host in 0..self.hosts.len() {
            self.go_on(host)?;
            self.start(host)?;
        }
        Ok(())
    }

    /// Everything is done, and everybody knows everything.
    pub(super) fn is_settled(&self) -> bool {
        let rests = |group: &&Group| {
            let machine = group.machine();
            self.is_whole(group)
                && machine.leaving().next().is_none()
                && machine.unsettled().next().is_none()
        };
        self.clients.iter().all(Client::is_done)
            && (1..=S::GROUPS).all(|of| self.group(of).is_some_and(|all| all.iter().all(rests)))
            && self.story.rests()
            && self
                .followers
                .iter()
                .all(|follower| follower.seq() == self.history.newest(&follower.room))
    }

    /// The members of a group, if all are there and have applied the same.
    fn group(&self, of: u64) -> Option<Vec<&Group>> {
        let member = |member| self.hosts[self.host_of(of, member)].group.as_ref();
        let groups: Option<Vec<&Group>> = self.wanted.iter().copied().map(member).collect();
        groups.filter(|groups| {
            let applied = groups.first().map(|group| group.applied());
            groups.iter().all(|group| Some(group.applied()) == applied)
        })
    }

    /// A member knows its group to be as it shall be.
    pub fn is_whole(&self, group: &Group) -> bool {
        let (mut voters, learners) = group.voters();
        voters.sort();
        voters == self.wanted && learners.is_empty() && !group.is_changing()
    }

    pub(super) fn unsettled(&self) -> Broken {
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|host| match &host.group {
                None => format!("{} {:?}: down", host.of, host.member),
                Some(group) => {
                    let machine = group.machine();
                    format!(
                        "{} {:?}: {:?} applied {} voters {:?} changing {} leaving {:?} unsettled {:?} {:?}",
                        host.of,
                        host.member,
                        group.role(),
                        group.applied(),
                        group.voters(),
                        group.is_changing(),
                        machine.leaving().collect::<Vec<_>>(),
                        machine.unsettled().collect::<Vec<_>>(),
                        host.process,
                    )
                }
            })
            .collect();
        format!(
            "all is done in the end: wanted {:?}, {hosts:#?}, {:?}, {:#?}, {:#?}",
            self.wanted, self.story, self.clients, self.followers
        )
    }

    pub(super) fn finish(mut self) -> Result<Played, Broken> {
        for of in 1..=S::GROUPS {
            let Some(groups) = self.group(of) else {
                return Err("a settled group is whole".into());
            };
            let states: Vec<Bytes> = groups.iter().map(|g| g.machine().snapshot()).collect();
            if states.windows(2).any(|pair| pair[0] != pair[1]) {
                return Err("one state: members that applied the same hold other bytes".into());
            }
        }
        let rooms: Vec<RoomName> = self.history.rooms().cloned().collect();
        for room in rooms {
            let host = S::keeper(&self, &room)?;
            let read = self.state(host, &room);
            self.history.holds(&room, &read)?;
            let (asked, seq) = (self.now, read.seq);
            let state = record::state(&read);
            let read = What::Reads { asked, seq, state };
            let last = record::HOST + host as u32;
            self.history.record.note(&room, last, read);
            self.played.count("published", self.history.newest(&room));
        }
        for follower in &self.followers {
            let record = &mut self.history.record;
            record.note(&follower.room, follower.number, What::Stays);
        }
        self.history.record.judge()?;
        self.played.count("terms", self.history.terms() as u64);
        for client in &self.clients {
            self.played.count("resent", client.resent);
            self.played.count("conflicts", client.conflicts);
            self.played.count("expired", client.expired);
            self.played.count("reads", client.reads);
        }
        for follower in &self.followers {
            self.played.count("resumed", follower.resumed);
            self.played.count("gaps", follower.gaps);
        }
        Ok(self.played)
    }
}
