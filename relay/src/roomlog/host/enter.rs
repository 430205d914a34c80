//! Who is let in to a group's rooms: calls of edges, and of other groups.

use longspan_proto::{ids::RoomName, time::Time};
use tokio::sync::watch;

use super::{
    super::group::Group,
    port::{Entered, Led, NotHere, Place},
    running::Running,
};

impl Running {
    /// Whether this node leads.
    pub(super) fn lead(&self) -> Result<Led, NotHere> {
        let standing = self.standing.borrow().clone();
        let Some(group) = &self.group else {
            return Err(NotHere::Unavailable(format!("halted: {}", self.halted)));
        };
        if !standing.leads {
            return Err(match (standing.elsewhere, group.role().leader) {
                (None, None) => NotHere::Leaderless(self.standing.subscribe()),
                (node, _) => NotHere::Elsewhere(node),
            });
        }
        Ok(Led {
            generation: standing.generation,
            standing: self.standing.subscribe(),
        })
    }

    /// A call comes to a room.
    pub(super) fn enter(&mut self, now: Time, room: RoomName) -> Result<Entered, NotHere> {
        // Every member knows for certain that a room is gone, also while nobody leads.
        if let Some(moved) = self.moved(&room) {
            return Err(NotHere::Moved(moved));
        }
        let Led {
            generation,
            standing,
        } = self.lead()?;
        let place = self.place(&room);
        let known = self.rooms.entry(room.clone());
        let place = known
            .or_insert_with(|| watch::Sender::new(place))
            .subscribe();
        if *place.borrow() == Place::Moving {
            return Err(NotHere::Moving(place));
        }
        let machine = self.group.as_ref().map(Group::machine);
        let came = machine.and_then(|machine| machine.came(&room));
        // From here on each message goes into the track when it is given its place.
        if self
            .tracks
            .begin(&room, generation, came.map_or(0, |came| came.word))
            && let Some(known) = machine.and_then(|machine| machine.room(&room))
        {
            self.tracks.retained(&room, now, known);
        }
        Ok(Entered {
            generation,
            came,
            standing,
            place,
        })
    }
}
