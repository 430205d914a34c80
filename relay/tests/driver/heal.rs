//! A link dies under a track and a call, no controller is there, and everything goes on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use longspan_proto::{
    ids::{Generation, Net, NodeId},
    wire::Start,
};
use longspan_relay::{
    forward::LocalEvent,
    node::{CallOpen, Directory, Fixed, Publisher, Verb},
};
use longspan_topology::routes::{Hop, Path, Routes};
use tokio::task::JoinHandle;

use crate::{
    wire::Wire,
    world::{
        Ca, Running, config, counted, eventually, frame, id, info, metrics, room, soon, track,
    },
};

/// Frames of one group.
const FRAMES: u64 = 25;

/// Three relays, each connected to both others; a and b over a wire that can be cut.
struct Triangle {
    nodes: Vec<Running>,
    wire: Wire,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Triangle {
    async fn new() -> Triangle {
        metrics();
        let ca = Ca::new();
        let mut nodes = Vec::new();
        for name in NAMES {
            nodes.push(Running::start(config(name, ca.identity(name))).await);
        }
        let wire = Wire::to(nodes[1].handle.address()).await;
        for (me, node) in nodes.iter().enumerate() {
            let mut directory = Directory::default();
            for (at, name) in NAMES.iter().enumerate() {
                let direct = nodes[at].handle.address();
                let address = if (me, at) == (0, 1) {
                    wire.address()
                } else {
                    direct
                };
                directory.nodes.insert(id(name), info(name, address));
            }
            let routes = routes(me);
            node.handle.set_world(Fixed { directory, routes });
        }
        let world = Triangle { nodes, wire };
        for (me, node) in world.nodes.iter().enumerate() {
            for (at, name) in NAMES.iter().enumerate() {
                let measured = || {
                    node.peer(name)
                        .is_some_and(|peer| !peer["rtt_us"].is_null())
                };
                if at != me {
                    eventually(&format!("{} measures {name}", NAMES[me]), measured).await;
                }
            }
        }
        world
    }

    fn life(&self, at: usize, of: &str) -> String {
        let peer = self.nodes[at].peer(of);
        peer.map_or("gone".into(), |peer| {
            peer["life"].as_str().unwrap_or("").into()
        })
    }
}

/// Directly, and over the third.
fn routes(me: usize) -> Routes {
    let mut routes = Routes::default();
    let hop = |at: usize| Hop {
        node: id(NAMES[at]),
        net: Net::internet(),
    };
    for to in (0..3).filter(|to| *to != me) {
        routes.neighbours.push(id(NAMES[to]));
        let ways = [vec![hop(to)], vec![hop(3 - me - to), hop(to)]];
        // So far apart that no noise of this machine makes the detour look better.
        let paths = ways.into_iter().zip([1_000, 900_000]);
        let paths = paths.map(|(hops, cost_us)| Path { hops, cost_us });
        routes.paths.insert(id(NAMES[to]), paths.collect());
    }
    routes
}

/// Publishes a frame each 10 ms for as long as it is held.
struct Lesson(JoinHandle<()>);

impl Lesson {
    fn begin(publisher: Publisher) -> Lesson {
        Lesson(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            for n in 0.. {
                ticks.tick().await;
                let (group, index) = (n / FRAMES, n % FRAMES);
                if index == 0 {
                    publisher.group(group, group * 1_000_000, 0);
                }
                publisher.frame(frame(group, index, 1_000));
            }
        }))
    }
}

impl Drop for Lesson {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A viewer of the lesson that misses nothing: how many frames came, and which way.
#[derive(Default)]
struct Seen {
    frames: u64,
    path: Vec<NodeId>,
    /// For each group how many of its frames came.
    groups: BTreeMap<u64, u64>,
}

impl Seen {
    /// Groups that are long over, and did not come whole. A newer one may overtake an older one.
    fn missing(&self) -> Vec<(u64, u64)> {
        let first = self.groups.keys().next().copied().unwrap_or(0);
        let last = self.groups.keys().last().copied().unwrap_or(0);
        (first..last.saturating_sub(3))
            .map(|group| (group, self.groups.get(&group).copied().unwrap_or(0)))
            .filter(|(_, frames)| *frames != FRAMES)
            .collect()
    }
}

fn watch(node: &Running) -> (Arc<Mutex<Seen>>, JoinHandle<()>) {
    let mut subscription =
        node.handle
            .subscribe(track("video"), id("a"), Start::Latest, Duration::ZERO);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let told = seen.clone();
    let watching = tokio::spawn(async move {
        while let Some(event) = subscription.next().await {
            match event {
                LocalEvent::Frame {
                    group,
                    index,
                    frame: came,
                } => {
                    assert_eq!(came.payload, frame(group, index, 1_000).payload);
                    let mut seen = told.lock().unwrap();
                    let next = seen.groups.entry(group).or_default();
                    assert_eq!(*next, index, "of group {group}");
                    *next += 1;
                    seen.frames += 1;
                }
                LocalEvent::Path(path) => told.lock().unwrap().path = path,
                LocalEvent::GroupDropped { .. } | LocalEvent::End { .. } => panic!("{event:?}"),
                LocalEvent::Group(_) | LocalEvent::GroupEnd { .. } => {}
            }
        }
    });
    (seen, watching)
}

async fn comes_over(seen: &Mutex<Seen>, path: &[&str]) {
    let path: Vec<NodeId> = path.iter().map(|name| id(name)).collect();
    eventually(&format!("it comes over {path:?}"), || {
        seen.lock().unwrap().path == path
    })
    .await;
    let before = seen.lock().unwrap().frames;
    eventually("frames come", || seen.lock().unwrap().frames > before + 20).await;
}

/// What the viewer's task found, if it failed.
async fn well(watching: JoinHandle<()>) {
    watching.abort();
    if let Err(error) = watching.await {
        assert!(error.is_cancelled(), "{error}");
    }
}

async fn survives(there: bool, back: bool) {
    let world = Triangle::new().await;
    let _lesson = Lesson::begin(world.nodes[0].handle.publish(track("video")));
    let (seen, watching) = watch(&world.nodes[1]);
    comes_over(&seen, &["a", "b"]).await;
    let before = counted("longspan_failovers_total");

    world.wire.cut(there, back);
    comes_over(&seen, &["a", "c", "b"]).await;
    // Both ends judge, also the one that still hears the other.
    eventually("a knows", || world.life(0, "b") != "up").await;
    eventually("b knows", || world.life(1, "a") != "up").await;
    assert!(counted("longspan_failovers_total") > before);

    world.wire.cut(false, false);
    eventually("a trusts b again", || world.life(0, "b") == "up").await;
    comes_over(&seen, &["a", "b"]).await;
    well(watching).await;
    let seen = seen.lock().unwrap();
    assert_eq!(seen.missing(), [], "of {} frames", seen.frames);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_survives_a_dead_link_without_a_missing_frame_and_comes_back() {
    survives(true, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_survives_a_link_that_is_dead_towards_its_receiver() {
    survives(true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_survives_a_link_that_is_dead_towards_its_sender() {
    survives(false, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_a_dead_link_breaks_and_the_next_goes_another_way() {
    let world = Triangle::new().await;
    let mut calls = world.nodes[0].handle.serve(Verb::Publish);
    let caller = world.nodes[1].handle.clone();
    let open = || CallOpen {
        verb: Verb::Publish,
        path: Vec::new(),
        crossed: Vec::new(),
        room: room(),
        generation: Generation::new(0, 1),
        ticket: Bytes::new(),
        group: 0,
    };
    let mut served = Vec::new();
    let mut answer = async || {
        let call = soon("the call", calls.recv()).await.unwrap();
        let crossed = call.open().crossed.clone();
        served.push(call.accept().await.unwrap());
        crossed
    };
    let a = id("a");
    let (call, crossed) = tokio::join!(caller.call(&a, open()), answer());
    assert_eq!(crossed, [id("b")]);
    let mut call = call.unwrap();

    world.wire.cut(true, true);
    assert!(soon("it breaks", call.recv()).await.is_err());
    let (again, crossed) = tokio::join!(caller.call(&a, open()), answer());
    assert_eq!(crossed, [id("b"), id("c")]);
    again.unwrap();
}
