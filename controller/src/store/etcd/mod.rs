//! The store shared by controllers: etcd 3.4 and newer.

mod convert;
mod watch;

use std::{sync::Arc, time::Duration};

use etcd_client::{Client, ConnectOptions, GetOptions, LeaseGrantOptions, SortOrder, SortTarget};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{sync::mpsc, time::Instant};

use self::{
    convert::{compare, entry, operation, range_end},
    watch::Watcher,
};
use super::{Entry, Error, LeaseId, Revision, Snapshot, Store, Txn, Watch, Write};
use crate::backoff::Backoff;

/// Keys in one answer of a read; larger reads are made of several, at one revision.
const PAGE: i64 = 1_000;
/// Attempts of a call that may be repeated safely.
const ATTEMPTS: u32 = 3;
/// Batches waiting for one watcher; then etcd holds them.
const WATCH_QUEUE: usize = 1_024;
/// HTTP/2 pings tell a server that hangs from one that has nothing to say.
const PING_EVERY: Duration = Duration::from_secs(2);
/// How long a ping may go unanswered.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long connecting to one member may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection to etcd.
#[derive(Clone)]
pub struct Etcd {
    client: Client,
    endpoints: Arc<str>,
    timeout: Duration,
}

impl Etcd {
    /// Prepares connections to `endpoints`, and makes them as they are needed: an etcd that is
    /// down now is no error here. `timeout` bounds each call.
    pub async fn open(endpoints: &[String], timeout: Duration) -> Result<Etcd, String> {
        if endpoints.is_empty() {
            return Err("no etcd endpoint is given".into());
        }
        let named = endpoints.join(", ");
        for endpoint in endpoints {
            let known = endpoint.starts_with("http://") || endpoint.starts_with("https://");
            if !known {
                return Err(format!(
                    "etcd endpoint {endpoint:?} does not begin with http:// or https://"
                ));
            }
        }
        let options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(PING_EVERY, PING_TIMEOUT)
            .with_keep_alive_while_idle(true);
        let client = Client::connect(endpoints, Some(options)).await;
        Ok(Etcd {
            client: client.map_err(|e| format!("etcd {named}: {e}"))?,
            endpoints: named.into(),
            timeout,
        })
    }

    /// One attempt, within the timeout.
    async fn once<T>(
        &self,
        call: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Error> {
        self.until(Instant::now() + self.timeout, call).await
    }

    /// Several attempts while it is unavailable, together within the timeout.
    async fn repeated<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let deadline = Instant::now() + self.timeout;
        let mut backoff = Backoff::default();
        for _ in 1..ATTEMPTS {
            let told = self.until(deadline, call(self.client.clone())).await;
            let wait = backoff.next();
            if !matches!(told, Err(Error::Unavailable(_))) || Instant::now() + wait >= deadline {
                return told;
            }
            tokio::time::sleep(wait).await;
        }
        self.until(deadline, call(self.client.clone())).await
    }

    async fn until<T>(
        &self,
        deadline: Instant,
        call: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout_at(deadline, call).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.told(&error)),
            Err(_) => {
                let (endpoints, timeout) = (&self.endpoints, self.timeout);
                Err(Error::Unavailable(format!(
                    "etcd {endpoints} did not answer within {timeout:?}"
                )))
            }
        }
    }

    /// etcd's own error in the contract's words. etcd tells errors apart by their text
    /// (api/v3rpc/rpctypes/error.go); codes are shared by several.
    fn told(&self, error: &etcd_client::Error) -> Error {
        let text = match error {
            etcd_client::Error::GRpcStatus(status) => status.message().to_owned(),
            other => other.to_string(),
        };
        if text.contains("lease not found") {
            Error::LeaseNotFound(0)
        } else if text.contains("lease already exists") {
            Error::LeaseExists(0)
        } else if text.contains("has been compacted") {
            Error::Compacted { oldest: 0 }
        } else if text.contains("future revision") {
            Error::Future
        } else {
            Error::Unavailable(format!("etcd {}: {}", self.endpoints, root_cause(error)))
        }
    }

    async fn read_pages(&self, prefix: &str, at: Option<Revision>) -> Result<Snapshot, Error> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut revision = at;
        let mut from = prefix.as_bytes().to_vec();
        loop {
            let answer = self
                .repeated(|mut client| {
                    let from = from.clone();
                    let mut options = GetOptions::new()
                        .with_range(range_end(prefix))
                        .with_sort(SortTarget::Key, SortOrder::Ascend)
                        .with_limit(PAGE);
                    if let Some(revision) = revision {
                        options = options.with_revision(revision as i64);
                    }
                    async move { client.get(from, Some(options)).await }
                })
                .await
                .map_err(|error| match (error, at) {
                    // etcd does not say from where on it knows; from later on is all we know.
                    (Error::Compacted { .. }, at) => Error::Compacted {
                        oldest: at.or(revision).unwrap_or(0) + 1,
                    },
                    (error, _) => error,
                })?;
            let current = answer.header().map_or(0, |h| h.revision() as Revision);
            revision = revision.or(Some(current));
            entries.extend(answer.kvs().iter().map(entry));
            match answer.kvs().last() {
                Some(last) if answer.more() => {
                    from = last.key().to_vec();
                    from.push(0);
                }
                _ => {
                    return Ok(Snapshot {
                        revision: revision.unwrap_or(current),
                        entries,
                    });
                }
            }
        }
    }

    async fn try_commit(&self, txn: Txn) -> Result<Revision, Error> {
        txn.check()?;
        let lease = txn.writes.iter().find_map(|w| match w {
            Write::Put { lease, .. } => *lease,
            Write::Delete(_) => None,
        });
        let when: Vec<_> = txn.compares.into_iter().map(compare).collect();
        let then: Vec<_> = txn.writes.into_iter().map(operation).collect();
        let txn = etcd_client::Txn::new().when(when).and_then(then);
        let mut client = self.client.clone();
        let answer = self.once(async move { client.txn(txn).await }).await;
        let answer = answer.map_err(|error| match error {
            Error::LeaseNotFound(_) => Error::LeaseNotFound(lease.unwrap_or(0)),
            error => error,
        })?;
        if !answer.succeeded() {
            return Err(Error::Conflict);
        }
        Ok(answer.header().map_or(0, |h| h.revision() as Revision))
    }
}

impl Store for Etcd {
    fn read<'a>(
        &'a self,
        prefix: &'a str,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Snapshot, Error>> {
        self.read_pages(prefix, at).boxed()
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, Error>> {
        self.try_commit(txn).boxed()
    }

    fn watch(&self, prefix: &str, from: Revision) -> Watch {
        let (batches, watch) = mpsc::channel(WATCH_QUEUE);
        let watcher = Watcher {
            etcd: self.clone(),
            prefix: prefix.into(),
            next: from,
            batches,
        };
        tokio::spawn(watcher.run());
        Watch(watch)
    }

    fn grant(&self, lease: LeaseId, ttl: Duration) -> BoxFuture<'_, Result<(), Error>> {
        let mut client = self.client.clone();
        // Whole seconds, never shorter than asked.
        let seconds = ttl.as_millis().div_ceil(1_000) as i64;
        let options = LeaseGrantOptions::new().with_id(lease);
        let granted = self.once(async move { client.lease_grant(seconds, Some(options)).await });
        of_lease(lease, granted)
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        let kept =
            self.repeated(move |mut client| async move { client.lease_keep_alive(lease).await });
        of_lease(lease, kept)
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        let mut client = self.client.clone();
        let revoked = self.once(async move { client.lease_revoke(lease).await });
        of_lease(lease, revoked)
    }
}

/// Names the lease in errors about it.
fn of_lease<'a, T>(
    lease: LeaseId,
    call: impl Future<Output = Result<T, Error>> + Send + 'a,
) -> BoxFuture<'a, Result<(), Error>> {
    async move {
        match call.await {
            Ok(_) => Ok(()),
            Err(Error::LeaseNotFound(_)) => Err(Error::LeaseNotFound(lease)),
            Err(Error::LeaseExists(_)) => Err(Error::LeaseExists(lease)),
            Err(error) => Err(error),
        }
    }
    .boxed()
}

/// The innermost reason: "connection refused" says more than "transport error".
fn root_cause(error: &etcd_client::Error) -> String {
    let mut cause: &dyn std::error::Error = match error {
        etcd_client::Error::GRpcStatus(status) => status,
        etcd_client::Error::TransportError(error) => error,
        other => return other.to_string(),
    };
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match error {
        etcd_client::Error::GRpcStatus(status) if std::error::Error::source(status).is_none() => {
            status.message().to_owned()
        }
        _ => cause.to_string(),
    }
}
