//! The store's era: raised whenever the store may have forgotten something (a restore from a
//! backup), so that generations and table versions given out before cannot come again.

use serde::{Deserialize, Serialize};

use super::{Compare, Error, Store, Txn, Write};
use crate::state::key::ROOT;

/// How often a raise that lost against another controller's is tried again.
const ATTEMPTS: u32 = 5;

#[derive(Serialize, Deserialize)]
struct Record {
    v: u32,
    era: u16,
}

fn key() -> String {
    format!("{ROOT}era")
}

/// The era, made 0 in a new store; at least `least`, raised where it is lower and `fence` holds.
pub async fn at_least(store: &dyn Store, least: u16, fence: Option<Compare>) -> Result<u16, Error> {
    for _ in 0..ATTEMPTS {
        let snapshot = store.read(&key(), None).await?;
        let found = snapshot.entries.iter().find(|e| *e.key == *key());
        let compare = match found {
            Some(entry) => {
                let record: Record = serde_json::from_str(&entry.value)
                    .map_err(|e| Error::Invalid(format!("{}: {e}", entry.key)))?;
                if record.era >= least {
                    return Ok(record.era);
                }
                Compare::Revision(key(), entry.revision)
            }
            None => Compare::Absent(key()),
        };
        let value = serde_json::json!(Record { v: 1, era: least }).to_string();
        let put = Write::Put {
            key: key(),
            value,
            lease: None,
        };
        let txn = Txn {
            compares: [compare].into_iter().chain(fence.clone()).collect(),
            writes: vec![put],
        };
        match store.commit(txn).await {
            Ok(_) => return Ok(least),
            Err(Error::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::Conflict)
}
