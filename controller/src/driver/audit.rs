//! `audit/…`: who changed what. Records are numbered; the oldest go.

use longspan_proto::ids::NodeId;
use serde_json::Value;

use crate::{
    state::{Event, key::ROOT, record},
    store::{Entry, Error, Snapshot, Store, Txn, Write},
};

/// Records kept in the store. The oldest is deleted with each new one.
const RECORDS: u64 = 10_000;

/// Where they stand.
pub fn prefix() -> String {
    format!("{ROOT}audit/")
}

fn key(n: u64) -> String {
    // Numbers sort as texts.
    format!("{}{n:012}", prefix())
}

/// The number behind the last record of a snapshot.
pub fn next(snapshot: &Snapshot) -> u64 {
    let prefix = prefix();
    let number = |entry: &Entry| entry.key.strip_prefix(&*prefix)?.parse::<u64>().ok();
    let last = snapshot.entries.iter().rev().find_map(number);
    last.map_or(1, |n| n + 1)
}

/// What an event leaves in the audit; nothing for the daily run of things.
pub fn entry(me: &NodeId, at_ms: u64, event: &Event) -> Option<Value> {
    let what = match event {
        Event::Leading { .. } | Event::EraRaised { .. } => event,
        Event::GroupsMade { .. } | Event::GroupChanged { .. } | Event::GroupsRestored { .. } => {
            event
        }
        // That it was asked for is written with the record.
        Event::RoomMoved { .. } | Event::RoomMoveFailed { .. } => event,
        Event::GroupsRefused { .. } | Event::DiskRefused { .. } => event,
        Event::StreamClaimed {
            took_over: Some(_), ..
        } => event,
        _ => return None,
    };
    Some(record::audit(at_ms, &format!("controller {me}"), what))
}

/// The writes that make a record number `n`.
pub fn writes(n: u64, record: &Value) -> Vec<Write> {
    let mut writes = vec![Write::Put {
        key: key(n),
        value: record.to_string(),
        lease: None,
    }];
    if let Some(old) = n.checked_sub(RECORDS) {
        writes.push(Write::Delete(key(old)));
    }
    writes
}

/// Writes a record as number `n`.
pub async fn write(store: &dyn Store, n: u64, record: &Value) -> Result<(), Error> {
    let (compares, writes) = (Vec::new(), writes(n, record));
    store.commit(Txn { compares, writes }).await.map(|_| ())
}

/// The newest `limit` records, the newest first.
pub async fn read(store: &dyn Store, limit: usize) -> Result<Vec<Value>, Error> {
    let snapshot = store.read(&prefix(), None).await?;
    let newest = snapshot.entries.iter().rev().take(limit);
    Ok(newest
        .filter_map(|entry| serde_json::from_str(&entry.value).ok())
        .collect())
}
