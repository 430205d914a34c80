//! What a world is about.

use std::{fmt::Debug, ops::Range};

use longspan_proto::{ids::RoomName, wire::room::Answer};
use longspan_relay::roomlog::{Limits, group::Unserved};
use rand_chacha::ChaCha8Rng;

use super::{World, client::Client, history::Broken};

/// What one kind of world has that the others have not: its numbers, its faults, and what else happens in it.
pub trait Story: Debug + Sized {
    /// What happens besides what happens everywhere.
    type Event;
    /// What a process has in its memory besides its member.
    type Process: Debug;
    /// Who waits for a member's word besides clients.
    type Asker;

    /// How its seeds are asked for.
    const NAME: &'static str;
    /// Its seeds are worlds of their own.
    const SALT: u64;
    /// Groups of [`super::MEMBERS`] hosts each, numbered from 1.
    const GROUPS: u64;
    /// Whether one packet in a hundred comes twice.
    const REPEATS: bool;
    /// Between two faults, ms.
    const FAULTS: Range<u64>;
    /// From a host to whoever follows there, µs.
    const FOLLOWING: Range<u64>;

    fn new(clients: &[Client]) -> Self;

    /// Of its rooms; their history is the world's.
    fn limits(_dice: &mut ChaCha8Rng) -> Limits {
        Limits::default()
    }

    /// A process of a group's host that begins.
    fn process(of: u64) -> Self::Process;

    /// What it waits for first.
    fn begin(_world: &mut World<Self>) {}

    /// Which hosts a client may ask.
    fn asks(world: &World<Self>, client: usize) -> Range<usize>;

    /// A host that a client asks has something else to say first; whether it had.
    fn turns_away(_world: &mut World<Self>, _client: usize, _attempt: u64, _to: usize) -> bool {
        false
    }

    /// One of its own askers gets its answer.
    fn answered(
        world: &mut World<Self>,
        host: usize,
        asker: Self::Asker,
        result: Result<Option<Answer>, Unserved>,
    );

    /// A host's member has done what it was to do.
    fn drained(_world: &mut World<Self>, _host: usize) -> Result<(), Broken> {
        Ok(())
    }

    /// The host to which it happens, which may be stopped.
    fn hears(&self, event: &Self::Event) -> Option<usize>;

    fn happen(world: &mut World<Self>, event: Self::Event) -> Result<(), Broken>;

    /// One more fault: to this host, or to whom it likes; of a hundred kinds, this one.
    fn fault(world: &mut World<Self>, one: usize, kind: u32) -> Result<(), Broken>;

    /// Its own things work again.
    fn repair(&mut self) {}

    /// Nothing of its own goes on any more.
    fn rests(&self) -> bool {
        true
    }

    /// In the end, a host of the group that keeps a room.
    fn keeper(world: &World<Self>, room: &RoomName) -> Result<usize, Broken>;
}
