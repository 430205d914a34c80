//! The embedded store's file: a redb database that holds what the engine holds.

use std::{path::Path, sync::Arc, time::Duration};

use longspan_proto::time::Time;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{
    super::{Entry, Revision},
    engine::{Change, Effects, Engine},
};

const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("entries");
/// (revision, place in it) → [`Change`].
const HISTORY: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("history");
/// Lease → TTL in ms.
const LEASES: TableDefinition<i64, u64> = TableDefinition::new("leases");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The layout of this file; another is refused.
const FORMAT: u64 = 1;

/// The open file.
pub struct Disk(Arc<Database>);

impl Disk {
    /// Opens the file or makes it; a message that names it where it cannot be used.
    pub fn open(path: &Path) -> Result<Disk, String> {
        let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let db = Database::create(path).map_err(|e| match e {
            redb::DatabaseError::DatabaseAlreadyOpen => {
                named(&"another process has this store open")
            }
            e => named(&e),
        })?;
        let disk = Disk(Arc::new(db));
        disk.prepare().map_err(|e| named(&e))?.map_err(|found| {
            named(&format!(
                "its format is {found}; this program reads {FORMAT}"
            ))
        })?;
        Ok(disk)
    }

    /// Makes the tables. `Ok(Err(format))`: the file is of another format.
    fn prepare(&self) -> Result<Result<(), u64>, redb::Error> {
        let txn = self.0.begin_write()?;
        {
            txn.open_table(ENTRIES)?;
            txn.open_table(HISTORY)?;
            txn.open_table(LEASES)?;
            let mut meta = txn.open_table(META)?;
            let format = meta.get("format")?.map(|v| v.value());
            match format {
                Some(FORMAT) => {}
                Some(other) => return Ok(Err(other)),
                None => {
                    meta.insert("format", FORMAT)?;
                }
            }
        }
        txn.commit()?;
        Ok(Ok(()))
    }

    /// Everything on it.
    pub fn load(&self, now: Time) -> Result<Engine, String> {
        self.try_load(now).map_err(|e| e.to_string())
    }

    fn try_load(&self, now: Time) -> Result<Engine, Box<dyn std::error::Error>> {
        let txn = self.0.begin_read()?;
        let meta = txn.open_table(META)?;
        let number = |name: &str| -> Result<u64, redb::Error> {
            Ok(meta.get(name)?.map_or(0, |v| v.value()))
        };
        let mut entries: Vec<Entry> = Vec::new();
        for row in txn.open_table(ENTRIES)?.iter()? {
            entries.push(serde_json::from_slice(row?.1.value())?);
        }
        let mut history: Vec<Change> = Vec::new();
        for row in txn.open_table(HISTORY)?.iter()? {
            history.push(serde_json::from_slice(row?.1.value())?);
        }
        let mut leases = Vec::new();
        for row in txn.open_table(LEASES)?.iter()? {
            let (id, ttl) = row?;
            leases.push((id.value(), Duration::from_millis(ttl.value())));
        }
        let (revision, oldest) = (number("revision")?, number("oldest")?);
        Ok(Engine::new(now, revision, oldest, entries, history, leases))
    }

    /// Writes effects durably, off the async threads.
    pub async fn write(
        &self,
        effects: Effects,
        revision: Revision,
        oldest: Revision,
    ) -> Result<(), String> {
        let db = self.0.clone();
        let done = tokio::task::spawn_blocking(move || write(&db, &effects, revision, oldest));
        match done.await {
            Ok(result) => result.map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        }
    }
}

fn write(
    db: &Database,
    effects: &Effects,
    revision: Revision,
    oldest: Revision,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let txn = db.begin_write()?;
    {
        let mut entries = txn.open_table(ENTRIES)?;
        let mut history = txn.open_table(HISTORY)?;
        let mut leases = txn.open_table(LEASES)?;
        let mut meta = txn.open_table(META)?;
        let (mut last, mut place) = (0, 0);
        for change in &effects.changes {
            place = if change.revision == last {
                place + 1
            } else {
                0
            };
            last = change.revision;
            let row = serde_json::to_vec(change)?;
            history.insert((change.revision, place), row.as_slice())?;
            match &change.after {
                Some(entry) => {
                    let row = serde_json::to_vec(entry)?;
                    entries.insert(&*change.key, row.as_slice())?;
                }
                None => {
                    entries.remove(&*change.key)?;
                }
            }
        }
        history.retain_in(..(oldest, 0), |_, _| false)?;
        for (id, ttl) in &effects.leases {
            match ttl {
                Some(ttl) => leases.insert(id, ttl.as_millis() as u64)?,
                None => leases.remove(id)?,
            };
        }
        meta.insert("revision", revision)?;
        meta.insert("oldest", oldest)?;
    }
    txn.commit()?;
    Ok(())
}
