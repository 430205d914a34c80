//! Whether this edge takes newcomers, and how long those who are here may stay: until an operator
//! drains it, or it stops.
//!
//! Pure: [`Keeper`] (what follows from what the directory says of this edge, and when), [`others`]
//! (where else to go). Around them `Doors` lets in, refuses and tells.

mod keeper;
pub mod others;

use std::{sync::Mutex, time::Duration};

use longspan_proto::time::Time;
use longspan_relay::node::{Handle, NodeInfo};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

pub use self::keeper::{Door, Keeper};

/// Nobody new is taken: an operator drains the edge, or it stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this edge is going away; {}", try_these(alternatives))]
pub struct GoingAway {
    /// URLs of other edges, the nearest first; none if none is known.
    pub alternatives: Vec<String>,
}

/// For the log.
fn words(door: Door) -> &'static str {
    match door {
        Door::Open => "this edge takes newcomers again",
        Door::Draining => "an operator drains this edge: it takes nobody new",
        Door::Over => "the drain's time is over: members and viewers are closed",
        Door::Stopping => "this edge stops: it takes nobody new",
    }
}

fn try_these(alternatives: &[String]) -> String {
    match alternatives {
        [] => "no other one is known here".to_owned(),
        some => format!("try {}", some.join(", ")),
    }
}

/// See the [module](self).
pub(crate) struct Doors {
    node: Handle,
    epoch: Instant,
    keeper: Mutex<Keeper>,
    door: watch::Sender<Door>,
}

impl Doors {
    pub(crate) fn new(node: Handle) -> Doors {
        Doors {
            node,
            epoch: Instant::now(),
            keeper: Mutex::default(),
            door: watch::Sender::new(Door::Open),
        }
    }

    /// Follows what the directory says of this edge. Never returns.
    pub(crate) async fn keep(&self) {
        let mut directory = self.node.directory();
        directory.mark_changed();
        loop {
            let due = self.turn(|now, keeper| keeper.handle_timeout(now));
            tokio::select! {
                Ok(()) = directory.changed() => {
                    let known = directory.borrow_and_update().clone();
                    if let Some(me) = known.get(self.node.id()) {
                        self.turn(|now, keeper| {
                            keeper.told(now, me.draining.then_some(me.drain_left));
                        });
                    }
                }
                () = self.due(due) => {}
            }
        }
    }

    async fn due(&self, due: Option<Time>) {
        match due {
            Some(due) => sleep_until(self.epoch + due.saturating_since(Time::ZERO)).await,
            None => std::future::pending().await,
        }
    }

    /// The edge stops: nobody new, whatever operators say.
    pub(crate) fn stop(&self) {
        self.turn(|_, keeper| keeper.stop());
    }

    fn turn(&self, input: impl FnOnce(Time, &mut Keeper)) -> Option<Time> {
        let now = Time::ZERO + self.epoch.elapsed();
        let mut keeper = self.keeper.lock().unwrap_or_else(|e| e.into_inner());
        input(now, &mut keeper);
        let door = keeper.door();
        // Told under the lock: in the order in which it was decided.
        self.door.send_if_modified(|told| {
            let is_new = *told != door;
            *told = door;
            if is_new {
                tracing::info!("{}", words(door));
            }
            is_new
        });
        keeper.poll_timeout()
    }

    /// How long those who are here may stay, while the edge drains.
    pub(crate) fn left(&self) -> Duration {
        let now = Time::ZERO + self.epoch.elapsed();
        let keeper = self.keeper.lock().unwrap_or_else(|e| e.into_inner());
        keeper
            .poll_timeout()
            .map_or(Duration::ZERO, |until| until.saturating_since(now))
    }

    /// Lets somebody new in who comes over HTTP.
    pub(crate) fn enter(&self) -> Result<(), GoingAway> {
        self.enter_by(|edge| &edge.http_url)
    }

    /// The same for RTMP.
    pub(crate) fn enter_by_rtmp(&self) -> Result<(), GoingAway> {
        self.enter_by(|edge| &edge.rtmp_url)
    }

    fn enter_by(&self, url: fn(&NodeInfo) -> &String) -> Result<(), GoingAway> {
        if self.is_open() {
            return Ok(());
        }
        let alternatives = self.alternatives(url);
        Err(GoingAway { alternatives })
    }

    /// Where those who are here may go, over HTTP.
    pub(crate) fn others(&self) -> Vec<String> {
        self.alternatives(|edge| &edge.http_url)
    }

    fn alternatives(&self, url: fn(&NodeInfo) -> &String) -> Vec<String> {
        let directory = self.node.directory();
        others::urls(&directory.borrow(), self.node.id(), url)
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.door.borrow() == Door::Open
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Door> {
        self.door.subscribe()
    }

    /// Returns once newcomers are taken.
    pub(crate) async fn opened(&self) {
        self.until(|door| *door == Door::Open).await;
    }

    /// Returns once no newcomers are taken.
    pub(crate) async fn closing(&self) {
        self.until(|door| *door != Door::Open).await;
    }

    /// Returns once nobody but publishers may stay.
    pub(crate) async fn over(&self) {
        self.until(|door| *door == Door::Over).await;
    }

    async fn until(&self, is: impl FnMut(&Door) -> bool) {
        // The sender is here.
        let _ = self.door.subscribe().wait_for(is).await;
    }
}
