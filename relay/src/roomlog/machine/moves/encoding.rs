//! Moves as bytes, and back: a part of a machine's state.

use bytes::{BufMut, BytesMut};
use longspan_proto::wire::{
    Error, Reader, Writer,
    moving::{Came, LogId, Moved},
};

use super::{
    super::{
        Held, Limits, MAX_SNAPSHOT, Room,
        entry::{get_room, put_room},
    },
    AWAY, Away, Back, Coming, Leaving, Load, MAX_ROOM, MOVES, Moves,
};

impl Moves {
    /// Appends it.
    pub fn encode(&self, out: &mut BytesMut) {
        out.varint(self.away.len() as u64);
        for (name, away) in &self.away {
            put_room(out, name);
            away.to.encode(out);
            out.varint(away.at);
            out.put_u8(u8::from(away.settled));
        }
        out.varint(self.back.len() as u64);
        for (name, back) in &self.back {
            put_room(out, name);
            back.to.encode(out);
            out.varint(back.at);
        }
        out.varint(self.coming.len() as u64);
        let mut one = BytesMut::new();
        for (name, coming) in &self.coming {
            put_room(out, name);
            out.varint(coming.word);
            out.varint(coming.at);
            match &coming.load {
                Load::Parts { count, bytes } => {
                    out.put_u8(0);
                    out.varint(*count);
                    out.prefixed(bytes);
                }
                Load::Whole(held) => {
                    out.put_u8(1);
                    out.varint(held.used);
                    held.encode_move(out);
                    one.clear();
                    held.room.encode(&mut one);
                    out.prefixed(&one);
                }
            }
        }
    }

    /// Reads it.
    pub fn decode(limits: &Limits, r: &mut Reader) -> Result<Moves, Error> {
        let mut moves = Moves::default();
        for _ in 0..r.varint_up_to("rooms that went", AWAY as u64)? {
            let name = get_room(r)?;
            let away = Away {
                to: Moved::decode(r)?,
                at: r.varint("at")?,
                settled: r.u8("settled")? != 0,
            };
            moves.away.insert(name, away);
        }
        for _ in 0..r.varint_up_to("moves taken back", MOVES as u64)? {
            let name = get_room(r)?;
            let back = Back {
                to: Moved::decode(r)?,
                at: r.varint("at")?,
            };
            moves.back.insert(name, back);
        }
        for _ in 0..r.varint_up_to("rooms that come", MOVES as u64)? {
            let name = get_room(r)?;
            let (word, at) = (r.varint("word")?, r.varint("at")?);
            let load = match r.u8("load")? {
                0 => Load::Parts {
                    count: r.varint("parts")?,
                    bytes: (&r.bytes("parts", MAX_ROOM)?[..]).into(),
                },
                _ => {
                    let used = r.varint("used")?;
                    let (word, came, leaving) = decode_move(r)?;
                    let room = Room::decode(limits, r.bytes("room", MAX_SNAPSHOT)?)?;
                    Load::Whole(Box::new(Held {
                        room,
                        used,
                        word,
                        came,
                        leaving,
                    }))
                }
            };
            moves.coming.insert(name, Coming { word, at, load });
        }
        moves.changed();
        Ok(moves)
    }
}

impl Held {
    /// Appends what is known of its moves.
    pub(in super::super) fn encode_move(&self, out: &mut BytesMut) {
        out.varint(self.word);
        out.option(self.came, |out, came| came.encode(out));
        out.option(self.leaving.as_ref(), |out, leaving| {
            leaving.to.encode(out);
            leaving.log.encode(out);
        });
    }
}

/// Reads what [`Held::encode_move`] wrote.
pub(in super::super) fn decode_move(
    r: &mut Reader,
) -> Result<(u64, Option<Came>, Option<Leaving>), Error> {
    let word = r.varint("word")?;
    let came = r.option("came", Came::decode)?;
    let leaving = r.option("leaving", |r| {
        Ok(Leaving {
            to: Moved::decode(r)?,
            log: LogId::decode(r)?,
        })
    })?;
    Ok((word, came, leaving))
}
