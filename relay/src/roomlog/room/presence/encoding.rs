//! Presence as bytes, and back: a part of a room's.

use bytes::{BufMut, BytesMut};
use longspan_proto::{
    ids::SessionId,
    wire::{Error, Reader, Writer, envelope::MAX_MEMBER, roster::MAX_NAMES},
};

use super::{Crowd, LISTED, MAX_EDGES, Presence, Told};

pub(super) fn encode(presence: &Presence, out: &mut BytesMut) {
    out.varint(presence.edges.len() as u64);
    for (session, told) in &presence.edges {
        out.put_slice(&session.0);
        out.varint(told.version);
        out.put_u8(u8::from(told.whole) | u8::from(told.cut) << 1);
        out.varint(told.count);
        out.varint(told.joins);
        out.varint(told.leaves);
        out.names(&told.names);
    }
    out.varint(presence.listed.len() as u64);
    for name in &presence.listed {
        out.prefixed(name.as_bytes());
    }
    out.option(presence.crowd.as_ref(), |out, crowd| {
        out.varint(crowd.told);
        out.put_u8(u8::from(crowd.stale));
    });
    out.varint(presence.joins);
    out.varint(presence.leaves);
}

impl Presence {
    /// Reads what [`Presence::encode`] wrote.
    pub fn decode(r: &mut Reader) -> Result<Presence, Error> {
        let mut presence = Presence::default();
        for _ in 0..r.varint_up_to("edges", MAX_EDGES as u64)? {
            let session = SessionId(r.array("session")?);
            let version = r.varint("version")?;
            let flags = r.u8("whole")?;
            let told = Told {
                version,
                whole: flags & 1 != 0,
                cut: flags & 2 != 0,
                count: r.varint("count")?,
                joins: r.varint("joins")?,
                leaves: r.varint("leaves")?,
                names: names(r, MAX_NAMES)?,
            };
            presence.put(session, told);
        }
        presence.list(names(r, LISTED)?.into_iter().collect());
        presence.crowd = r.option("crowd", |r| {
            Ok(Crowd {
                told: r.varint("told")?,
                stale: r.u8("stale")? != 0,
            })
        })?;
        presence.joins = r.varint("joins")?;
        presence.leaves = r.varint("leaves")?;
        Ok(presence)
    }
}

fn names(r: &mut Reader, limit: usize) -> Result<Vec<String>, Error> {
    let count = r.varint_up_to("names", limit as u64)?;
    (0..count).map(|_| r.text("name", MAX_MEMBER)).collect()
}
