//! A backbone of one region on this machine, each node a process: a controller with a store of its
//! own, three relays, edges. No delays between them.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use hyper::Method;
use longspan_lab::matrix::Matrix;
use longspan_proto::ids::{NodeId, Region};
use serde_json::Value;
use tempfile::TempDir;

use super::super::usage::Usage;
use crate::{
    config::Role,
    failure::{Failure, Outcome},
    http,
    up::{
        child::State,
        data_dir::DataDir,
        files::{self, Setting},
        nodes::{Nodes, Spec},
        plan::{Area, Controller, Edge, Plan, Relay},
        ports::{Ports, Use},
    },
};

/// What a placement group is made of.
const RELAYS: usize = 3;
/// Where they stand; any region would do.
const REGION: &str = "cn-beijing";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// How long a relay may take to answer on its private listener.
const ANSWER: Duration = Duration::from_secs(2);

/// Processes that run; they end with this value.
pub struct World {
    nodes: Nodes,
    /// `HOST:PORT` of each edge, for members.
    pub edges: Vec<String>,
    /// Nobody else takes them as long as it runs.
    _ports: Ports,
    _dir: DataDir,
    _folder: TempDir,
}

impl World {
    /// Starts it; its nodes keep their data in a folder of their own `within` this one.
    pub async fn start(edges: usize, within: &Path) -> Outcome<World> {
        let folder = tempfile::tempdir_in(within).map_err(|error| {
            let dir = within.display();
            Failure::failed(format!("cannot make a folder in {dir}: {error}"))
        })?;
        let dir = DataDir::take(folder.path())?;
        let matrix = Matrix::bundled();
        let mut ports = Ports::auto()?;
        let plan = plan(edges, &matrix, &mut ports)?;
        files::write(
            &dir,
            &Setting {
                plan: &plan,
                matrix: &matrix,
                everywhere: None,
                etcd: None,
                open: true,
                sample: false,
                presence: true,
                users: LOOPBACK,
            },
        )?;
        let nodes = Nodes::new("longspan".to_owned());
        let wanted = |role: Role, count: usize| -> Vec<Spec> {
            let of_role = plan.nodes().into_iter().filter(|node| node.1 == role);
            let specs = of_role.take(count).map(|(id, role, region, admin)| Spec {
                folder: dir.node(&id),
                id,
                role,
                region,
                admin,
            });
            specs.collect()
        };
        nodes
            .start("controller", wanted(Role::Controller, 1))
            .await?;
        nodes.start("relays", wanted(Role::Relay, RELAYS)).await?;
        nodes.start("edges", wanted(Role::Edge, edges)).await?;
        let http = plan.regions.iter().take(edges);
        Ok(World {
            nodes,
            edges: http.map(|area| area.edge.http.to_string()).collect(),
            _ports: ports,
            _dir: dir,
            _folder: folder,
        })
    }

    /// The relay that leads the placement group of the only room, as it says itself: of several
    /// the one of the newest generation.
    pub async fn leader(&self) -> Option<String> {
        let mut found = None;
        for (spec, _, _) in self.nodes.list() {
            if spec.role != Role::Relay {
                continue;
            }
            let url = format!("http://{}/debug/state", spec.admin);
            let answer = http::request(Method::GET, &url, None, None, ANSWER).await;
            let Ok(answer) = answer else { continue };
            let state: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let leads = leads_under(&state["state"]);
            found = found.max(leads.map(|generation| (generation, spec.id.to_string())));
        }
        found.map(|(_, id)| id)
    }

    /// SIGKILL.
    pub async fn kill(&self, id: &str) -> Outcome {
        self.nodes.kill(id).await
    }

    /// Starts what was killed again, and waits until it is ready.
    pub async fn restart(&self, id: &str) -> Outcome {
        self.nodes.restart(id).await
    }

    /// What all nodes of a role have used together.
    pub fn usage(&self, role: Role) -> Outcome<Usage> {
        let mut sum = Usage {
            cpu_us: 0,
            rss_bytes: 0,
        };
        for (spec, _, state) in self.nodes.list() {
            if spec.role != role {
                continue;
            }
            let usage = match state {
                State::Running { pid } => Usage::of(pid),
                _ => None,
            };
            let usage = usage
                .ok_or_else(|| Failure::failed(format!("{} ended during the run", spec.id)))?;
            sum.cpu_us += usage.cpu_us;
            sum.rss_bytes += usage.rss_bytes;
        }
        Ok(sum)
    }

    /// Ends it in order.
    pub async fn end(self) -> Outcome {
        self.nodes.stop().await
    }
}

/// Under which generation (era, term) a relay leads a group that has a room, by its `/debug/state`.
pub fn leads_under(state: &Value) -> Option<(u64, u64)> {
    let parts = state["groups"].as_array().into_iter().flatten();
    let leads = parts.filter(|part| part["rooms"].as_u64() > Some(0));
    let leads = leads.filter(|part| part["leader"] == part["member"]);
    leads.map(|part| generation(&part["generation"])).max()
}

/// `ERA.TERM`.
pub fn generation(told: &Value) -> (u64, u64) {
    let parts = told.as_str().and_then(|told| told.split_once('.'));
    let number = |part: &str| part.parse().unwrap_or(0);
    parts.map_or((0, 0), |(era, term)| (number(era), number(term)))
}

/// As many areas as are needed for the relays and the edges; what is too much in either is not
/// started.
fn plan(edges: usize, matrix: &Matrix, ports: &mut Ports) -> Outcome<Plan> {
    let region = Region::new(REGION).map_err(Failure::failed)?;
    let id = |name: String| NodeId::new(&name).map_err(Failure::failed);
    let controller = Controller {
        id: id("controller-1".to_owned())?,
        grpc: ports.take(Use::Grpc, 0, LOOPBACK)?,
        http: ports.take(Use::Dashboard, 0, LOOPBACK)?,
        admin: ports.take(Use::ControllerAdmin, 0, LOOPBACK)?,
    };
    let control = ports.take(Use::Control, 0, LOOPBACK)?;
    let areas = (0..edges.max(RELAYS)).map(|index| {
        let mut take = |what| ports.take(what, index, LOOPBACK);
        Ok(Area {
            region: region.clone(),
            place: matrix.places()[&region].clone(),
            relay: Relay {
                id: id(format!("relay-{}", index + 1))?,
                quic: take(Use::RelayQuic)?,
                admin: take(Use::RelayAdmin)?,
            },
            edge: Edge {
                id: id(format!("edge-{}", index + 1))?,
                quic: take(Use::EdgeQuic)?,
                http: take(Use::EdgeHttp)?,
                rtmp: take(Use::EdgeRtmp)?,
                admin: take(Use::EdgeAdmin)?,
            },
        })
    });
    Ok(Plan {
        regions: areas.collect::<Outcome<_>>()?,
        controller,
        control,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_relay_leads_by_its_own_word() {
        let part = |rooms, leader, generation| json!({ "rooms": rooms, "member": 2, "leader": leader, "generation": generation });
        let state = json!({ "groups": [part(0, 2, "1.9"), part(1, 1, "1.8"), part(1, 2, "1.10")] });
        assert_eq!(leads_under(&state), Some((1, 10)));
        assert_eq!(leads_under(&json!({ "groups": [part(1, 3, "1.4")] })), None);
        assert_eq!(leads_under(&Value::Null), None);
        assert!(generation(&"1.10".into()) > generation(&"1.9".into()));
    }
}
