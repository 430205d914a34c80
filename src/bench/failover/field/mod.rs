//! The backbone in the lab: every program a process of its own, one host a region.
//!
//! * `start`: its processes. `site`: one region, its relay and its edges.

mod site;
mod start;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hyper::Method;
use longspan_lab::{
    matrix::{Matrix, Split},
    tun::{Lab, Process},
    world::{Change, Everywhere},
};
use longspan_proto::ids::{NodeId, Region};
use longspan_relay::node::Handle;
use rand::{Rng, seq::IteratorRandom};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::site::Edges;
pub use self::site::{Site, bench_edge};
use crate::{
    failure::{Failure, Outcome},
    http,
    up::{data_dir::DataDir, plan::Area},
};

/// The host of etcd and the controller; it stands in the first region.
const CONTROL: &str = "control";
/// How long a repair may take until every relay is connected to every other again: the longest pause between two
/// attempts is 5 s, and an attempt may itself meet losses.
const HEAL: Duration = Duration::from_secs(60);
/// Tables that have not changed for this long are settled: reports come every second, and a path is
/// kept for 5 s at least.
const UNCHANGED: Duration = Duration::from_secs(3);
/// And how long that is waited for.
const SETTLE: Duration = Duration::from_secs(20);
/// How often conditions are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long a controller may take to do what an operator asks.
const OPERATE: Duration = Duration::from_secs(10);

/// Everything that runs. Dropping it ends it.
pub struct Field {
    /// One a region.
    pub sites: Vec<Site>,
    /// The controller, behind etcd where there is one.
    control: Vec<Process>,
    etcd: Option<String>,
    store: &'static str,
    api: String,
    token: String,
    wanted: Wanted,
    lab: Lab,
    dir: DataDir,
    _folder: TempDir,
}

/// What shall be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Delays.
    pub matrix: Matrix,
    /// How they are divided into directions.
    pub split: Split,
    /// What is laid over them.
    pub everywhere: Everywhere,
    /// Where there is a relay.
    pub regions: Vec<Region>,
    /// An edge beside each relay, and one of the bench's own.
    pub edges: bool,
    /// By how much each relay's clock is ahead; one that is not named here tells its own time.
    pub clocks: BTreeMap<Region, Duration>,
    /// For losses and jitter.
    pub seed: u64,
}

/// So many regions of a matrix, by name.
pub fn draw(matrix: &Matrix, count: u32, rng: &mut impl Rng) -> Vec<Region> {
    let all = matrix.places().keys().cloned();
    let mut regions: Vec<Region> = all.sample(rng, count as usize);
    regions.sort();
    let names: Vec<&str> = regions.iter().map(Region::as_str).collect();
    eprintln!("regions: {}", names.join(", "));
    regions
}

impl Field {
    /// Where there is a relay.
    pub fn regions(&self) -> &[Region] {
        &self.wanted.regions
    }

    /// What the controller keeps its records in.
    pub fn store(&self) -> &'static str {
        self.store
    }

    /// Kills etcd alone, or starts it again. False: there is none that could be.
    pub fn run_store(&mut self, runs: bool) -> Outcome<bool> {
        let Some(url) = &self.etcd else {
            return Ok(false);
        };
        if runs {
            let control = self.lab.host(CONTROL).map_err(Failure::failed)?;
            self.control[0] = self.etcd(control, url)?;
        } else {
            self.control[0].kill().map_err(Failure::failed)?;
        }
        Ok(true)
    }

    /// Kills the controller and its store.
    pub fn stop_control(&mut self) {
        self.control.clear();
    }

    /// Waits until every relay is connected to every other and trusts the link.
    pub async fn healed(&self, bound: Duration) -> Outcome {
        let wanted = self.sites.len() - 1;
        self.until(bound, "all relays are connected", async || {
            for site in &self.sites {
                let Some(state) = site.debug().await else {
                    return Err(format!("{} does not answer", site.area.relay.id));
                };
                let peers = state["state"]["peers"].as_array().into_iter().flatten();
                let up = peers.filter(|p| p["role"] == "relay" && p["life"] == "up");
                let up = up.count();
                if up < wanted {
                    return Err(format!("{} has {up} of {wanted}", site.area.relay.id));
                }
            }
            Ok(())
        })
        .await
    }

    /// Waits until the bench's edges know everybody and are attached.
    async fn attached(&self, bound: Duration) -> Outcome {
        self.until(bound, "all edges are attached", async || {
            for site in &self.sites {
                let Some(Edges { node, .. }) = &site.edges else {
                    continue;
                };
                let name = bench_edge(&site.area.region);
                node.ready().map_err(|why| format!("{name}: {why}"))?;
                for other in &self.sites {
                    let origin = NodeId::new(&bench_edge(&other.area.region))
                        .map_err(|why| why.to_string())?;
                    if other.area.region != site.area.region && node.ways(&origin).is_empty() {
                        return Err(format!("{name} knows no way to {origin}"));
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// See [`Field::healed`], after a trial.
    pub async fn repaired(&self) -> Outcome {
        self.healed(HEAL).await
    }

    /// Waits until a condition holds; it says why it does not yet.
    pub async fn until(
        &self,
        bound: Duration,
        what: &str,
        mut check: impl AsyncFnMut() -> Result<(), String>,
    ) -> Outcome {
        let deadline = Instant::now() + bound;
        loop {
            let Err(why) = check().await else {
                return Ok(());
            };
            if Instant::now() > deadline {
                return Err(Failure::failed(format!(
                    "not within {bound:?}: {what}: {why}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Changes a link of the world.
    pub fn change(&self, change: &Change) -> Outcome {
        self.lab.apply(change).map_err(Failure::failed)
    }

    /// Bytes that were given to each link between two regions so far; the controller's host is none.
    pub fn carried(&self) -> BTreeMap<(Region, Region), u64> {
        let region = |host: &NodeId| {
            let mut sites = self.sites.iter().map(|site| &site.area.region);
            sites
                .find(|region| region.as_str() == host.as_str())
                .cloned()
        };
        let links = self.lab.links().into_iter();
        links
            .filter_map(|link| Some(((region(&link.from)?, region(&link.to)?), link.counts.bytes)))
            .collect()
    }

    /// The site of a relay or of a bench's edge.
    pub fn site_of(&self, node: &str) -> Option<&Site> {
        self.sites.iter().find(|site| site.has(node))
    }

    /// The site of a region.
    pub fn site_in(&self, region: &Region) -> Outcome<&Site> {
        let site = self.sites.iter().find(|site| site.area.region == *region);
        site.ok_or_else(|| Failure::failed(format!("no site in {region}")))
    }

    /// The same as `site_of`, to be changed.
    pub fn site_mut(&mut self, node: &str) -> Option<&mut Site> {
        self.sites.iter_mut().find(|site| site.has(node))
    }

    /// The round trip along nodes of this field, jitter not counted.
    pub fn rtt(&self, nodes: &[NodeId]) -> Duration {
        let region = |node: &NodeId| self.site_of(node).map(|site| &site.area.region);
        nodes
            .windows(2)
            .filter_map(|pair| self.wanted.matrix.rtt(region(&pair[0])?, region(&pair[1])?))
            .sum()
    }

    /// The shortest time from one node's relay to another's over a third, jitter not counted.
    pub fn detour(&self, from: &NodeId, to: &NodeId) -> Option<Duration> {
        let (from, to) = (self.site_of(from)?, self.site_of(to)?);
        let others = self.sites.iter().map(|site| &site.area);
        let others = others.filter(|a| ![&from.area.region, &to.area.region].contains(&&a.region));
        let over = |area: &Area| {
            self.one_way(&[
                from.area.relay.id.clone(),
                area.relay.id.clone(),
                to.area.relay.id.clone(),
            ])
        };
        others.map(over).min()
    }

    /// The round trip between two regions, jitter not counted; the longest of all times where the
    /// matrix has none.
    pub fn between(&self, one: &Region, other: &Region) -> Duration {
        let rtt = self.wanted.matrix.rtt(one, other);
        rtt.unwrap_or(Duration::MAX / 4)
    }

    /// The time of a path in the order of its nodes, jitter not counted.
    pub fn one_way(&self, nodes: &[NodeId]) -> Duration {
        let region = |node: &NodeId| self.site_of(node).map(|site| &site.area.region);
        let Wanted { matrix, split, .. } = &self.wanted;
        nodes
            .windows(2)
            .filter_map(|pair| matrix.one_way(region(&pair[0])?, region(&pair[1])?, *split))
            .sum()
    }

    /// Does to a node what an operator may: `drain`, `undrain`.
    pub async fn operate(&self, node: &NodeId, verb: &str) -> Outcome {
        let body = json!({ "reason": "longspan bench", "owner": "bench" });
        let path = format!("/nodes/{node}/{verb}");
        self.ask(Method::POST, &path, Some(body)).await.map(drop)
    }

    /// A node's state as the controller tells it; empty while it does not answer.
    pub async fn state_of(&self, node: &NodeId) -> String {
        let path = format!("/nodes/{node}");
        let told = self.ask(Method::GET, &path, None).await;
        let state = told
            .ok()
            .and_then(|node| Some(node["state"].as_str()?.to_owned()));
        state.unwrap_or_default()
    }

    /// What a relay has to do, as the controller and the relay itself tell it.
    pub async fn left_on(&self, node: &NodeId) -> String {
        let told = self.ask(Method::GET, &format!("/nodes/{node}"), None).await;
        let told = told.unwrap_or_default();
        let site = self.site_of(node);
        let debug = match site {
            Some(site) => site.debug().await.unwrap_or_default(),
            None => Value::Null,
        };
        let tracks = debug["state"]["tracks"].as_array().into_iter().flatten();
        let tracks: Vec<String> = tracks
            .filter(|track| track["receivers"].as_u64() > Some(0))
            .map(|track| format!("{} {}", track["track"], track["chain"]))
            .collect();
        format!(
            "status {}, edges {}, groups {}, tracks {}",
            told["status"],
            told["edges"],
            told["groups"],
            tracks.join(", ")
        )
    }

    /// Waits until no edge's ways have changed for a while, or it has taken long enough: delays vary.
    pub async fn settled(&self) {
        let (began, mut since) = (Instant::now(), Instant::now());
        let mut before = None;
        while since.elapsed() < UNCHANGED && began.elapsed() < SETTLE {
            let ways = self.ways();
            if before.as_ref() != Some(&ways) {
                (before, since) = (Some(ways), Instant::now());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The best way from each bench's edge to each other.
    fn ways(&self) -> Vec<Option<Vec<NodeId>>> {
        let edges = self.sites.iter().filter_map(|site| site.node().ok());
        let edges: Vec<&Handle> = edges.collect();
        let all = edges
            .iter()
            .flat_map(|from| edges.iter().map(|to| from.ways(to.id())));
        all.map(|ways| ways.into_iter().next()).collect()
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Outcome<Value> {
        let (url, token) = (format!("{}{path}", self.api), self.token.clone());
        let work = {
            let url = url.clone();
            async move { http::request(method, &url, Some(&token), body.as_ref(), OPERATE).await }
        };
        let answer = self.sites[0].there(work).await??;
        let text = String::from_utf8_lossy(&answer.body);
        if !answer.status.is_success() {
            return Err(Failure::failed(format!("{url}: {}: {text}", answer.status)));
        }
        serde_json::from_str(&text).map_err(|why| Failure::failed(format!("{url}: {why}")))
    }

    /// What the lab itself did to packets: all zero in a sound run.
    pub fn faulty(&self) -> Outcome<Value> {
        let faulty = self.lab.faulty().map_err(Failure::failed)?;
        serde_json::to_value(faulty).map_err(Failure::failed)
    }
}
