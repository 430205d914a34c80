//! Which links are needed as backups.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::shared::Shared;

/// Looked for so often: a backup that became one a second ago is probed as such for the next.
const EVERY: Duration = Duration::from_secs(1);

/// Tells every connection whether tracks would move to it, until stopped.
pub(crate) async fn keep_needs(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let backups = shared.engine.view(|core| core.backups());
        for peer in shared.peers.all() {
            let backup = backups.contains(&peer.node);
            peer.backup.store(backup, Ordering::Relaxed);
        }
    }
}
