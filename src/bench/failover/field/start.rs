//! Starting it: the controller and its store, relays, edges; again what was killed.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use longspan_lab::{
    matrix::{Matrix, Split},
    tun::{self, Host, Lab, Process, Spec},
    world::{Everywhere, World},
};
use longspan_proto::{
    ids::{NodeId, Region},
    wire::Role,
};
use longspan_relay::{
    node::{Config, Node},
    tls,
};
use rand::Rng;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{
    CONTROL, Field, Wanted, draw,
    site::{Edges, Site, bench_edge},
};
use crate::{
    failure::{Failure, Outcome},
    up::{
        data_dir::DataDir,
        files::{self, Setting},
        pki::Authority,
        plan::{Area, Controller, Edge, Plan, Relay},
    },
};

/// How long everything may take to be there. Fifteen regions on two cores take ten seconds.
const START: Duration = Duration::from_secs(60);

impl Field {
    /// One of so many regions of the bundled matrix, with edges, all links of one profile.
    pub async fn drawn(count: u32, profile: &str, seed: u64, rng: &mut impl Rng) -> Outcome<Field> {
        let everywhere = Everywhere::named(profile).map_err(Failure::usage)?;
        let matrix = Matrix::bundled();
        let regions = draw(&matrix, count, rng);
        Field::start(Wanted {
            matrix,
            split: Split::Half,
            everywhere,
            regions,
            edges: true,
            clocks: BTreeMap::new(),
            seed,
        })
        .await
    }

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

    pub(super) fn etcd(&self, host: &Host, url: &str) -> Outcome<Process> {
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
