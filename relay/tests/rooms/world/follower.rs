//! Whoever reads a room's log at a member: goes on where it was, wherever it goes.

use std::collections::VecDeque;

use longspan_lab::history::What;
use longspan_proto::{ids::RoomName, wire::envelope::Envelope};
use longspan_relay::roomlog::Room;

use super::{
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
