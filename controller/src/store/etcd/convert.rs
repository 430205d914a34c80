//! The contract's words in etcd's, and back.

use std::sync::Arc;

use etcd_client::{CompareOp, KeyValue, PutOptions, TxnOp};

use crate::store::{Compare, Entry, Revision, Write};

pub fn entry(kv: &KeyValue) -> Entry {
    Entry {
        key: text(kv.key()),
        value: text(kv.value()),
        revision: kv.mod_revision() as Revision,
        lease: (kv.lease() != 0).then(|| kv.lease()),
    }
}

/// Ours are always text; another's bytes show as replacement characters and parse as nothing.
pub fn text(bytes: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(bytes).into()
}

pub fn compare(compare: Compare) -> etcd_client::Compare {
    use etcd_client::Compare as C;
    match compare {
        Compare::Absent(key) => C::create_revision(key, CompareOp::Equal, 0),
        Compare::Present(key) => C::create_revision(key, CompareOp::Greater, 0),
        Compare::Revision(key, revision) => C::mod_revision(key, CompareOp::Equal, revision as i64),
        Compare::Value(key, value) => C::value(key, CompareOp::Equal, value),
    }
}

pub fn operation(write: Write) -> TxnOp {
    match write {
        Write::Put { key, value, lease } => {
            let options = lease.map(|id| PutOptions::new().with_lease(id));
            TxnOp::put(key, value, options)
        }
        Write::Delete(key) => TxnOp::delete(key, None),
    }
}

/// The first key behind all that begin with `prefix` (etcd's range convention; `\0` for all).
pub fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}
