//! The backbone in the lab: every program a process of its own, one host a region.

use std::{
    collections::BTreeMap,
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use hyper::Method;
use longspan_lab::{
    matrix::{Matrix, Split},
    tun::{self, Host, Lab, Process, Spec},
    world::{Change, Everywhere, World},
};
use longspan_proto::{
    ids::{NodeId, Region},
    wire::Role,
};
use longspan_relay::{
    node::{Config, Handle, Node},
    tls,
};
use rand::{Rng, seq::IteratorRandom};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::{
    failure::{Failure, Outcome},
    http,
    up::{
        data_dir::DataDir,
        files::{self, Setting},
        pki::Authority,
        plan::{Area, Controller, Edge, Plan, Relay},
    },
};

/// The host of etcd and the controller; it stands in the first region.
const CONTROL: &str = "control";
/// How long everything may take to be there. Fifteen regions on two cores take ten seconds.
const START: Duration = Duration::from_secs(60);
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
/// How long a node may take to answer on its private listener.
const ANSWER: Duration = Duration::from_secs(2);

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

/// One region.
pub struct Site {
    /// Who and where.
    pub area: Area,
    edges: Option<Edges>,
    host: Host,
    /// Its threads belong to the host: so do the sockets that are opened on it. Always there until
    /// it is dropped.
    runtime: Option<Runtime>,
    on: tokio::runtime::Handle,
    relay: Option<Process>,
}

/// What uses a relay.
struct Edges {
    /// The bench's own, in this process.
    node: Handle,
    /// None: it was killed.
    process: Option<Process>,
    _stop: tokio_util::sync::DropGuard,
}

impl Field {
    /// Starts all of it, and waits until all are connected.
    pub async fn start(wanted: Wanted) -> Outcome<Field> {
        let Wanted {
            matrix, regions, ..
        } = &wanted;
        let specs: Vec<Spec> = regions
            .iter()
            .map(|region| (region.to_string(), region))
            .chain([(CONTROL.to_owned(), &regions[0])])
            .map(|(name, region)| {
                Ok(Spec {
                    name: NodeId::new(&name).map_err(Failure::failed)?,
                    region: region.clone(),
                    zone: None,
                    lines: Vec::new(),
                })
            })
            .collect::<Outcome<_>>()?;
        let placed = tun::place(&specs).map_err(Failure::failed)?;
        let world = World::new(
            matrix,
            wanted.split,
            &wanted.everywhere,
            placed,
            wanted.seed,
        );
        let lab = Lab::start(world).map_err(Failure::failed)?;
        let folder = tempfile::tempdir().map_err(Failure::failed)?;
        let dir = DataDir::take(folder.path())?;
        let plan = plan(matrix, regions, &lab)?;
        let control = lab.host(CONTROL).map_err(Failure::failed)?.clone();
        let control_ip = lab.address(CONTROL).map_err(Failure::failed)?;
        let etcd = which("etcd").then(|| format!("http://{control_ip}:2379"));
        let written = files::write(
            &dir,
            &Setting {
                plan: &plan,
                matrix,
                everywhere: None,
                etcd: etcd.as_deref(),
                open: true,
                sample: false,
                // A history is of what members say; this is what edges say.
                presence: false,
                users: IpAddr::V4(control_ip),
            },
        )?;
        let mut field = Field {
            sites: Vec::new(),
            control: Vec::new(),
            etcd: etcd.clone(),
            store: if etcd.is_some() { "etcd" } else { "embedded" },
            api: format!("http://{}/api/v1", plan.controller.http),
            token: written.token.clone(),
            wanted,
            lab,
            dir,
            _folder: folder,
        };
        if let Some(url) = &etcd {
            field.control.push(field.etcd(&control, url)?);
        }
        let id = &plan.controller.id;
        field
            .control
            .push(field.program(&control, id, "controller", &[])?);
        for area in &plan.regions {
            let site = field.site(area, &plan, &written.authority).await?;
            field.sites.push(site);
        }
        field.healed(START).await?;
        field.attached(START).await?;
        Ok(field)
    }

    fn etcd(&self, host: &Host, url: &str) -> Outcome<Process> {
        let mut command = Command::new("etcd");
        command
            .arg("--data-dir")
            .arg(self.dir.file("etcd"))
            .args(["--listen-client-urls", url, "--advertise-client-urls", url])
            .args(["--listen-peer-urls", "http://127.0.0.1:2380"])
            .args(["--log-level", "error"]);
        host.spawn(command, &self.dir.file("etcd.log"))
            .map_err(Failure::failed)
    }

    fn relay(&self, host: &Host, area: &Area) -> Outcome<Process> {
        let ahead = self.wanted.clocks.get(&area.region);
        let set = ahead.map(|ahead| format!("--set=lab.clock_ahead_s={}", ahead.as_secs_f64()));
        self.program(host, &area.relay.id, "relay", set.as_slice())
    }

    fn program(
        &self,
        host: &Host,
        id: &NodeId,
        role: &str,
        arguments: &[String],
    ) -> Outcome<Process> {
        let mut command = Command::new(std::env::current_exe().map_err(Failure::failed)?);
        let folder = self.dir.node(id);
        command
            .arg(role)
            .arg("--config")
            .arg(folder.join("config.toml"))
            .args(arguments);
        host.spawn(command, &folder.join("log.txt"))
            .map_err(Failure::failed)
    }

    async fn site(&self, area: &Area, plan: &Plan, authority: &Authority) -> Outcome<Site> {
        let host = self
            .lab
            .host(&area.region)
            .map_err(Failure::failed)?
            .clone();
        let runtime = host
            .enter(|| {
                tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
            })
            .map_err(Failure::failed)?
            .map_err(Failure::failed)?;
        let relay = self.relay(&host, area)?;
        let edges = if self.wanted.edges {
            Some(self.edges(area, plan, authority, &host, &runtime).await?)
        } else {
            None
        };
        Ok(Site {
            area: area.clone(),
            edges,
            host,
            on: runtime.handle().clone(),
            runtime: Some(runtime),
            relay: Some(relay),
        })
    }

    async fn edges(
        &self,
        area: &Area,
        plan: &Plan,
        authority: &Authority,
        host: &Host,
        runtime: &Runtime,
    ) -> Outcome<Edges> {
        let process = self.program(host, &area.edge.id, "edge", &[])?;
        let name = bench_edge(&area.region);
        let pair = authority.issue(&name)?;
        let mut config = Config::new(
            NodeId::new(&name).map_err(Failure::failed)?,
            Role::Edge,
            area.region.clone(),
            SocketAddr::new(area.relay.quic.ip(), 0),
            tls::Identity::Pem {
                ca: authority.pem(),
                cert: pair.cert,
                key: pair.key,
            },
        );
        config.country.clone_from(&area.place.country);
        (config.lat, config.lon) = (area.place.lat, area.place.lon);
        config.controllers = vec![files::controller_url(plan.controller.grpc)];
        config.controller_tls = Some(config.tls.clone());
        let bound = runtime.spawn(Node::bind(config)).await;
        let node = bound.map_err(Failure::failed)?.map_err(Failure::failed)?;
        let handle = node.handle();
        let stop = CancellationToken::new();
        runtime.spawn(node.run(stop.clone()));
        Ok(Edges {
            node: handle,
            process: Some(process),
            _stop: stop.drop_guard(),
        })
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

    /// Starts a relay that was killed again.
    pub fn start_relay(&mut self, node: &str) -> Outcome {
        let Some(at) = self.sites.iter().position(|site| site.has(node)) else {
            return Err(Failure::failed(format!("no relay {node}")));
        };
        let process = self.relay(&self.sites[at].host, &self.sites[at].area)?;
        self.sites[at].relay = Some(process);
        Ok(())
    }

    /// Starts an edge that was killed again.
    pub fn start_edge(&mut self, node: &str) -> Outcome {
        let is_it = |site: &Site| site.area.edge.id.as_str() == node;
        let Some(at) = self.sites.iter().position(is_it) else {
            return Err(Failure::failed(format!("no edge {node}")));
        };
        let site = &self.sites[at];
        let process = self.program(&site.host, &site.area.edge.id, "edge", &[])?;
        if let Some(edges) = &mut self.sites[at].edges {
            edges.process = Some(process);
        }
        Ok(())
    }

    /// What the lab itself did to packets: all zero in a sound run.
    pub fn faulty(&self) -> Outcome<Value> {
        let faulty = self.lab.faulty().map_err(Failure::failed)?;
        serde_json::to_value(faulty).map_err(Failure::failed)
    }
}

impl Site {
    fn has(&self, node: &str) -> bool {
        node == self.area.relay.id.as_str()
            || node == self.area.edge.id.as_str()
            || node == bench_edge(&self.area.region)
    }

    /// The bench's own edge there.
    pub fn node(&self) -> Outcome<&Handle> {
        let edges = self.edges.as_ref();
        edges
            .map(|edges| &edges.node)
            .ok_or_else(|| Failure::failed(format!("{} has no edge", self.area.region)))
    }

    /// Does something with the host's network.
    pub async fn there<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Outcome<T> {
        self.on.spawn(work).await.map_err(Failure::failed)
    }

    /// Starts a program on the host, its output in `log`.
    pub fn spawn(&self, command: Command, log: &Path) -> Outcome<Process> {
        self.host.spawn(command, log).map_err(Failure::failed)
    }

    /// The relay's process, unless it was killed.
    pub fn relay(&self) -> Outcome<&Process> {
        let id = &self.area.relay.id;
        self.relay
            .as_ref()
            .ok_or_else(|| Failure::failed(format!("{id} does not run")))
    }

    /// SIGKILL.
    pub fn kill_relay(&mut self) {
        self.relay = None;
    }

    /// The edge's process, unless it was killed.
    pub fn edge(&self) -> Outcome<&Process> {
        let process = self.edges.as_ref().and_then(|edges| edges.process.as_ref());
        let id = &self.area.edge.id;
        process.ok_or_else(|| Failure::failed(format!("{id} does not run")))
    }

    /// SIGKILL.
    pub fn kill_edge(&mut self) {
        if let Some(edges) = &mut self.edges {
            edges.process = None;
        }
    }

    /// Starts something on the host's network; it ends with the site.
    pub fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.on.spawn(work)
    }

    /// What the relay tells of itself; None while it does not answer.
    pub async fn debug(&self) -> Option<Value> {
        let body = self.ask("/debug/state").await?;
        serde_json::from_str(&body).ok()
    }

    /// The sum and the count of one of the relay's histograms, over all labels.
    pub async fn histogram(&self, name: &str) -> Option<(f64, f64)> {
        let text = self.ask("/metrics").await?;
        let sum = |suffix: &str| -> f64 {
            let name = format!("{name}{suffix}");
            text.lines()
                .filter(|line| line.split([' ', '{']).next() == Some(&name))
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum()
        };
        Some((sum("_sum"), sum("_count")))
    }

    async fn ask(&self, path: &str) -> Option<String> {
        let url = format!("http://{}{path}", self.area.relay.admin);
        let answer = self
            .there(async move { http::request(Method::GET, &url, None, None, ANSWER).await })
            .await;
        let answer = answer.ok()?.ok()?;
        String::from_utf8(answer.body.to_vec()).ok()
    }
}

impl Drop for Site {
    /// A runtime may not be waited for by a task of another.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The bench's own edge in a region.
pub fn bench_edge(region: &Region) -> String {
    format!("{region}-bench")
}

/// Default ports on every host's own address.
fn plan(matrix: &Matrix, regions: &[Region], lab: &Lab) -> Outcome<Plan> {
    let id = |name: String| NodeId::new(&name).map_err(Failure::failed);
    let ip = |host: &str| lab.address(host).map_err(Failure::failed);
    let at = |ip: Ipv4Addr, port: u16| SocketAddr::from((ip, port));
    let control = ip(CONTROL)?;
    let areas = regions.iter().map(|region| {
        let ip = ip(region)?;
        Ok(Area {
            region: region.clone(),
            place: matrix.places()[region].clone(),
            relay: Relay {
                id: id(format!("{region}-relay-1"))?,
                quic: at(ip, 7443),
                admin: at(ip, 9101),
            },
            edge: Edge {
                id: id(format!("{region}-edge-1"))?,
                quic: at(ip, 7444),
                http: at(ip, 8080),
                rtmp: at(ip, 1935),
                admin: at(ip, 9201),
            },
        })
    });
    Ok(Plan {
        controller: Controller {
            id: id("controller-1".to_owned())?,
            grpc: at(control, 7440),
            http: at(control, 7480),
            admin: at(control, 9090),
        },
        regions: areas.collect::<Outcome<_>>()?,
        control: at(control, 7481),
    })
}

fn which(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}
