//! Everything the nodes read: certificates, configurations, the emulated world, secrets.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use longspan_lab::{
    matrix::{Matrix, Split},
    world::{Everywhere, Placed, World},
};
use longspan_proto::ids::NodeId;
use toml::{Table, Value};

use super::{
    data_dir::DataDir,
    pki::{Authority, Pair},
    plan::{Area, Plan},
};
use crate::{
    config::{
        Role,
        jwt_keys::{self, write_private},
    },
    failure::{Failure, Outcome},
};

/// The id of the JWT key that `up` makes when there is none.
pub const KEY_ID: &str = "up";

/// Room and stream of the sample lesson.
pub const SAMPLE: (&str, &str) = ("lesson", "teacher");

/// Draws of the emulated world come from it, so that two runs meet the same losses.
const SEED: u64 = 1;

/// What the files depend on.
pub struct Setting<'a> {
    /// Who and where.
    pub plan: &'a Plan,
    /// Delays.
    pub matrix: &'a Matrix,
    /// What is laid over them by the nodes themselves; None: the network between them does it, or
    /// there is nothing to emulate.
    pub everywhere: Option<&'a Everywhere>,
    /// A real etcd.
    pub etcd: Option<&'a str>,
    /// Rooms need no token.
    pub open: bool,
    /// Plays the sample lesson.
    pub sample: bool,
    /// Rooms are told who of their members is here.
    pub presence: bool,
    /// What users write to reach a listener on an unspecified address.
    pub users: IpAddr,
}

/// What was made on the way.
pub struct Written {
    /// The operator's token.
    pub token: String,
    /// Who signed the nodes' certificates.
    pub authority: Authority,
}

/// Writes all of it.
pub fn write(dir: &DataDir, setting: &Setting<'_>) -> Outcome<Written> {
    let plan = setting.plan;
    // Whatever an earlier run kept (tables, reset keys) is about a backbone that is gone.
    match fs::remove_dir_all(dir.file("nodes")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::failed(format!(
                "cannot clear {}: {error}",
                dir.file("nodes").display()
            )));
        }
        _ => {}
    }
    let token = jwt_keys::secret()?;
    write_private(&dir.file("admin-token"), token.as_bytes())?;
    let keys = dir.file("jwt-keys.toml");
    if jwt_keys::read(&keys)?.is_empty() {
        jwt_keys::create(&keys, KEY_ID)?;
    }
    if let Some(everywhere) = setting.everywhere {
        world(setting, everywhere)
            .write(&dir.file("world.json"))
            .map_err(Failure::failed)?;
    }
    let authority = Authority::new()?;
    write_file(&dir.file("ca.pem"), &authority.pem())?;
    let id = &plan.controller.id;
    write_config(dir, id, &controller(dir, setting))?;
    let pair = authority.issue_all(&[id, &plan.controller.grpc.ip().to_string()])?;
    write_pair(dir, id, &pair)?;
    for area in &plan.regions {
        for (id, role) in [(&area.relay.id, Role::Relay), (&area.edge.id, Role::Edge)] {
            let pair = authority.issue(id)?;
            write_config(dir, id, &node(dir, setting, area, role))?;
            write_pair(dir, id, &pair)?;
        }
    }
    Ok(Written { token, authority })
}

fn world(setting: &Setting<'_>, everywhere: &Everywhere) -> World {
    let plan = setting.plan;
    let placed = |area: &Area, addrs: Vec<SocketAddr>| Placed::new(area.region.clone(), addrs);
    let mut nodes = BTreeMap::new();
    for area in &plan.regions {
        nodes.insert(area.relay.id.clone(), placed(area, vec![area.relay.quic]));
        nodes.insert(area.edge.id.clone(), placed(area, vec![area.edge.quic]));
    }
    let controller = placed(&plan.regions[0], vec![plan.controller.grpc]);
    nodes.insert(plan.controller.id.clone(), controller);
    World::new(setting.matrix, Split::Half, everywhere, nodes, SEED)
}

fn controller(dir: &DataDir, setting: &Setting<'_>) -> Table {
    let controller = &setting.plan.controller;
    let mut store = match setting.etcd {
        Some(endpoint) => section([
            ("kind", "etcd".into()),
            ("endpoints", vec![endpoint.to_owned()].into()),
        ]),
        None => section([
            ("kind", "embedded".into()),
            ("path", text(dir.file("store.redb"))),
        ]),
    };
    store.insert("clear_leases".to_owned(), true.into());
    let mut table = document([
        (
            "controller",
            section([
                ("id", controller.id.to_string().into()),
                ("grpc_listen", controller.grpc.to_string().into()),
                ("http_listen", controller.http.to_string().into()),
            ]),
        ),
        ("store", store),
        (
            "admin",
            section([
                ("listen", controller.admin.to_string().into()),
                ("token_file", text(dir.file("admin-token"))),
            ]),
        ),
    ]);
    if is_secure(controller.grpc) {
        table.insert("tls".to_owned(), tls(dir, &controller.id).into());
    }
    table
}

/// Beyond this machine a controller speaks with certificates only.
fn is_secure(controller: SocketAddr) -> bool {
    !controller.ip().is_loopback()
}

/// Where nodes reach a controller.
pub fn controller_url(grpc: SocketAddr) -> String {
    let scheme = if is_secure(grpc) { "https" } else { "http" };
    format!("{scheme}://{grpc}")
}

fn tls(dir: &DataDir, id: &NodeId) -> Table {
    let files = dir.node(id);
    section([
        ("ca", text(dir.file("ca.pem"))),
        ("cert", text(files.join("cert.pem"))),
        ("key", text(files.join("key.pem"))),
    ])
}

fn write_pair(dir: &DataDir, id: &NodeId, pair: &Pair) -> Outcome {
    write_file(&dir.node(id).join("cert.pem"), &pair.cert)?;
    write_private(&dir.node(id).join("key.pem"), pair.key.as_bytes())
}

fn node(dir: &DataDir, setting: &Setting<'_>, area: &Area, role: Role) -> Table {
    let (id, quic, admin) = match role {
        Role::Edge => (&area.edge.id, area.edge.quic, area.edge.admin),
        _ => (&area.relay.id, area.relay.quic, area.relay.admin),
    };
    let files = dir.node(id);
    let place = &area.place;
    let mut table = document([
        (
            "node",
            section([
                ("id", id.to_string().into()),
                ("region", area.region.to_string().into()),
                ("country", place.country.clone().into()),
                ("city", place.city.clone().into()),
                ("lat", place.lat.into()),
                ("lon", place.lon.into()),
            ]),
        ),
        ("quic", section([("listen", quic.to_string().into())])),
        ("tls", tls(dir, id)),
        (
            "controller",
            section([(
                "urls",
                vec![controller_url(setting.plan.controller.grpc)].into(),
            )]),
        ),
        ("admin", section([("listen", admin.to_string().into())])),
        ("data", section([("dir", text(files.join("data")))])),
    ]);
    if setting.everywhere.is_some() {
        let lab = section([("world", text(dir.file("world.json")))]);
        table.insert("lab".to_owned(), lab.into());
    }
    if role == Role::Edge {
        let public = |scheme: &str, listen: SocketAddr| {
            let url = format!("{scheme}://{}", reachable(listen, setting.users));
            section([
                ("listen", listen.to_string().into()),
                ("public_url", url.into()),
            ])
        };
        let auth = section([
            ("open", setting.open.into()),
            ("jwt_keys", text(dir.file("jwt-keys.toml"))),
        ]);
        table.insert("http".to_owned(), public("http", area.edge.http).into());
        table.insert("rtmp".to_owned(), public("rtmp", area.edge.rtmp).into());
        table.insert("auth".to_owned(), auth.into());
        // All edges stop together: there is nowhere to go.
        let messages = section([
            ("goaway_seconds", 0.into()),
            ("presence", setting.presence.into()),
        ]);
        table.insert("messages".to_owned(), messages.into());
        if setting.sample && area.region == setting.plan.regions[0].region {
            let (room, stream) = SAMPLE;
            let sample = section([("room", room.into()), ("stream", stream.into())]);
            table.insert("sample".to_owned(), sample.into());
        }
    }
    table
}

/// What users write to reach a listener; `users` stands in for "all addresses".
pub fn reachable(listen: SocketAddr, users: IpAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        SocketAddr::new(users, listen.port())
    } else {
        listen
    }
}

fn section<const N: usize>(values: [(&str, Value); N]) -> Table {
    values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn document<const N: usize>(sections: [(&str, Table); N]) -> Table {
    sections
        .into_iter()
        .map(|(name, section)| (name.to_owned(), section.into()))
        .collect()
}

fn text(path: PathBuf) -> Value {
    path.to_string_lossy().into_owned().into()
}

fn write_config(dir: &DataDir, id: &NodeId, table: &Table) -> Outcome {
    let folder = dir.node(id);
    fs::create_dir_all(&folder)
        .map_err(|error| Failure::failed(format!("cannot make {}: {error}", folder.display())))?;
    let text = toml::to_string(table).map_err(Failure::failed)?;
    write_file(&folder.join("config.toml"), &text)
}

fn write_file(path: &Path, text: &str) -> Outcome {
    fs::write(path, text)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use longspan_lab::wan::Profile;

    use super::*;
    use crate::{
        config::{self, Document},
        up::{plan::LOOPBACK, ports::Ports},
    };

    #[test]
    fn what_is_written_is_what_the_roles_read() {
        let temp = tempfile::tempdir().expect("a folder");
        let dir = DataDir::take(temp.path()).expect("ours");
        let matrix = Matrix::bundled();
        let regions = ["hk", "sg"].map(|name| name.parse().expect("a region"));
        let mut ports = Ports::auto().expect("free ports");
        let plan = Plan::new(&regions, &matrix, LOOPBACK, &mut ports).expect("a plan");
        let setting = Setting {
            plan: &plan,
            matrix: &matrix,
            everywhere: Some(&Everywhere::Same(Profile::clean())),
            etcd: None,
            open: true,
            presence: true,
            sample: true,
            users: LOOPBACK,
        };
        let written = write(&dir, &setting).expect("written");
        assert_eq!(written.token.len(), 64);
        let load = |id: &str, role| {
            Document::load(&dir.node(id).join("config.toml"), Some(role), &[])
                .expect("it is checked")
        };
        let relay: config::Relay = load("hk-relay-1", Role::Relay).parse().expect("a relay");
        assert_eq!(relay.node.city, "Hong Kong");
        assert_eq!(relay.quic.listen, plan.regions[0].relay.quic);
        let edge: config::Edge = load("hk-edge-1", Role::Edge).parse().expect("an edge");
        assert!(edge.auth.open && edge.sample.is_some());
        let edge: config::Edge = load("sg-edge-1", Role::Edge).parse().expect("an edge");
        assert!(edge.sample.is_none());
        let _: config::Controller = load("controller-1", Role::Controller)
            .parse()
            .expect("a controller");
        let world = World::read(&dir.file("world.json")).expect("a world");
        assert_eq!(world.nodes.len(), 5);
        assert_eq!(world.ways.len(), 2);
        assert_eq!(
            world.at(plan.controller.grpc).expect("there").0.region,
            regions[0]
        );
        assert_eq!(
            jwt_keys::read(&dir.file("jwt-keys.toml"))
                .expect("keys")
                .len(),
            1
        );
    }
}
