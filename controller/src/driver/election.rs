//! Who leads: the controller whose record stands at `election`, under a lease it renews.

use std::time::Duration;

use longspan_proto::ids::NodeId;
use tokio::{sync::watch, time::Instant};

use super::{Standing, audit};
use crate::{
    state::{
        key::{Key, ROOT},
        record,
    },
    store::{
        Compare, Entry, Error, Event, LeaseId, Revision, Snapshot, Store, Txn, Watch, Write, era,
    },
};

/// Who campaigns.
#[derive(Debug, Clone)]
pub struct Me {
    /// The controller.
    pub id: NodeId,
    /// Where nodes reach it.
    pub url: String,
    /// Where operators reach it, if that can be told.
    pub http: Option<String>,
}

/// An election that was won (or found to be held still), and the store as it was then.
pub struct Elected {
    /// Of the election record.
    pub lease: LeaseId,
    /// The revision of the election record.
    pub revision: Revision,
    /// When the lease was certainly alive.
    pub renewed: Instant,
    /// The store's era.
    pub era: u16,
    /// The records of nodes, tenants, groups and wishes.
    pub snapshot: Snapshot,
    /// The number of the next audit record.
    pub audit_next: u64,
    /// What happens after it.
    pub watch: Watch,
}

/// Waits until nobody leads, then leads. Takes over at once from an earlier run of itself.
pub async fn campaign(
    store: &dyn Store,
    me: &Me,
    ttl: Duration,
    clear: bool,
    standing: &watch::Sender<Standing>,
) -> Result<Elected, Error> {
    loop {
        match leader(store).await? {
            (_, Some((entry, leader))) if leader.id == me.id => {
                if let Some(lease) = entry.lease {
                    end(store, lease).await?;
                }
            }
            (revision, Some((_, leader))) => {
                standing.send_replace(Standing::Follows(leader));
                until_over(store, revision).await?;
            }
            (_, None) => match stand(store, me, ttl).await {
                Ok((lease, revision, renewed)) => {
                    if clear {
                        clear_leases(store).await?;
                    }
                    return whole(store, lease, revision, renewed).await;
                }
                Err(Error::Conflict) => {}
                Err(error) => return Err(error),
            },
        }
    }
}

/// The store was lost and may be back: is it, and does this controller lead still, or again?
/// `Ok(None)`: another leads.
pub async fn resume(
    store: &dyn Store,
    me: &Me,
    ttl: Duration,
    (lease, revision): (LeaseId, Revision),
) -> Result<Option<Elected>, Error> {
    let renewed = Instant::now();
    match store.keep_alive(lease).await {
        Ok(()) => {
            let (_, leader) = leader(store).await?;
            let ours = leader.is_some_and(|(entry, _)| entry.revision == revision);
            if ours {
                return whole(store, lease, revision, renewed).await.map(Some);
            }
            // Our lease without our record: somebody removed it by hand.
            end(store, lease).await?;
        }
        Err(Error::LeaseNotFound(_)) => {}
        Err(error) => return Err(error),
    }
    match leader(store).await? {
        (_, Some((_, leader))) if leader.id != me.id => Ok(None),
        (_, Some((entry, _))) => {
            if let Some(lease) = entry.lease {
                end(store, lease).await?;
            }
            Err(Error::Conflict)
        }
        (_, None) => match stand(store, me, ttl).await {
            Ok((lease, revision, renewed)) => {
                whole(store, lease, revision, renewed).await.map(Some)
            }
            Err(Error::Conflict) => Ok(None),
            Err(error) => Err(error),
        },
    }
}

/// A random lease id.
pub fn fresh_lease() -> LeaseId {
    // Ids fit a JSON number (2^53), as they are shown in APIs; the chance that one of 10,000
    // live ones is met is below 10^-11.
    rand::random_range(1..1_i64 << 53)
}

/// Ends a lease; gone already is fine.
pub async fn end(store: &dyn Store, lease: LeaseId) -> Result<(), Error> {
    match store.revoke(lease).await {
        Err(Error::LeaseNotFound(_)) => Ok(()),
        told => told,
    }
}

async fn leader(store: &dyn Store) -> Result<(Revision, Option<(Entry, record::Election)>), Error> {
    let key = Key::Election.to_string();
    let snapshot = store.read(&key, None).await?;
    let entry = snapshot.entries.into_iter().find(|e| *e.key == *key);
    let leader = entry.and_then(|entry| {
        let record = record::read(&entry.value)?;
        Some((entry, record))
    });
    Ok((snapshot.revision, leader))
}

async fn until_over(store: &dyn Store, since: Revision) -> Result<(), Error> {
    let key = Key::Election.to_string();
    let mut watch = store.watch(&key, since + 1);
    loop {
        let batch = watch.next().await?;
        let is_over = |event: &Event| matches!(event, Event::Delete(k) if **k == *key);
        if batch.events.iter().any(is_over) {
            return Ok(());
        }
    }
}

async fn stand(
    store: &dyn Store,
    me: &Me,
    ttl: Duration,
) -> Result<(LeaseId, Revision, Instant), Error> {
    let lease = fresh_lease();
    let renewed = Instant::now();
    store.grant(lease, ttl).await?;
    let key = Key::Election.to_string();
    let record = record::Election {
        id: me.id.clone(),
        url: me.url.clone(),
        http: me.http.clone(),
    };
    let txn = Txn {
        compares: vec![Compare::Absent(key.clone())],
        writes: vec![Write::Put {
            key,
            value: record::write(&record),
            lease: Some(lease),
        }],
    };
    match store.commit(txn).await {
        Ok(revision) => Ok((lease, revision, renewed)),
        Err(error) => {
            // Unknown outcomes end with the lease.
            let _ = store.revoke(lease).await;
            Err(error)
        }
    }
}

async fn whole(
    store: &dyn Store,
    lease: LeaseId,
    revision: Revision,
    renewed: Instant,
) -> Result<Elected, Error> {
    let era = era::at_least(store, 0, None).await?;
    let audit_next = audit::next(&store.read(&audit::prefix(), None).await?);
    // Not the generations: they are read one by one as they are needed, and grow forever.
    let mut snapshot = store.read(&format!("{ROOT}nodes/"), None).await?;
    let at = Some(snapshot.revision);
    let tenants = store.read(&format!("{ROOT}tenants/"), at).await?;
    let overrides = store.read(&format!("{ROOT}overrides/"), at).await?;
    let groups = store.read(&format!("{ROOT}groups/"), at).await?;
    snapshot.entries.extend(tenants.entries);
    snapshot.entries.extend(overrides.entries);
    snapshot.entries.extend(groups.entries);
    let watch = store.watch(ROOT, snapshot.revision + 1);
    Ok(Elected {
        lease,
        revision,
        renewed,
        era,
        snapshot,
        audit_next,
        watch,
    })
}

/// Ends every lease that holds a record of a node, but not our election's.
async fn clear_leases(store: &dyn Store) -> Result<(), Error> {
    let snapshot = store.read(ROOT, None).await?;
    let election = Key::Election.to_string();
    let leased = snapshot.entries.iter().filter(|e| *e.key != *election);
    let leases: std::collections::BTreeSet<LeaseId> =
        leased.filter_map(|entry| entry.lease).collect();
    for lease in &leases {
        end(store, *lease).await?;
    }
    if !leases.is_empty() {
        tracing::info!(
            leases = leases.len(),
            "leases of an earlier run are cleared"
        );
    }
    Ok(())
}
