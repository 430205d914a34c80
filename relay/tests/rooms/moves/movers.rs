//! The movers of hosts: what they put out is done here.

use longspan_proto::{ids::NodeId, time::Time, wire::moving::LogId};
use longspan_relay::roomlog::mover::{Input, Mover, Output};

use super::{Asker, Event, Moves};
use crate::world::{World, history::Broken};

/// What a host's process knows of moves.
#[derive(Debug)]
pub struct Process {
    pub mover: Mover,
    /// When its mover looks.
    look: Time,
    /// What its mover saw last: how often moves changed, and whether it serves.
    seen: Option<(u64, bool)>,
}

impl Process {
    pub fn new(of: u64) -> Process {
        Process {
            mover: Mover::new(LogId { group: of, era: 1 }),
            look: Time::ZERO,
            seen: None,
        }
    }
}

/// The name of a host's node.
pub fn node(host: usize) -> NodeId {
    NodeId::new(&format!("host-{host}")).expect("a name")
}

impl World<Moves> {
    /// Shows a mover its member, if there is anything new to see.
    pub fn look(&mut self, host: usize) -> Result<(), Broken> {
        let group = self.hosts[host].group.as_ref();
        let saw = group.map(|group| (group.machine().moves_changed(), group.serves()));
        match self.hosts[host].process.seen == saw {
            true => Ok(()),
            false => self.mover(host, Input::Look),
        }
    }

    pub fn clock(&mut self, host: usize, life: u64) -> Result<(), Broken> {
        let of = &mut self.hosts[host];
        if of.life != life || of.process.look > self.now {
            return Ok(());
        }
        of.process.look = Time::ZERO;
        self.mover(host, Input::Look)
    }

    /// Gives a host's mover an input and does what comes of it.
    pub fn mover(&mut self, host: usize, input: Input) -> Result<(), Broken> {
        let now = self.now;
        let of = &mut self.hosts[host];
        let Some(group) = &of.group else {
            return Ok(());
        };
        of.process.seen = Some((group.machine().moves_changed(), group.serves()));
        let mover = &mut of.process.mover;
        mover.handle(now, group.machine(), group.serves(), input);
        while let Some(output) = self.hosts[host].process.mover.poll_output() {
            match output {
                Output::Call {
                    call,
                    room,
                    group,
                    node,
                } => self.call(host, call, room, group, &node),
                Output::Say { call, carry } => self.say(host, call, carry),
                Output::End { call } => self.hang_up(host, call),
                Output::Propose(command) => {
                    self.strike(host, &command)?;
                    self.propose_own(host, Asker::Mover, command)?;
                }
            }
        }
        let (life, process) = (self.hosts[host].life, &mut self.hosts[host].process);
        if let Some(due) = process.mover.poll_timeout()
            && process.look != due
        {
            process.look = due;
            self.at_own(due.saturating_since(now), Event::Look { host, life });
        }
        Ok(())
    }
}
