//! Whoever reads a room's log at a member: goes on where it was, wherever it goes.

use std::collections::VecDeque;

use longspan_lab::history::What;
use longspan_proto::{ids::RoomName, wire::envelope::Envelope};
use longspan_relay::roomlog::Room;
use rand::RngExt;

use super::{
    Event, Story, World,
    history::{Broken, History},
    record,
};

#[derive(Debug)]
pub struct Follower {
    /// In the record.
    pub number: u32,
    pub room: RoomName,
    seq: u64,
    /// The member's host it reads at.
    pub at: Option<usize>,
    /// Counts its places: what an older one still sends is not heard.
    pub place: u64,
    pub resumed: u64,
    pub gaps: u64,
    /// What comes from its member, in order.
    pub coming: VecDeque<Envelope>,
}

impl Follower {
    pub fn new(number: u32, room: &RoomName) -> Follower {
        Follower {
            number,
            room: room.clone(),
            seq: 0,
            at: None,
            place: 0,
            resumed: 0,
            gaps: 0,
            coming: VecDeque::new(),
        }
    }

    pub fn seq(&self) -> u64 {
        self.seq
    }

    pub fn leave(&mut self) {
        self.at = None;
        self.place += 1;
        self.coming.clear();
    }

    /// Goes to a member, which holds the room like this; not to one that knows less.
    pub fn attach(
        &mut self,
        host: usize,
        room: Option<&Room>,
        history: &mut History,
    ) -> Result<(), Broken> {
        let Some(room) = room.filter(|room| room.seq() >= self.seq) else {
            return Ok(());
        };
        match room.since(self.seq) {
            Some(since) => {
                self.resumed += 1;
                let resumes = What::Resumes { seq: self.seq };
                history.record.note(&self.room, self.number, resumes);
                for message in since {
                    self.take(message, history)
                        .map_err(|broken| format!("a resume goes on: {broken}"))?;
                }
                if self.seq != room.seq() {
                    return Err(format!(
                        "a resume goes on: it ends at {} of {}",
                        self.seq,
                        room.seq()
                    ));
                }
            }
            None => {
                let state = room.snapshot();
                history.holds(&self.room, &state)?;
                self.gaps += 1;
                let (from, seq) = (self.seq + 1, state.seq);
                let record = &mut history.record;
                record.note(&self.room, self.number, What::Gap { from, to: seq });
                let (asked, state) = (record.now, record::state(&state));
                record.note(&self.room, self.number, What::Told { asked, seq, state });
                self.seq = seq;
            }
        }
        self.at = Some(host);
        self.place += 1;
        Ok(())
    }

    /// The next message.
    pub fn take(&mut self, message: &Envelope, history: &mut History) -> Result<(), Broken> {
        history.record.gets(self.number, message);
        if history.message(&self.room, message.seq) != Some(message) {
            return Err(format!(
                "a follower gets {message:?}, which is not the order"
            ));
        }
        self.seq = message.seq;
        Ok(())
    }
}

impl<S: Story> World<S> {
    /// A follower that reads nowhere goes somewhere; another moves on now and then.
    pub(super) fn follow(&mut self, follower: usize) -> Result<(), Broken> {
        let host = self.dice.random_range(0..self.hosts.len());
        let moves = self.dice.random_ratio(1, 15);
        let reader = &mut self.followers[follower];
        if reader.at.is_some() && !moves {
            return Ok(());
        }
        if let Some(group) = &self.hosts[host].group
            && self.hosts[host].stopped.is_none()
        {
            reader.leave();
            let room = group.machine().room(&reader.room);
            reader.attach(host, room, &mut self.history)?;
        }
        Ok(())
    }

    /// A host tells its followers of a message.
    pub(super) fn pass_on(&mut self, host: usize, message: &Envelope) {
        for follower in 0..self.followers.len() {
            let reader = &mut self.followers[follower];
            if reader.at == Some(host) && reader.room == message.room {
                reader.coming.push_back(message.clone());
                let place = reader.place;
                let after = self.after((false, follower), S::FOLLOWING);
                self.at(after, Event::Follow { follower, place });
            }
        }
    }

    /// The next message arrives.
    pub(super) fn take(&mut self, follower: usize, place: u64) -> Result<(), Broken> {
        let follower = &mut self.followers[follower];
        if follower.place == place
            && let Some(message) = follower.coming.pop_front()
        {
            return follower.take(&message, &mut self.history);
        }
        Ok(())
    }

    /// Nobody follows a room there any more, or none at all.
    pub(super) fn leave(&mut self, host: usize, room: Option<&RoomName>) {
        for follower in self.followers.iter_mut().filter(|f| f.at == Some(host)) {
            if room.is_none_or(|room| follower.room == *room) {
                follower.leave();
            }
        }
    }
}
