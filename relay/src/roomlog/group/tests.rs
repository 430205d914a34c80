use bytes::Bytes;
use longspan_proto::{
    ids::{Room as Name, RoomName, SessionId, Tenant},
    wire::{
        envelope::{Class, Envelope},
        room::Answer,
    },
};
use proptest::{collection::vec, prelude::*};
use raft::eraftpb::{EntryType, Message, MessageType};

use super::{
    super::{Limits, machine::Command},
    *,
};

/// Members that hear each other at once, and whose disks are instant, unless said otherwise.
struct Table {
    now: Time,
    groups: Vec<Group>,
    saved: Vec<Saved>,
    /// Members that nobody hears and that hear nobody.
    away: Vec<u64>,
    outputs: Vec<(Member, Output)>,
}

const VOTERS: [Member; 3] = [Member(1), Member(2), Member(3)];

impl Table {
    fn new(cut: Cut) -> Table {
        let saved = vec![Saved::born(&VOTERS, Limits::default()); 3];
        let mut table = Table {
            now: Time::ZERO,
            groups: Vec::new(),
            saved: Vec::new(),
            away: Vec::new(),
            outputs: Vec::new(),
        };
        for saved in saved {
            table.join(saved, cut);
        }
        table
    }

    fn join(&mut self, saved: Saved, cut: Cut) {
        let me = Member(self.groups.len() as u64 + 1);
        let config = Config {
            group: 1,
            era: 1,
            me,
            seed: me.0,
            cut,
        };
        let group = Group::new(self.now, config, saved.clone()).expect("readable");
        self.groups.push(group);
        self.saved.push(saved);
    }

    /// Delivers everything there is.
    fn drain(&mut self) {
        let mut busy = true;
        while busy {
            busy = false;
            for at in 0..self.groups.len() {
                while let Some(output) = self.groups[at].poll_output() {
                    busy = true;
                    self.deliver(at, output);
                }
            }
        }
    }

    fn deliver(&mut self, at: usize, output: Output) {
        match output {
            Output::Persist(persist) => {
                self.saved[at].write(&persist);
                self.groups[at].handle(self.now, Input::Persisted(persist.number));
            }
            Output::Send(packet) => {
                let (from, to) = (packet.from.0, packet.to.0);
                if self.away.contains(&from) || self.away.contains(&to) {
                    return;
                }
                let packet = Packet::decode(packet.encode()).expect("readable");
                self.groups[to as usize - 1].handle(self.now, Input::Packet(packet));
            }
            other => self.outputs.push((Member(at as u64 + 1), other)),
        }
    }

    /// Lets time pass until this holds, 30 s at most.
    fn until(&mut self, what: &str, holds: impl Fn(&Table) -> bool) {
        let end = self.now + Duration::from_secs(30);
        self.drain();
        while !holds(self) {
            assert!(self.now < end, "not within 30 s: {what}: {}", self.state());
            self.now = self.now + Duration::from_millis(5);
            for group in &mut self.groups {
                group.handle_timeout(self.now);
            }
            self.drain();
        }
    }

    fn state(&self) -> String {
        let of = |group: &Group| {
            let progress: Vec<_> = group.node.raft.prs().iter().collect();
            format!("{:?} {:?} {progress:?}\n", group.role(), group.voters())
        };
        self.groups.iter().map(of).collect()
    }

    fn leader(&self) -> Option<usize> {
        let away = |at: &usize| self.away.contains(&(*at as u64 + 1));
        (0..self.groups.len()).find(|at| !away(at) && self.groups[*at].leads())
    }

    fn elect(&mut self) -> usize {
        self.until("a leader", |table| table.leader().is_some());
        self.leader().expect("a leader")
    }

    fn publish(&mut self, at: usize, n: u64) {
        let input = Input::Propose {
            token: n,
            command: Command::Publish(message(n)),
            wall: 1_000,
        };
        self.groups[at].handle(self.now, input);
        self.drain();
    }

    fn done(&self, token: u64) -> Option<&Result<Option<Answer>, Unserved>> {
        self.outputs.iter().find_map(|(_, output)| match output {
            Output::Done { token: of, result } if *of == token => Some(result),
            _ => None,
        })
    }

    fn acked(&self, n: u64) -> bool {
        matches!(self.done(n), Some(Ok(Some(Answer::Acked { .. }))))
    }
}

fn message(n: u64) -> Envelope {
    Envelope {
        room: RoomName {
            tenant: Tenant::default_tenant(),
            room: Name::new("math").unwrap(),
        },
        session: SessionId([7; 16]),
        n,
        class: Class::Log,
        topic: "t".into(),
        key: None,
        expected: None,
        revision: 0,
        from: "m".into(),
        recipient: None,
        at: 0,
        seq: 0,
        body: Bytes::from(vec![0; 100]),
    }
}

#[test]
fn a_message_is_acked_once_a_majority_has_it() {
    let mut table = Table::new(Cut::default());
    let leader = table.elect();
    table.publish(leader, 1);
    assert!(table.acked(1));
    let follower = (leader + 1) % 3;
    table.publish(follower, 2);
    let leads = Some(Member(leader as u64 + 1));
    assert_eq!(
        table.done(2),
        Some(&Err(Unserved::Elsewhere { leader: leads }))
    );

    // Alone it acks nothing, and says so when it learns of another leader.
    table.away = vec![leader as u64 + 1];
    table.publish(leader, 3);
    let other = table.elect();
    assert_ne!(other, leader);
    table.until("the old leader gives up", |table| {
        !table.groups[leader].leads()
    });
    assert_eq!(table.done(3), Some(&Err(Unserved::Unknown)));
    let newer = table.groups[other].role().generation;
    assert!(newer > Generation::new(1, 1) && newer.era() == 1);
}

#[test]
fn a_leader_that_was_replaced_tells_nothing_old() {
    let mut table = Table::new(Cut::default());
    let leader = table.elect();
    table.away = vec![leader as u64 + 1];
    table.groups[leader].handle(table.now, Input::Read { token: 9 });
    table.until("the old leader gives up", |table| {
        !table.groups[leader].leads()
    });
    assert_eq!(table.done(9), Some(&Err(Unserved::Unknown)));

    table.away.clear();
    let leader = table.elect();
    table.groups[leader].handle(table.now, Input::Read { token: 10 });
    table.until("the read", |table| {
        let read =
            |(_, output): &(Member, Output)| matches!(output, Output::Readable { token: 10 });
        table.outputs.iter().any(read)
    });
}

#[test]
fn whoever_resigns_is_followed_at_once() {
    let mut table = Table::new(Cut::default());
    let leader = table.elect();
    let before = table.now;
    table.groups[leader].handle(before, Input::Resign);
    table.drain();
    let other = table.leader().expect("no time passes without a leader");
    assert_ne!(other, leader);
    table.publish(other, 1);
    assert!(table.acked(1));
}

#[test]
fn a_new_member_takes_the_place_of_a_lost_one() {
    let cut = Cut {
        entries: 10,
        bytes: usize::MAX,
        trail: 2,
    };
    let mut table = Table::new(cut);
    let leader = table.elect();
    for n in 1..=50 {
        table.publish(leader, n);
    }
    let lost = (leader + 1) % 3;
    table.away = vec![lost as u64 + 1];
    table.join(Saved::default(), cut);
    let mut wanted: Vec<Member> = VOTERS.to_vec();
    wanted[lost] = Member(4);
    wanted.sort();
    for group in &mut table.groups {
        group.handle(table.now, Input::Members(wanted.clone()));
    }
    table.until("the change", |table| {
        let settled = |group: &Group| {
            let (mut voters, learners) = group.voters();
            voters.sort();
            voters == wanted && learners.is_empty() && !group.is_changing()
        };
        settled(&table.groups[leader]) && settled(&table.groups[3])
    });
    let state = table.groups[leader].machine().snapshot();
    table.until("the newcomer knows all", |table| {
        table.groups[3].machine().snapshot() == state
    });
    // It counts: with it and the leader alone messages are acked.
    let other = 3 - leader - lost;
    table.away.push(other as u64 + 1);
    table.publish(leader, 51);
    table.until("an ack", |table| table.acked(51));
}

#[test]
fn a_leader_that_is_not_wanted_hands_over_first() {
    let mut table = Table::new(Cut::default());
    let leader = table.elect();
    table.join(Saved::default(), Cut::default());
    let mut wanted: Vec<Member> = VOTERS.to_vec();
    wanted[leader] = Member(4);
    for group in &mut table.groups {
        group.handle(table.now, Input::Members(wanted.clone()));
    }
    table.until("the change", |table| {
        let Some(leads) = table.leader() else {
            return false;
        };
        let (voters, learners) = table.groups[leads].voters();
        let group = &table.groups[leads];
        leads != leader
            && learners.is_empty()
            && !group.is_changing()
            && !voters.contains(&Member(leader as u64 + 1))
    });
}

#[test]
fn nobody_is_let_go_without_a_successor_while_another_is_away() {
    let mut table = Table::new(Cut::default());
    let leader = table.elect();
    let [away, drained] = [(leader + 1) % 3, (leader + 2) % 3];
    table.away = vec![away as u64 + 1];
    let quiet = table.now + Duration::from_secs(5);
    table.until("the leader misses it", |table| table.now >= quiet);
    let mut wanted = VOTERS.to_vec();
    wanted.remove(drained);
    for group in &mut table.groups {
        group.handle(table.now, Input::Members(wanted.clone()));
    }
    let later = table.now + Duration::from_secs(10);
    table.until("time", |table| table.now >= later);
    assert_eq!(table.groups[leader].voters().0.len(), 3);
    table.publish(leader, 1);
    assert!(table.acked(1));

    table.away.clear();
    table.until("the change", |table| {
        let leads = table.leader().map(|at| table.groups[at].voters().0);
        leads.is_some_and(|mut voters| {
            voters.sort();
            voters == wanted
        })
    });
}

#[test]
fn the_log_is_bounded_and_a_restart_finds_all_of_it() {
    let cut = Cut {
        entries: 20,
        bytes: usize::MAX,
        trail: 5,
    };
    let mut table = Table::new(cut);
    let leader = table.elect();
    for n in 1..=500 {
        table.publish(leader, n);
        assert!(table.groups[leader].entries() <= 30, "{n}");
        assert!(table.saved[leader].entries.len() <= 31, "{n}");
    }
    table.until("all know all", |table| {
        let applied = table.groups[leader].applied();
        table.groups.iter().all(|group| group.applied() == applied)
    });
    let state = table.groups[leader].machine().snapshot();
    for at in 0..3 {
        let config = table.groups[at].config.clone();
        table.groups[at] = Group::new(table.now, config, table.saved[at].clone()).unwrap();
    }
    let leader = table.elect();
    table.until("all know all again", |table| {
        table
            .groups
            .iter()
            .all(|group| group.machine().snapshot() == state)
    });
    table.publish(leader, 500);
    table.until("the first ack", |table| table.acked(500));
}

#[test]
fn what_no_honest_member_says_is_not_heard() {
    let mut table = Table::new(Cut::default());
    let leader = table.elect();
    table.publish(leader, 1);
    let follower = (leader + 1) % 3;
    let term = table.groups[follower].node.raft.term;
    let (from, to) = (leader as u64 + 1, follower as u64 + 1);
    let say = |kind: MessageType, change: &dyn Fn(&mut Message)| {
        let mut message = Message {
            msg_type: kind,
            from,
            to,
            term,
            ..Message::default()
        };
        change(&mut message);
        Packet {
            group: 1,
            era: 1,
            from: Member(from),
            to: Member(to),
            sent: 0,
            echo: None,
            message,
        }
    };
    let mut bogus = eraftpb::Snapshot::default();
    bogus.mut_metadata().index = 1_000;
    bogus.mut_metadata().term = term;
    bogus.data = Bytes::from_static(b"\x01nonsense");
    let lies = [
        say(MessageType::MsgHeartbeat, &|m| m.commit = 1_000),
        say(MessageType::MsgAppend, &|m| m.index = 1_000),
        say(MessageType::MsgAppend, &|m| {
            m.index = 1;
            m.log_term = 1;
            for index in [2, 3] {
                m.mut_entries().push(eraftpb::Entry {
                    index,
                    term,
                    ..eraftpb::Entry::default()
                });
            }
            m.mut_entries()[0].term = 1;
        }),
        say(MessageType::MsgAppend, &|m| {
            m.index = 3;
            m.log_term = term;
            m.mut_entries().push(eraftpb::Entry::default());
        }),
        say(MessageType::MsgSnapshot, &|m| m.set_snapshot(bogus.clone())),
        say(MessageType::MsgHup, &|m| m.term = 0),
        say(MessageType::MsgPropose, &|m| m.term = 0),
        say(MessageType::MsgHeartbeat, &|m| m.term = u64::MAX),
        say(MessageType::MsgHeartbeat, &|m| m.from = 99),
    ];
    let before = table.groups[follower].machine().snapshot();
    for lie in lies {
        let text = format!("{lie:?}");
        table.groups[follower].handle(table.now, Input::Packet(lie));
        table.drain();
        assert_eq!(
            table.groups[follower].machine().snapshot(),
            before,
            "{text}"
        );
    }
    let mut other_era = say(MessageType::MsgHeartbeat, &|m| m.term = term + 5);
    other_era.era = 2;
    table.groups[follower].handle(table.now, Input::Packet(other_era));
    assert_eq!(table.groups[follower].node.raft.term, term);
    let leader = table.elect();
    table.publish(leader, 2);
    assert!(table.acked(2));
}

#[test]
fn golden_bytes() {
    let packet = Packet {
        group: 7,
        era: 1,
        from: Member(2),
        to: Member(3),
        sent: 64,
        echo: Some((5, 6)),
        message: Message {
            msg_type: MessageType::MsgAppend,
            from: 2,
            to: 3,
            term: 4,
            log_term: 3,
            index: 9,
            commit: 8,
            entries: vec![eraftpb::Entry {
                term: 4,
                index: 10,
                data: Bytes::from_static(b"x"),
                ..eraftpb::Entry::default()
            }]
            .into(),
            ..Message::default()
        },
    };
    let golden = b"\x07\x00\x01\x02\x03\x40\x40\x01\x05\x06\x03\x04\x03\x09\x08\x00\x00\x00\x00\x00\x01\x00\x04\x0a\x01x\x00";
    assert_eq!(&packet.encode()[..], golden);
    assert_eq!(Packet::decode(Bytes::from_static(golden)), Ok(packet));
    assert_eq!(Packet::peek(&golden[..4]), Some((7, Member(2))));
    assert!((0..4).all(|len| Packet::peek(&golden[..len]).is_none()));
}

proptest! {
    #[test]
    fn packets_come_back(kind in 0usize..10, numbers: [u32; 9], flags: [bool; 2], sizes in vec(0usize..2_000, 0..5)) {
        let kinds = [
            MessageType::MsgAppend, MessageType::MsgAppendResponse, MessageType::MsgRequestVote,
            MessageType::MsgRequestVoteResponse, MessageType::MsgSnapshot, MessageType::MsgHeartbeat,
            MessageType::MsgHeartbeatResponse, MessageType::MsgTimeoutNow, MessageType::MsgRequestPreVote,
            MessageType::MsgRequestPreVoteResponse,
        ];
        let [from, to, term, log_term, index, commit, commit_term, hint, sent] = numbers.map(u64::from);
        let entries: Vec<eraftpb::Entry> = sizes.iter().zip(index..).map(|(size, index)| eraftpb::Entry {
            entry_type: if flags[0] { EntryType::EntryNormal } else { EntryType::EntryConfChangeV2 },
            term,
            index,
            data: vec![7; *size].into(),
            context: vec![8; *size / 100].into(),
            ..eraftpb::Entry::default()
        }).collect();
        let mut message = Message {
            msg_type: kinds[kind],
            from,
            to,
            term,
            log_term,
            index,
            commit,
            commit_term,
            reject_hint: hint,
            reject: flags[1],
            context: sent.to_be_bytes().to_vec().into(),
            entries: entries.into(),
            ..Message::default()
        };
        if kinds[kind] == MessageType::MsgSnapshot {
            let born = Saved::born(&VOTERS, Limits::default());
            let mut snapshot = eraftpb::Snapshot::default();
            snapshot.mut_metadata().index = index;
            snapshot.mut_metadata().mut_conf_state().voters = vec![from, to];
            snapshot.mut_metadata().mut_conf_state().voters.sort_unstable();
            snapshot.data = born.snapshot.unwrap_or_default();
            message.set_snapshot(snapshot);
        }
        let packet = Packet {
            group: hint,
            era: 3,
            from: Member(from),
            to: Member(to),
            sent,
            echo: flags[0].then_some((hint, commit)),
            message,
        };
        prop_assert_eq!(Packet::decode(packet.encode()), Ok(packet));
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..300), tail in vec(any::<u8>(), 0..60)) {
        let _ = Packet::decode(bytes.clone().into());
        let mut headed = b"\x07\x00\x01\x02\x03\x40\x40\x01\x05\x06\x07\x04\x03\x09\x08\x00\x00\x00\x00\x00".to_vec();
        headed.extend(tail);
        let _ = Packet::decode(headed.into());
        let saved = Saved { hard: bytes.clone().into(), snapshot: Some(bytes.into()), ..Saved::default() };
        let config = Config { group: 1, era: 1, me: Member(1), seed: 1, cut: Cut::default() };
        let _ = Group::new(Time::ZERO, config, saved);
    }
}
