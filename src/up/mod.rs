//! `longspan up`: a whole backbone on this machine, for as long as this process lives.

pub mod child;
pub mod data_dir;
pub mod files;
pub mod nodes;
pub mod pki;
pub mod plan;
pub mod ports;
mod tell;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
};

use longspan_lab::{
    matrix::Matrix,
    wan::Profile,
    world::{Change, Everywhere, World},
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use self::{
    data_dir::{DataDir, Running},
    files::Setting,
    nodes::{Nodes, Spec},
    plan::{LOOPBACK, Plan, REGIONS},
    ports::{Base, Ports},
};
use crate::{
    cli::{Context, Format},
    config::Role,
    failure::{Failure, Outcome},
    lab::control::{self, Act, Emulated, WorldFile},
};

/// A whole backbone on this machine: a controller, a relay and an edge for each region, the
/// emulated network between them, a sample lesson
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The regions; the first one is where the controller and the sample lesson are
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', default_values = REGIONS)]
    regions: Vec<String>,
    /// Round-trip times, in the format of lab/data/rtt_internet_ms.csv
    #[arg(long, value_name = "FILE.csv")]
    wan: Option<PathBuf>,
    /// clean, internet, china-inbound, brownout, or a TOML file with a profile
    #[arg(long, value_name = "NAME|FILE", default_value = "clean")]
    profile: String,
    /// Uses this etcd instead of the embedded store
    #[arg(long, value_name = "URL")]
    etcd: Option<String>,
    /// Plays no sample lesson
    #[arg(long)]
    no_sample: bool,
    /// First of a range of ports, or auto for free ones; without it the well-known ones where they are free
    #[arg(long, value_name = "N|auto")]
    port_base: Option<Base>,
    /// Serves users (HTTP, RTMP, dashboard) on this address
    #[arg(long, value_name = "ADDR", default_value_t = LOOPBACK)]
    listen: IpAddr,
    /// Lets anybody who reaches --listen enter rooms without a token
    #[arg(long)]
    insecure_open: bool,
}

/// Runs it until it is told to stop.
pub fn run(options: &Options, context: &Context) -> Outcome {
    Runtime::new()
        .map_err(Failure::failed)?
        .block_on(serve(options, context))
}

async fn serve(options: &Options, context: &Context) -> Outcome {
    // First of all: a signal during the start is a stop, too.
    let mut signals = crate::role::Signals::new(false)?;
    let matrix = matrix("--wan", options.wan.as_deref())?;
    let everywhere = everywhere(&options.profile)?;
    let regions = plan::regions(&options.regions, &matrix)?;
    if let Some(url) = options
        .etcd
        .as_deref()
        .filter(|url| !url.starts_with("http"))
    {
        return Err(Failure::usage(format!(
            "--etcd {url:?} is not a URL like http://127.0.0.1:2379"
        )));
    }
    let dir = DataDir::take(&context.data_dir()?)?;
    let mut ports = Ports::new(options.port_base)?;
    let plan = Plan::new(&regions, &matrix, options.listen, &mut ports)?;
    let open = options.listen.is_loopback() || options.insecure_open;
    let users = users_address(options.listen);
    let setting = Setting {
        plan: &plan,
        matrix: &matrix,
        everywhere: Some(&everywhere),
        etcd: options.etcd.as_deref(),
        open,
        sample: !options.no_sample,
        presence: true,
        users,
    };
    let admin_token = files::write(&dir, &setting)?.token;
    let running = Running {
        pid: std::process::id(),
        dashboard: format!("http://{}/", files::reachable(plan.controller.http, users)),
        admin_token,
        control: format!("http://{}", plan.control),
        jwt_keys: dir.file("jwt-keys.toml"),
    };
    let command = context.command()?;
    let nodes = Nodes::new(command.clone());
    let stop_control = CancellationToken::new();
    let started = tokio::select! {
        started = start(&dir, &plan, &nodes, &running, &stop_control) => Some(started),
        _ = stop_signal(&mut signals) => None,
    };
    let outcome = match started {
        Some(Ok(())) => {
            let ready = tell::Ready::new(&plan, &running, users, !options.no_sample);
            let entry = tell::Entry {
                open,
                listen: options.listen,
                everywhere: &options.profile,
                data: dir.path(),
                command: &command,
            };
            match context.format {
                Format::Json => ready.print_json()?,
                Format::Table => ready.print_text(&entry)?,
            }
            stop_signal(&mut signals).await;
            Ok(())
        }
        Some(Err(failure)) => Err(failure),
        None => Ok(()),
    };
    eprintln!("longspan up: stopping");
    stop_control.cancel();
    let stopped = tokio::select! {
        stopped = nodes.stop() => stopped,
        // A second Ctrl-C: their pipes end with us, and they with their pipes.
        () = stop_signal(&mut signals) => Ok(()),
    };
    outcome.and(stopped)
}

async fn start(
    dir: &DataDir,
    plan: &Plan,
    nodes: &Nodes,
    running: &Running,
    stop: &CancellationToken,
) -> Outcome {
    let specs = |role: Role| -> Vec<Spec> {
        let of_role = plan.nodes().into_iter().filter(|node| node.1 == role);
        let specs = of_role.map(|(id, role, region, admin)| Spec {
            folder: dir.node(&id),
            id,
            role,
            region,
            admin,
        });
        specs.collect()
    };
    nodes.start("controller", specs(Role::Controller)).await?;
    nodes.start("relays", specs(Role::Relay)).await?;
    nodes.start("edges", specs(Role::Edge)).await?;
    let world = dir.file("world.json");
    let token = running.admin_token.clone();
    let emulated = Arc::new(Emulation {
        nodes: nodes.clone(),
        world: WorldFile::open(&world)?,
    });
    control::serve(plan.control, token, emulated, stop.clone()).await?;
    dir.announce(running)
}

/// What `longspan lab` does to a running backbone.
struct Emulation {
    nodes: Nodes,
    world: WorldFile,
}

impl Emulated for Emulation {
    fn nodes(&self) -> Vec<serde_json::Value> {
        let nodes = self.nodes.list().into_iter().map(|(spec, log, state)| {
            let mut node = serde_json::to_value(&state).unwrap_or_default();
            node["id"] = spec.id.to_string().into();
            node["role"] = spec.role.to_string().into();
            node["region"] = spec.region.to_string().into();
            node["log"] = log.to_string_lossy().into();
            node
        });
        nodes.collect()
    }

    async fn act(&self, id: &str, act: Act) -> Outcome {
        match act {
            Act::Kill => self.nodes.kill(id).await,
            Act::Freeze => self.nodes.freeze(id, true).await,
            Act::Thaw => self.nodes.freeze(id, false).await,
            Act::Restart => self.nodes.restart(id).await,
        }
    }

    fn world(&self) -> World {
        self.world.world()
    }

    fn change(&self, change: &Change) -> Outcome {
        self.world.change(change)
    }
}

async fn stop_signal(signals: &mut crate::role::Signals) {
    while signals.next().await != crate::role::Signal::Stop {}
}

/// The matrix in a file, or the bundled one; `option` named the file.
pub fn matrix(option: &str, file: Option<&Path>) -> Outcome<Matrix> {
    let Some(file) = file else {
        return Ok(Matrix::bundled());
    };
    let text = fs::read_to_string(file).map_err(|error| {
        Failure::usage(format!("cannot read {option} {}: {error}", file.display()))
    })?;
    Matrix::with_rtt(&text)
        .map_err(|error| Failure::usage(format!("{option} {}: {error}", file.display())))
}

/// A profile by name, or from a file where the value looks like one.
pub fn everywhere(text: &str) -> Outcome<Everywhere> {
    if let Some(profile) = profile_file(text)? {
        return Ok(Everywhere::Same(profile));
    }
    Everywhere::named(text).map_err(|error| {
        let hint = crate::failure::hint(text, Profile::NAMES);
        Failure::usage(format!(
            "--profile: {error}{hint}, or a file ending in .toml"
        ))
    })
}

/// Reads a profile where `text` names a TOML file.
pub fn profile_file(text: &str) -> Outcome<Option<Profile>> {
    if !text.ends_with(".toml") && !text.contains('/') {
        return Ok(None);
    }
    let failed = |why: &dyn std::fmt::Display| Failure::usage(format!("--profile {text}: {why}"));
    let content = fs::read_to_string(text).map_err(|error| failed(&error))?;
    let profile: Profile = toml::from_str(&content).map_err(|error| failed(&error.message()))?;
    profile.check().map_err(|error| failed(&error))?;
    Ok(Some(profile))
}

/// What users write where we listen on all addresses: the one this machine has towards others
/// (asking the system for it sends nothing).
fn users_address(listen: IpAddr) -> IpAddr {
    if !listen.is_unspecified() {
        return listen;
    }
    let towards = || -> std::io::Result<IpAddr> {
        // TEST-NET-1 (RFC 5737): nobody's address, so the default route's.
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 9));
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(elsewhere)?;
        Ok(socket.local_addr()?.ip())
    };
    towards().unwrap_or(LOOPBACK)
}
