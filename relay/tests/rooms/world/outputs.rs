//! What members put out is done here.

use longspan_lab::history::What;
use longspan_proto::wire::{envelope::Envelope, room::Answer};
use longspan_relay::roomlog::{
    group::{Output, Packet, Unserved},
    machine::Whereabouts,
};
use rand::RngExt;

use super::{
    Event, Story, World,
    asking::Asker,
    client::{Ask, Told},
    history::Broken,
    record,
};

impl<S: Story> World<S> {
    pub(super) fn output(&mut self, host: usize, output: Output) -> Result<(), Broken> {
        match output {
            Output::Send(packet) => self.send(host, &packet),
            Output::Persist(persist) => {
                self.hosts[host].disk.write(persist);
                self.sync(host);
            }
            Output::Done { token, result } => return self.done(host, token, result),
            Output::Readable { token } => return self.readable(host, token),
            Output::Published(message) => return self.published(host, &message),
            Output::Forgotten(room) => {
                self.hosts[host].told.remove(&room);
                self.leave(host, Some(&room));
            }
            Output::Replaced => {
                self.hosts[host].told.clear();
                self.leave(host, None);
            }
            Output::Role(role) => {
                let (of, member) = (self.hosts[host].of, self.hosts[host].member);
                if role.leader == Some(member) {
                    let term = role.generation.counter();
                    return self.history.leads(of, term, host);
                }
            }
            Output::Halted { why } => return Err(format!("members go on: host {host}: {why}")),
        }
        Ok(())
    }

    fn send(&mut self, host: usize, packet: &Packet) {
        let to = self.host_of(self.hosts[host].of, packet.to);
        self.played
            .count("snapshots", u64::from(packet.is_snapshot()));
        let copies = 1 + usize::from(S::REPEATS && self.dice.random_ratio(1, 100));
        for _ in 0..copies {
            if let Some(delay) = self.net.delay(&mut self.dice, host, to) {
                let bytes = packet.encode();
                self.at(delay, Event::Packet { to, bytes });
            }
        }
    }

    fn done(
        &mut self,
        host: usize,
        token: u64,
        result: Result<Option<Answer>, Unserved>,
    ) -> Result<(), Broken> {
        let (client, attempt, ask) = match self.hosts[host].tokens.remove(&token) {
            None => {
                return Err(format!(
                    "one answer each: host {host} answers {token} again"
                ));
            }
            Some(Asker::Own(asker)) => {
                S::answered(self, host, asker, result);
                return Ok(());
            }
            Some(Asker::Client(client, attempt, ask)) => (client, attempt, *ask),
        };
        if let (
            Ok(Some(Answer::Acked { session, n, .. } | Answer::Refused { session, n, .. })),
            Ask::Publish(message),
        ) = (&result, &ask)
            && (*session, *n) != (message.session, message.n)
        {
            return Err(format!(
                "answers are to whom asked: {message:?} got {result:?}"
            ));
        }
        let told = match (result, ask) {
            (Ok(Some(Answer::Held { n, .. })), Ask::Held { acked, .. }) => Told::Held { n, acked },
            (Ok(Some(answer)), _) => Told::Answer(answer),
            (Ok(None), _) => Told::Nothing,
            (Err(unserved), _) => Told::Unserved(unserved),
        };
        self.tell(client, attempt, told);
        Ok(())
    }

    fn readable(&mut self, host: usize, token: u64) -> Result<(), Broken> {
        let again = || format!("one answer each: host {host} reads {token} again");
        let asker = self.hosts[host].tokens.remove(&token);
        let Some(Asker::Client(client, attempt, ask)) = asker else {
            return Err(again());
        };
        let Ask::Read { room, asked } = *ask else {
            return Err(again());
        };
        let group = self.hosts[host].group.as_ref();
        let machine = group.map(|group| group.machine());
        if machine.is_some_and(|m| matches!(m.whereabouts(&room), Whereabouts::Away(_))) {
            return Ok(());
        }
        let state = Box::new(self.state(host, &room));
        self.tell(client, attempt, Told::State { asked, state });
        Ok(())
    }

    fn published(&mut self, host: usize, message: &Envelope) -> Result<(), Broken> {
        self.history.published(host, message)?;
        let told = &mut self.hosts[host].told;
        let before = told.insert(message.room.clone(), message.seq);
        let me = record::HOST + host as u32;
        let record = &mut self.history.record;
        if before.is_none() {
            // From here on it tells one after the other.
            let seq = message.seq - 1;
            record.note(&message.room, me, What::Leaves);
            record.note(&message.room, me, What::Resumes { seq });
        }
        record.gets(me, message);
        if before.is_some_and(|before| before + 1 != message.seq) {
            return Err(format!(
                "no hole: host {host} tells {} after {before:?}",
                message.seq
            ));
        }
        self.pass_on(host, message);
        Ok(())
    }
}
