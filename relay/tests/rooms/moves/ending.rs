//! How a world ends: everything is repaired, and must come to rest.

use bytes::Bytes;
use longspan_lab::history::What;
use longspan_proto::{ids::RoomName, time::Time};
use longspan_relay::roomlog::{group::Group, machine::Whereabouts};

use super::{
    client::Client,
    history::Broken,
    record,
    world::{GROUPS, MEMBERS, Played, World},
};

impl World {
    pub fn repair(&mut self) -> Result<(), Broken> {
        self.net.heal();
        self.controller.back = Time::ZERO;
        for host in 0..self.hosts.len() {
            self.go_on(host)?;
            self.start(host)?;
        }
        Ok(())
    }

    /// The members of a group, if all are there and have applied the same.
    fn group(&self, of: usize) -> Option<Vec<&Group>> {
        let hosts = &self.hosts[of * MEMBERS..(of + 1) * MEMBERS];
        let groups: Option<Vec<&Group>> = hosts.iter().map(|host| host.group.as_ref()).collect();
        groups.filter(|groups| {
            let applied = groups.first().map(|group| group.applied());
            groups.iter().all(|group| Some(group.applied()) == applied)
        })
    }

    /// Everything is done, and everybody knows everything.
    pub fn is_settled(&self) -> bool {
        let rests = |of: usize| {
            self.group(of).is_some_and(|groups| {
                let machine = groups[0].machine();
                machine.leaving().next().is_none() && machine.unsettled().next().is_none()
            })
        };
        self.clients.iter().all(Client::is_done)
            && (0..GROUPS).all(rests)
            && self.controller.rooms.values().all(|r| r.moving.is_none())
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
                None => format!("{} {:?}: down", host.of, host.member),
                Some(group) => {
                    let machine = group.machine();
                    format!(
                        "{} {:?}: {:?} applied {} leaving {:?} unsettled {:?} mover {:?}",
                        host.of,
                        host.member,
                        group.role(),
                        group.applied(),
                        machine.leaving().collect::<Vec<_>>(),
                        machine.unsettled().collect::<Vec<_>>(),
                        host.mover,
                    )
                }
            })
            .collect();
        format!(
            "all is done in the end: {hosts:#?}, {:?}, {:?}, {:#?}, {:#?}",
            self.controller, self.placed, self.clients, self.followers
        )
    }

    pub fn finish(mut self) -> Result<Played, Broken> {
        for of in 0..GROUPS {
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
            let keeps = |host: usize| {
                let group = self.hosts[host].group.as_ref();
                group.map(|group| group.machine().whereabouts(&room))
            };
            let here = (0..GROUPS).filter(|g| keeps(g * MEMBERS) == Some(Whereabouts::Here));
            let here: Vec<u64> = here.map(|group| group as u64 + 1).collect();
            let record = &self.controller.rooms[&room];
            if here != [record.group] {
                return Err(format!(
                    "one place: {room} is in {here:?}, by the record {record:?}"
                ));
            }
            if (0..GROUPS).any(|g| keeps(g * MEMBERS) == Some(Whereabouts::Coming)) {
                return Err(format!("nothing is left behind: a copy of {room}"));
            }
            let host = (record.group as usize - 1) * MEMBERS;
            let read = self.state(host, &room);
            self.history.holds(&room, &read)?;
            let (asked, seq) = (self.now, read.seq);
            let state = record::state(&read);
            let read = What::Reads { asked, seq, state };
            let last = record::HOST + host as u32;
            self.history.record.note(&room, last, read);
            self.played.published += self.history.newest(&room);
        }
        for follower in &self.followers {
            let record = &mut self.history.record;
            record.note(&follower.room, follower.number, What::Stays);
        }
        self.history.record.judge()?;
        for client in &self.clients {
            self.played.resent += client.resent;
        }
        Ok(self.played)
    }
}
