//! Raft's own structures as bytes: canonical, bounded, and read without protobuf, whose reader
//! in the version that Raft needs follows nested groups without a bound (RUSTSEC-2024-0437).

use bytes::{BufMut, Bytes, BytesMut};
use longspan_proto::wire::{Error, Reader, Writer};
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, HardState,
    Snapshot,
};

use super::{super::machine::MAX_SNAPSHOT, MAX_MEMBERS};

/// An entry's data: a message at its limits and its head.
const MAX_ENTRY: usize = 20 << 10;

pub(super) fn put_hard(out: &mut BytesMut, hard: &HardState) {
    out.varint(hard.term);
    out.varint(hard.vote);
    out.varint(hard.commit);
}

pub(super) fn get_hard(r: &mut Reader) -> Result<HardState, Error> {
    Ok(HardState {
        term: r.varint("term")?,
        vote: r.varint("vote")?,
        commit: r.varint("commit")?,
        ..HardState::default()
    })
}

pub(super) fn put_entry(out: &mut BytesMut, entry: &Entry) {
    out.put_u8(entry.get_entry_type() as u8);
    out.varint(entry.term);
    out.varint(entry.index);
    out.prefixed(&entry.data);
    out.prefixed(&entry.context);
}

pub(super) fn get_entry(r: &mut Reader) -> Result<Entry, Error> {
    let entry_type = match r.u8("entry's type")? {
        0 => EntryType::EntryNormal,
        2 => EntryType::EntryConfChangeV2,
        value => {
            return Err(Error::Unknown {
                what: "entry's type",
                value: value.into(),
            });
        }
    };
    Ok(Entry {
        entry_type,
        term: r.varint("term")?,
        index: r.varint("index")?,
        data: r.bytes("entry", MAX_ENTRY)?,
        context: r.bytes("context", MAX_ENTRY)?,
        ..Entry::default()
    })
}

pub(super) fn put_snapshot(out: &mut BytesMut, snapshot: &Snapshot) {
    let meta = snapshot.get_metadata();
    out.varint(meta.index);
    out.varint(meta.term);
    put_conf(out, meta.get_conf_state());
    out.prefixed(&snapshot.data);
}

pub(super) fn get_snapshot(r: &mut Reader) -> Result<Snapshot, Error> {
    let mut snapshot = Snapshot::default();
    let meta = snapshot.mut_metadata();
    meta.index = r.varint("index")?;
    meta.term = r.varint("term")?;
    meta.set_conf_state(get_conf(r)?);
    snapshot.data = r.bytes("snapshot", MAX_SNAPSHOT)?;
    Ok(snapshot)
}

fn put_conf(out: &mut BytesMut, conf: &ConfState) {
    for ids in [
        &conf.voters,
        &conf.learners,
        &conf.voters_outgoing,
        &conf.learners_next,
    ] {
        // In rising order: the same membership is the same bytes.
        let mut ids = ids.clone();
        ids.sort_unstable();
        put_ids(out, &ids);
    }
    out.put_u8(conf.auto_leave.into());
}

fn get_conf(r: &mut Reader) -> Result<ConfState, Error> {
    Ok(ConfState {
        voters: get_ids(r)?,
        learners: get_ids(r)?,
        voters_outgoing: get_ids(r)?,
        learners_next: get_ids(r)?,
        auto_leave: r.u8("auto leave")? != 0,
        ..ConfState::default()
    })
}

fn put_ids(out: &mut BytesMut, ids: &[u64]) {
    out.varint(ids.len() as u64);
    for id in ids {
        out.varint(*id);
    }
}

fn get_ids(r: &mut Reader) -> Result<Vec<u64>, Error> {
    let count = r.varint_up_to("members", MAX_MEMBERS as u64)?;
    let ids: Result<Vec<u64>, Error> = (0..count).map(|_| r.varint("member")).collect();
    // In whichever order they came, they are the same members.
    let mut ids = ids?;
    ids.sort_unstable();
    Ok(ids)
}

/// A change of members. Raft leaves a joint membership by a change without content: no bytes.
pub(super) fn put_change(change: &ConfChangeV2) -> Bytes {
    let mut out = BytesMut::new();
    if change.changes.is_empty() {
        return out.freeze();
    }
    out.varint(change.changes.len() as u64);
    for single in change.changes.iter() {
        out.put_u8(single.get_change_type() as u8);
        out.varint(single.node_id);
    }
    out.freeze()
}

pub(super) fn get_change(bytes: Bytes) -> Result<ConfChangeV2, Error> {
    let mut change = ConfChangeV2::default();
    if bytes.is_empty() {
        return Ok(change);
    }
    let mut r = Reader::new(bytes);
    for _ in 0..r.varint_up_to("changes", MAX_MEMBERS as u64)? {
        let change_type = match r.u8("change")? {
            0 => ConfChangeType::AddNode,
            1 => ConfChangeType::RemoveNode,
            2 => ConfChangeType::AddLearnerNode,
            value => {
                return Err(Error::Unknown {
                    what: "change",
                    value: value.into(),
                });
            }
        };
        change.mut_changes().push(ConfChangeSingle {
            change_type,
            node_id: r.varint("member")?,
            ..ConfChangeSingle::default()
        });
    }
    Ok(change)
}
