//! A node's disk for its logs: one file for all groups, so that one sync serves whoever waits. It
//! decides nothing: what it holds after a write is what [`Saved::write`] says.

use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition};

use super::group::{Member, Persist, Saved};

/// What names the file: see [`Disk::id`].
const FILE: TableDefinition<(), u64> = TableDefinition::new("file");
/// Groups as the controllers told them last. They stay when this node's part in one ends: an older
/// one that is told again must not make it begin anew.
const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("records");
/// The last member that this node was of a group, and is not any more.
const ENDED: TableDefinition<u64, u64> = TableDefinition::new("ended");
/// Which member of a group this node is.
const MEMBERS: TableDefinition<u64, u64> = TableDefinition::new("members");
/// Term, vote, commit.
const HARD: TableDefinition<u64, &[u8]> = TableDefinition::new("hard");
const SNAPSHOTS: TableDefinition<u64, &[u8]> = TableDefinition::new("snapshots");
/// By group and index.
const ENTRIES: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("entries");

/// Memory for pages, in bytes: what is written is read again only at a start.
const CACHE: usize = 16 << 20;

/// See the [module](self).
pub struct Disk {
    db: Database,
    id: u64,
}

/// What a disk knows of a group beside its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The group.
    pub group: u64,
    /// The newest record, as it was given.
    pub record: Vec<u8>,
    /// Which member this node is.
    pub member: Option<Member>,
    /// Which one it was before.
    pub ended: Option<Member>,
}

/// The disk did not do what it should. A member that cannot write must stop.
#[derive(Debug, thiserror::Error)]
#[error("the room log's file: {0}")]
pub struct DiskError(#[source] Box<redb::Error>);

impl<E: Into<redb::Error>> From<E> for DiskError {
    fn from(error: E) -> DiskError {
        DiskError(Box::new(error.into()))
    }
}

impl Disk {
    /// Opens the file, or makes it under this id (drawn at random, not 0). One process at a time: a
    /// second one is refused.
    pub fn open(path: &Path, fresh: u64) -> Result<Disk, DiskError> {
        let db = Database::builder().set_cache_size(CACHE).create(path)?;
        let txn = db.begin_write()?;
        txn.open_table(MEMBERS)?;
        txn.open_table(HARD)?;
        txn.open_table(SNAPSHOTS)?;
        txn.open_table(ENTRIES)?;
        txn.open_table(RECORDS)?;
        txn.open_table(ENDED)?;
        let id = {
            use redb::ReadableTable;
            let mut file = txn.open_table(FILE)?;
            let held = file.get(())?.map(|id| id.value());
            match held {
                Some(id) => id,
                None => {
                    file.insert((), fresh)?;
                    fresh
                }
            }
        };
        txn.commit()?;
        Ok(Disk { db, id })
    }

    /// Which file it is: who lost it and made another is not the member it was.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The groups it knows of.
    pub fn parts(&self) -> Result<Vec<Part>, DiskError> {
        use redb::ReadableTable;
        let txn = self.db.begin_read()?;
        let (members, ended) = (txn.open_table(MEMBERS)?, txn.open_table(ENDED)?);
        let mut parts = Vec::new();
        for row in txn.open_table(RECORDS)?.iter()? {
            let (group, record) = row?;
            let group = group.value();
            parts.push(Part {
                group,
                record: record.value().to_vec(),
                member: members.get(group)?.map(|member| Member(member.value())),
                ended: ended.get(group)?.map(|member| Member(member.value())),
            });
        }
        Ok(parts)
    }

    /// Keeps a group's newer record.
    pub fn record(&self, group: u64, record: &[u8]) -> Result<(), DiskError> {
        let txn = self.db.begin_write()?;
        txn.open_table(RECORDS)?.insert(group, record)?;
        txn.commit()?;
        Ok(())
    }

    /// The groups this node belongs to, and as which member.
    pub fn members(&self) -> Result<Vec<(u64, Member)>, DiskError> {
        use redb::ReadableTable;
        let table = self.db.begin_read()?.open_table(MEMBERS)?;
        let mut members = Vec::new();
        for row in table.iter()? {
            let (group, member) = row?;
            members.push((group.value(), Member(member.value())));
        }
        Ok(members)
    }

    /// Begins a group as its record says, with what its member begins with. Whatever an earlier
    /// member of this node had of it is gone.
    pub fn begin(
        &self,
        group: u64,
        record: &[u8],
        member: Member,
        saved: &Saved,
    ) -> Result<(), DiskError> {
        let txn = self.db.begin_write()?;
        {
            txn.open_table(RECORDS)?.insert(group, record)?;
            let mut members = txn.open_table(MEMBERS)?;
            let before = members
                .insert(group, member.0)?
                .map(|before| before.value());
            if let Some(before) = before.filter(|before| *before != member.0) {
                txn.open_table(ENDED)?.insert(group, before)?;
            }
            txn.open_table(HARD)?.insert(group, &saved.hard[..])?;
            let mut snapshots = txn.open_table(SNAPSHOTS)?;
            match &saved.snapshot {
                Some(snapshot) => snapshots.insert(group, &snapshot[..])?,
                None => snapshots.remove(group)?,
            };
            let mut entries = txn.open_table(ENTRIES)?;
            entries.retain_in((group, 0)..=(group, u64::MAX), |_, _| false)?;
            for (index, entry) in &saved.entries {
                entries.insert((group, *index), &entry[..])?;
            }
        }
        txn.commit()?;
        Ok(())
    }

    /// Ends this node's part in a group: another member took its place.
    pub fn end(&self, group: u64) -> Result<(), DiskError> {
        let txn = self.db.begin_write()?;
        {
            let member = txn
                .open_table(MEMBERS)?
                .remove(group)?
                .map(|was| was.value());
            if let Some(member) = member {
                txn.open_table(ENDED)?.insert(group, member)?;
            }
            txn.open_table(HARD)?.remove(group)?;
            txn.open_table(SNAPSHOTS)?.remove(group)?;
            let mut entries = txn.open_table(ENTRIES)?;
            entries.retain_in((group, 0)..=(group, u64::MAX), |_, _| false)?;
        }
        txn.commit()?;
        Ok(())
    }

    /// What is held of a group.
    pub fn load(&self, group: u64) -> Result<Saved, DiskError> {
        let txn = self.db.begin_read()?;
        let mut saved = Saved::default();
        if let Some(hard) = txn.open_table(HARD)?.get(group)? {
            saved.hard = hard.value().to_vec().into();
        }
        let snapshot = txn.open_table(SNAPSHOTS)?.get(group)?;
        saved.snapshot = snapshot.map(|snapshot| snapshot.value().to_vec().into());
        let entries = txn.open_table(ENTRIES)?;
        for row in entries.range((group, 0)..=(group, u64::MAX))? {
            let (at, entry) = row?;
            let (_, index) = at.value();
            saved.entries.insert(index, entry.value().to_vec().into());
        }
        Ok(saved)
    }

    /// Writes all of these, in this order, and syncs once. When it returns they are safe.
    pub fn write<'a>(
        &self,
        batch: impl IntoIterator<Item = (u64, &'a Persist)>,
    ) -> Result<(), DiskError> {
        let txn = self.db.begin_write()?;
        {
            let mut hard = txn.open_table(HARD)?;
            let mut snapshots = txn.open_table(SNAPSHOTS)?;
            let mut entries = txn.open_table(ENTRIES)?;
            for (group, persist) in batch {
                hard.insert(group, &persist.hard[..])?;
                if let Some(snapshot) = &persist.snapshot {
                    snapshots.insert(group, &snapshot[..])?;
                }
                let (first, end) = (persist.keep.start, persist.keep.end);
                if first > 0 {
                    entries.retain_in((group, 0)..(group, first), |_, _| false)?;
                }
                entries.retain_in((group, end)..=(group, u64::MAX), |_, _| false)?;
                for (index, entry) in &persist.entries {
                    entries.insert((group, *index), &entry[..])?;
                }
            }
        }
        txn.commit()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn file() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = file();
        let path = folder.path().join("logs");
        let held = Disk::open(&path, 7).unwrap();
        assert!(Disk::open(&path, 8).is_err());
        assert_eq!(held.id(), 7);
        drop(held);
        assert_eq!(Disk::open(&path, 8).unwrap().id(), 7);
    }

    #[test]
    fn groups_begin_and_end_apart() {
        let folder = file();
        let disk = Disk::open(&folder.path().join("logs"), 1).unwrap();
        let saved = Saved {
            hard: Bytes::from_static(b"h"),
            snapshot: Some(Bytes::from_static(b"s")),
            entries: BTreeMap::from([(4, Bytes::from_static(b"e"))]),
        };
        disk.begin(1, b"r", Member(11), &saved).unwrap();
        disk.begin(2, b"r", Member(22), &saved).unwrap();
        assert_eq!(disk.members().unwrap(), [(1, Member(11)), (2, Member(22))]);
        disk.begin(1, b"s", Member(13), &Saved::default()).unwrap();
        assert_eq!(disk.load(1).unwrap(), Saved::default());
        assert_eq!(disk.load(2).unwrap(), saved);
        disk.end(2).unwrap();
        assert_eq!(disk.members().unwrap(), [(1, Member(13))]);
        assert_eq!(disk.load(2).unwrap(), Saved::default());
        disk.record(2, b"t").unwrap();
        let part = |group, record: &[u8], member, ended| Part {
            group,
            record: record.to_vec(),
            member,
            ended,
        };
        assert_eq!(
            disk.parts().unwrap(),
            [
                part(1, b"s", Some(Member(13)), Some(Member(11))),
                part(2, b"t", None, Some(Member(22))),
            ]
        );
    }

    fn persist() -> impl Strategy<Value = Persist> {
        let bytes = || vec(any::<u8>(), 0..9).prop_map(Bytes::from);
        let keep = (0u64..20, 0u64..20, any::<bool>());
        (
            bytes(),
            option::of(bytes()),
            keep,
            0u64..20,
            vec(bytes(), 0..5),
        )
            .prop_map(
                |(hard, snapshot, (start, end, open), first, entries)| Persist {
                    number: 0,
                    hard,
                    snapshot,
                    keep: start..if open { u64::MAX } else { end },
                    entries: (first..).zip(entries).collect(),
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        /// The file holds what [`Saved::write`] says, group by group, also after it was opened again.
        #[test]
        fn it_holds_what_was_written(batches in vec(vec((1u64..3, persist()), 0..4), 1..8)) {
            let folder = file();
            let path = folder.path().join("logs");
            let mut expected: BTreeMap<u64, Saved> = BTreeMap::new();
            for batch in &batches {
                let disk = Disk::open(&path, 1).unwrap();
                disk.write(batch.iter().map(|(group, persist)| (*group, persist))).unwrap();
                for (group, persist) in batch {
                    expected.entry(*group).or_default().write(persist);
                }
                for (group, saved) in &expected {
                    prop_assert_eq!(&disk.load(*group).unwrap(), saved);
                }
            }
        }
    }
}
