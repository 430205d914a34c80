//! What members of a group say to each other (WIRE.md, "Room log").

use bytes::{BufMut, Bytes, BytesMut};
use longspan_proto::wire::{Error, Reader, Writer, peek_varint};
use raft::eraftpb::{Message, MessageType};

use super::{
    Member,
    raft_codec::{get_entry, get_snapshot, put_entry, put_snapshot},
};

/// The longest packet, in bytes: a snapshot at its limit and its head.
pub const MAX_PACKET: usize = super::super::machine::MAX_SNAPSHOT + (64 << 10);
/// A packet of at most so many bytes is small: it travels in order with others, before everything
/// else. All are but states.
pub const SMALL: usize = 64 << 10;
/// Entries in a packet.
const MAX_ENTRIES: u64 = 1 << 16;
/// What a read or a transfer of the lead calls itself.
const MAX_CONTEXT: usize = 64;

/// One word of one member to another. Any may be lost, late, or come twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    /// Which group it is about: one of another group is not heard.
    pub group: u64,
    /// The group's era: one of another era is not heard.
    pub era: u16,
    /// Who says it.
    pub from: Member,
    /// To whom.
    pub to: Member,
    /// The sender's clock, µs.
    pub sent: u64,
    /// `sent` of the newest packet the sender has of the receiver, and how long ago it came (µs).
    pub echo: Option<(u64, u64)>,
    pub(super) message: Message,
}

impl Packet {
    /// The packet's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.varint(self.group);
        out.put_u16(self.era);
        out.varint(self.from.0);
        out.varint(self.to.0);
        out.varint(self.sent);
        out.option(self.echo, |out, (sent, held)| {
            out.varint(sent);
            out.varint(held);
        });
        let message = &self.message;
        out.put_u8(message.get_msg_type() as u8);
        for number in [
            message.term,
            message.log_term,
            message.index,
            message.commit,
            message.commit_term,
            message.request_snapshot,
            message.reject_hint,
        ] {
            out.varint(number);
        }
        out.put_u8(message.reject.into());
        out.prefixed(&message.context);
        out.varint(message.entries.len() as u64);
        for entry in message.entries.iter() {
            put_entry(&mut out, entry);
        }
        if message.get_msg_type() == MessageType::MsgSnapshot {
            put_snapshot(&mut out, message.get_snapshot());
        }
        out.freeze()
    }

    /// Reads a packet.
    pub fn decode(bytes: Bytes) -> Result<Packet, Error> {
        let mut r = Reader::new(bytes);
        let group = r.varint("group")?;
        let era = u16::from_be_bytes(r.array("era")?);
        let (from, to) = (r.varint("from")?, r.varint("to")?);
        let sent = r.varint("sent")?;
        let echo = r.option("echo", |r| Ok((r.varint("echo")?, r.varint("held")?)))?;
        let mut message = Message {
            msg_type: kind(r.u8("kind")?)?,
            from,
            to,
            term: r.varint("term")?,
            log_term: r.varint("log term")?,
            index: r.varint("index")?,
            commit: r.varint("commit")?,
            commit_term: r.varint("commit term")?,
            request_snapshot: r.varint("request snapshot")?,
            reject_hint: r.varint("reject hint")?,
            reject: r.u8("reject")? != 0,
            context: r.bytes("context", MAX_CONTEXT)?,
            ..Message::default()
        };
        for _ in 0..r.varint_up_to("entries", MAX_ENTRIES)? {
            message.mut_entries().push(get_entry(&mut r)?);
        }
        if message.get_msg_type() == MessageType::MsgSnapshot {
            message.set_snapshot(get_snapshot(&mut r)?);
        }
        Ok(Packet {
            group,
            era,
            from: Member(from),
            to: Member(to),
            sent,
            echo,
            message,
        })
    }

    /// Group and sender of a packet whose first bytes these are; None: more are needed.
    pub fn peek(front: &[u8]) -> Option<(u64, Member)> {
        let (group, at) = peek_varint(front)?;
        let (from, _) = peek_varint(front.get(at + 2..)?)?;
        Some((group, Member(from)))
    }

    /// Whether it brings a whole state: large, and worth a way of its own.
    pub fn is_snapshot(&self) -> bool {
        self.message.get_msg_type() == MessageType::MsgSnapshot
    }
}

fn kind(value: u8) -> Result<MessageType, Error> {
    Ok(match value {
        3 => MessageType::MsgAppend,
        4 => MessageType::MsgAppendResponse,
        5 => MessageType::MsgRequestVote,
        6 => MessageType::MsgRequestVoteResponse,
        7 => MessageType::MsgSnapshot,
        8 => MessageType::MsgHeartbeat,
        9 => MessageType::MsgHeartbeatResponse,
        14 => MessageType::MsgTimeoutNow,
        17 => MessageType::MsgRequestPreVote,
        18 => MessageType::MsgRequestPreVoteResponse,
        value => {
            return Err(Error::Unknown {
                what: "kind of packet",
                value: value.into(),
            });
        }
    })
}
