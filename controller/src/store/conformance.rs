//! The suite that every store passes. Each case gets a store and a prefix of its own.

use std::{sync::Arc, time::Duration};

use super::{
    Batch, Compare, Entry, Error, Event, MAX_OPERATIONS, MAX_VALUE, Snapshot, Store, Txn, Write,
    embedded::Embedded, test_etcd,
};

/// Bounds every wait for something the contract promises.
const PATIENCE: Duration = Duration::from_secs(30);

fn put(key: &str, value: &str) -> Write {
    Write::Put {
        key: key.into(),
        value: value.into(),
        lease: None,
    }
}

fn leased(key: &str, lease: i64) -> Write {
    Write::Put {
        key: key.into(),
        value: "leased".into(),
        lease: Some(lease),
    }
}

fn txn(compares: &[Compare], writes: &[Write]) -> Txn {
    Txn {
        compares: compares.into(),
        writes: writes.into(),
    }
}

fn keys(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.entries.iter().map(|e| &*e.key).collect()
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it happens in time")
}

async fn reads_are_ordered_bounded_by_the_prefix_and_can_look_back(s: &dyn Store, p: &str) {
    let [a, b, beside] = [format!("{p}a"), format!("{p}b"), format!("{p}\u{7f}")];
    let outside = format!("{}~", p.trim_end_matches('/'));
    let first = s
        .commit(txn(&[], &[put(&b, "1"), put(&a, "1"), put(&outside, "1")]))
        .await
        .unwrap();
    let second = s.commit(txn(&[], &[put(&a, "2")])).await.unwrap();
    s.commit(txn(&[], &[Write::Delete(b.clone()), put(&beside, "3")]))
        .await
        .unwrap();
    assert!(second > first);
    let now = s.read(p, None).await.unwrap();
    assert_eq!(keys(&now), [&a, &beside]);
    assert_eq!(now.entries[0].revision, second);
    let then = s.read(p, Some(first)).await.unwrap();
    assert_eq!(then.revision, first);
    let values: Vec<&str> = then.entries.iter().map(|e| &*e.value).collect();
    assert_eq!((keys(&then), values), (vec![&*a, &*b], vec!["1", "1"]));
    let ahead = now.revision + 1_000;
    assert_eq!(s.read(p, Some(ahead)).await, Err(Error::Future));
}

async fn large_reads_are_whole(s: &dyn Store, p: &str) {
    for chunk in 0..26 {
        let names = (0..100).map(|n| format!("{p}{:05}", chunk * 100 + n));
        let writes: Vec<Write> = names.map(|key| put(&key, "x")).collect();
        s.commit(txn(&[], &writes)).await.unwrap();
    }
    let all = s.read(p, None).await.unwrap();
    assert_eq!(all.entries.len(), 2_600);
    assert!(all.entries.is_sorted_by(|a, b| a.key < b.key));
}

async fn a_commit_happens_whole_or_not_at_all(s: &dyn Store, p: &str) {
    let [a, b] = [format!("{p}a"), format!("{p}b")];
    let absent = || Compare::Absent(a.clone());
    let first = s.commit(txn(&[absent()], &[put(&a, "1")])).await.unwrap();
    let refused = [
        absent(),
        Compare::Present(b.clone()),
        Compare::Revision(a.clone(), first - 1),
        Compare::Revision(b.clone(), first),
        Compare::Value(a.clone(), "2".into()),
        Compare::Value(b.clone(), "1".into()),
    ];
    for compare in refused {
        let told = s
            .commit(txn(
                std::slice::from_ref(&compare),
                &[put(&a, "no"), put(&b, "no")],
            ))
            .await;
        assert_eq!(told, Err(Error::Conflict), "{compare:?}");
    }
    let all = [
        Compare::Present(a.clone()),
        Compare::Revision(a.clone(), first),
        Compare::Value(a.clone(), "1".into()),
        Compare::Absent(b.clone()),
    ];
    let second = s.commit(txn(&all, &[put(&b, "yes")])).await.unwrap();
    let now = s.read(p, None).await.unwrap();
    let told: Vec<_> = now
        .entries
        .iter()
        .map(|e| (&*e.value, e.revision))
        .collect();
    assert_eq!(told, [("1", first), ("yes", second)]);
}

async fn what_changes_nothing_makes_no_revision(s: &dyn Store, p: &str) {
    let key = format!("{p}a");
    let first = s.commit(txn(&[], &[put(&key, "1")])).await.unwrap();
    let delete = Write::Delete(format!("{p}not-there"));
    assert_eq!(s.commit(txn(&[], &[delete])).await, Ok(first));
    let again = s.commit(txn(&[], &[put(&key, "1")])).await.unwrap();
    assert_eq!(again, first + 1, "the same value is a change all the same");
}

async fn one_of_many_racing_commits_wins(s: &dyn Store, p: &str) {
    let key = format!("{p}a");
    let race = (0..16).map(|n| {
        let put = put(&key, &n.to_string());
        s.commit(txn(&[Compare::Absent(key.clone())], &[put]))
    });
    let told = futures_util::future::join_all(race).await;
    assert_eq!(told.iter().filter(|r| r.is_ok()).count(), 1);
    let lost = told.iter().filter(|r| **r == Err(Error::Conflict));
    assert_eq!(lost.count(), 15);
}

async fn bounds_are_refused_by_name(s: &dyn Store, p: &str) {
    let a = format!("{p}a");
    let twice = [put(&a, "1"), Write::Delete(a.clone())];
    let many: Vec<Write> = (0..=MAX_OPERATIONS)
        .map(|n| put(&format!("{p}{n}"), ""))
        .collect();
    let long = [put(&a, &"x".repeat(MAX_VALUE + 1))];
    for writes in [&twice[..], &many, &long] {
        let told = s.commit(txn(&[], writes)).await;
        assert!(matches!(told, Err(Error::Invalid(_))), "{told:?}");
    }
    let most = [put(&a, &"x".repeat(MAX_VALUE))];
    assert!(s.commit(txn(&[], &most)).await.is_ok());
    assert!(
        s.commit(txn(&[], &many[..MAX_OPERATIONS])).await.is_ok(),
        "exactly the limit is fine"
    );
}

async fn a_watch_tells_the_past_then_the_present_in_order(s: &dyn Store, p: &str) {
    let [a, b] = [format!("{p}a"), format!("{p}b")];
    s.commit(txn(&[], &[put(&a, "0")])).await.unwrap();
    let first = s.commit(txn(&[], &[put(&a, "1")])).await.unwrap();
    let second = s
        .commit(txn(&[], &[put(&b, "1"), Write::Delete(a.clone())]))
        .await
        .unwrap();
    let mut watch = s.watch(p, first);
    let entry = |key: &str, value: &str, revision| Entry {
        key: key.into(),
        value: value.into(),
        revision,
        lease: None,
    };
    let batch = soon(watch.next()).await.unwrap();
    let expected = Batch {
        revision: first,
        events: vec![Event::Put(entry(&a, "1", first))],
    };
    assert_eq!(batch, expected);
    let batch = soon(watch.next()).await.unwrap();
    assert_eq!(batch.revision, second);
    assert_eq!(batch.events.len(), 2, "one revision is one batch");
    assert!(batch.events.contains(&Event::Put(entry(&b, "1", second))));
    assert!(batch.events.contains(&Event::Delete(Arc::from(&*a))));

    let outside = format!("{}~", p.trim_end_matches('/'));
    s.commit(txn(&[], &[put(&outside, "1")])).await.unwrap();
    let third = s.commit(txn(&[], &[put(&a, "2")])).await.unwrap();
    assert_eq!(soon(watch.next()).await.unwrap().revision, third);

    let mut later = s.watch(p, third + 2);
    s.commit(txn(&[], &[put(&a, "3")])).await.unwrap();
    let due = s.commit(txn(&[], &[put(&a, "4")])).await.unwrap();
    let told = soon(later.next()).await.unwrap();
    assert_eq!(told.revision, due, "a watch from the future waits for it");
}

async fn a_lease_takes_its_keys_when_it_ends(s: &dyn Store, p: &str) {
    let [a, b, c, free] = ["a", "b", "c", "free"].map(|name| format!("{p}{name}"));
    let ended = Err(Error::LeaseNotFound(41));
    assert_eq!(s.keep_alive(41).await, ended);
    assert_eq!(s.revoke(41).await, ended);
    let told = s.commit(txn(&[], &[put(&free, "1"), leased(&a, 41)])).await;
    assert_eq!(told, Err(Error::LeaseNotFound(41)));
    assert_eq!(keys(&s.read(p, None).await.unwrap()), [""; 0]);

    s.grant(41, Duration::from_secs(60)).await.unwrap();
    let again = s.grant(41, Duration::from_secs(60)).await;
    assert_eq!(again, Err(Error::LeaseExists(41)));
    s.keep_alive(41).await.unwrap();
    let writes = [leased(&a, 41), leased(&b, 41), leased(&c, 41)];
    let made = s.commit(txn(&[], &writes)).await.unwrap();
    let now = s.read(p, None).await.unwrap();
    assert!(now.entries.iter().all(|e| e.lease == Some(41)));
    // A put without the lease frees a key of it.
    s.commit(txn(&[], &[put(&b, "kept")])).await.unwrap();
    let mut watch = s.watch(p, made + 2);
    s.revoke(41).await.unwrap();
    let batch = soon(watch.next()).await.unwrap();
    assert_eq!(batch.events.len(), 2, "its keys go at one revision");
    assert_eq!(keys(&s.read(p, None).await.unwrap()), [&b]);
    assert_eq!(s.keep_alive(41).await, ended);
    s.grant(41, Duration::from_secs(60))
        .await
        .expect("an id is free again once its lease has ended");
    s.revoke(41).await.unwrap();
}

async fn a_lease_that_is_not_kept_alive_ends(s: &dyn Store, p: &str) {
    let [dies, lives] = [format!("{p}dies"), format!("{p}lives")];
    let ttl = Duration::from_secs(2);
    s.grant(51, ttl).await.unwrap();
    s.grant(52, ttl).await.unwrap();
    let writes = [leased(&dies, 51), leased(&lives, 52)];
    let made = s.commit(txn(&[], &writes)).await.unwrap();
    let mut watch = s.watch(p, made + 1);
    let gone = {
        let mut keep = tokio::time::interval(Duration::from_millis(300));
        soon(async {
            loop {
                tokio::select! {
                    batch = watch.next() => break batch.unwrap(),
                    _ = keep.tick() => s.keep_alive(52).await.unwrap(),
                }
            }
        })
        .await
    };
    assert_eq!(gone.events, [Event::Delete(Arc::from(&*dies))]);
    assert_eq!(keys(&s.read(p, None).await.unwrap()), [&lives]);
    assert_eq!(s.keep_alive(51).await, Err(Error::LeaseNotFound(51)));
    s.revoke(52).await.unwrap();
}

async fn the_era_only_rises(s: &dyn Store, _: &str) {
    assert_eq!(super::era::at_least(s, 0, None).await, Ok(0));
    assert_eq!(super::era::at_least(s, 3, None).await, Ok(3));
    assert_eq!(super::era::at_least(s, 1, None).await, Ok(3));
    let fence = Compare::Present("/nobody/leads".into());
    let refused = super::era::at_least(s, 4, Some(fence)).await;
    assert_eq!(refused, Err(Error::Conflict));
    assert_eq!(super::era::at_least(s, 0, None).await, Ok(3));
}

/// Runs every case, one after another, each below a prefix of its own.
async fn suite(store: &dyn Store) {
    macro_rules! cases {
        ($($case:ident),* $(,)?) => {$(
            $case(store, concat!("/test/", stringify!($case), "/")).await;
        )*};
    }
    cases!(
        reads_are_ordered_bounded_by_the_prefix_and_can_look_back,
        large_reads_are_whole,
        a_commit_happens_whole_or_not_at_all,
        what_changes_nothing_makes_no_revision,
        one_of_many_racing_commits_wins,
        bounds_are_refused_by_name,
        a_watch_tells_the_past_then_the_present_in_order,
        a_lease_takes_its_keys_when_it_ends,
        a_lease_that_is_not_kept_alive_ends,
        the_era_only_rises,
    );
}

#[tokio::test]
async fn the_embedded_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(&folder.path().join("store.redb")).await;
    suite(&store.unwrap()).await;
}

#[tokio::test]
async fn etcd_conforms() {
    for program in test_etcd::programs() {
        let server = test_etcd::Server::start(&program).await;
        suite(&server.store().await).await;
    }
}

#[tokio::test]
async fn a_watch_on_etcd_goes_on_after_an_outage_and_says_what_was_compacted() {
    for program in test_etcd::programs() {
        let mut server = test_etcd::Server::start(&program).await;
        let store = server.store().await;
        let first = store.commit(txn(&[], &[put("/w/a", "1")])).await.unwrap();
        let mut watch = store.watch("/w/", first);
        assert_eq!(soon(watch.next()).await.unwrap().revision, first);
        server.kill();
        let told = store.commit(txn(&[], &[put("/w/a", "2")])).await;
        assert!(matches!(told, Err(Error::Unavailable(_))), "{told:?}");
        let told = store.read("/w/", None).await;
        let Err(Error::Unavailable(why)) = told else {
            panic!("{told:?}")
        };
        let port = server.endpoint();
        assert!(why.contains(&port) && why.contains("refused"), "{why}");
        server.run();
        server.answers().await;
        let second = store.commit(txn(&[], &[put("/w/a", "3")])).await.unwrap();
        assert_eq!(soon(watch.next()).await.unwrap().revision, second);

        let mut raw = etcd_client::Client::connect([server.endpoint()], None)
            .await
            .unwrap();
        raw.compact(second as i64, None).await.unwrap();
        let mut late = store.watch("/w/", first);
        let told = soon(late.next()).await;
        assert_eq!(told, Err(Error::Compacted { oldest: second }));
        let told = store.read("/w/", Some(first)).await;
        assert!(matches!(told, Err(Error::Compacted { .. })), "{told:?}");
    }
}

#[tokio::test]
async fn an_etcd_that_hangs_is_unavailable_within_the_timeout() {
    let server = test_etcd::Server::start(&test_etcd::programs()[0]).await;
    let store = server.store().await;
    server.signal("STOP");
    let told = soon(store.commit(txn(&[], &[put("/h", "1")]))).await;
    server.signal("CONT");
    assert!(matches!(told, Err(Error::Unavailable(_))), "{told:?}");
    soon(server.answers()).await;
}

#[tokio::test]
async fn endpoints_are_checked_and_a_dead_one_is_passed_over() {
    use super::etcd::Etcd;
    let timeout = Duration::from_secs(2);
    let none = Etcd::open(&[], timeout).await.err();
    assert_eq!(none.as_deref(), Some("no etcd endpoint is given"));
    let odd = Etcd::open(&["localhost:2379".into()], timeout).await.err();
    assert!(odd.expect("refused").contains("\"localhost:2379\""));

    let server = test_etcd::Server::start(&test_etcd::programs()[0]).await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", dead.local_addr().unwrap());
    drop(dead);
    let both = Etcd::open(&[address, server.endpoint()], timeout).await;
    let both = both.unwrap();
    for _ in 0..10 {
        both.read("/", None).await.expect("the other one answers");
    }
}
