//! How a world ends: everything is repaired, and must come to rest.

use bytes::Bytes;
use longspan_lab::history::What;
use longspan_proto::ids::RoomName;
use longspan_relay::roomlog::group::Group;

use super::{
    client::Client,
    history::Broken,
    record,
    world::{Played, World},
};

impl World {
    pub fn repair(&mut self) -> Result<(), Broken> {
        self.net.heal();
        for host in 0..self.hosts.len() {
            self.go_on(host)?;
            self.start(host)?;
        }
        Ok(())
    }

    /// Everything is done, and everybody knows everything.
    pub fn is_settled(&self) -> bool {
        let members = self.wanted.iter().map(|member| member.0 as usize - 1);
        let groups: Vec<&Group> = members
            .filter_map(|host| self.hosts[host].group.as_ref())
            .collect();
        let applied = groups.first().map_or(0, |group| group.applied());
        self.clients.iter().all(Client::is_done)
            && groups.len() == self.wanted.len()
            && groups.iter().all(|group| {
                let (mut voters, learners) = group.voters();
                voters.sort();
                voters == self.wanted
                    && learners.is_empty()
                    && !group.is_changing()
                    && group.applied() == applied
            })
            && self
                .followers
                .iter()
                .all(|follower| follower.seq() == self.history.newest(&follower.room))
    }

    pub fn unsettled(&self) -> Broken {
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|host| match &host.group {
                None => format!("{:?}: down", host.member),
                Some(group) => format!(
                    "{:?}: {:?} applied {} voters {:?} changing {}",
                    host.member,
                    group.role(),
                    group.applied(),
                    group.voters(),
                    group.is_changing()
                ),
            })
            .collect();
        format!(
            "all is done in the end: wanted {:?}, {hosts:#?}, {:#?}, {:#?}",
            self.wanted, self.clients, self.followers
        )
    }

    pub fn finish(mut self) -> Result<Played, Broken> {
        let rooms: Vec<RoomName> = self.history.rooms().cloned().collect();
        let members: Vec<usize> = self.wanted.iter().map(|m| m.0 as usize - 1).collect();
        let states: Vec<Bytes> = members
            .iter()
            .filter_map(|host| Some(self.hosts[*host].group.as_ref()?.machine().snapshot()))
            .collect();
        if states.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err("one state: members that applied the same entries hold other bytes".into());
        }
        for room in rooms {
            let read = self.state(members[0], &room);
            self.history.holds(&room, &read)?;
            let (asked, seq) = (self.now, read.seq);
            let state = record::state(&read);
            let read = What::Reads { asked, seq, state };
            let last = record::HOST + members[0] as u32;
            self.history.record.note(&room, last, read);
            self.played.published += self.history.newest(&room);
        }
        for follower in &self.followers {
            let record = &mut self.history.record;
            record.note(&follower.room, follower.number, What::Stays);
        }
        self.history.record.judge()?;
        self.played.leaders = self.history.terms() as u64;
        for client in &self.clients {
            self.played.resent += client.resent;
            self.played.conflicts += client.conflicts;
            self.played.expired += client.expired;
            self.played.reads += client.reads;
        }
        for follower in &self.followers {
            self.played.resumed += follower.resumed;
            self.played.gaps += follower.gaps;
        }
        Ok(self.played)
    }
}
