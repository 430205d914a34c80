//! `longspan lab run`: a lab for as long as a command runs in it, or until it is stopped.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, exit},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use longspan_lab::{
    tun::{Lab, space},
    world::{Change, Player, World},
};
use serde_json::{Value, json};

use super::{
    control::{self, Act, Answer, Emulated},
    options::{Told, Which},
    programs::{Program, Programs},
};
use crate::{
    cli::{Context, Format, output},
    failure::{Failure, Outcome},
    up::data_dir::DataDir,
};

/// Where programs in the lab find its control socket.
pub const SOCKET: &str = "LONGSPAN_LAB_SOCKET";

/// The longest path of a Unix socket, in bytes (unix(7): 108 with the zero at its end).
const MAX_SOCKET: usize = 107;

/// Runs a command on hosts of an emulated network: every packet between hosts goes through the
/// model, whatever the programs are. Without a command the lab runs until Ctrl-C
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    which: Which,
    /// The host in which COMMAND runs; the first one if it is not told
    #[arg(long, value_name = "HOST")]
    on: Option<String>,
    /// Prints the world as JSON, for --world, and does nothing
    #[arg(long)]
    print_world: bool,
    /// Runs in the lab; the lab ends with it, and with its exit code
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The folder of a lab: below the data directory, so that `up` may run beside it.
pub fn folder(context: &Context) -> Outcome<PathBuf> {
    Ok(context.data_dir()?.join("lab"))
}

/// Where a lab's control socket is.
pub fn socket(folder: &Path) -> PathBuf {
    folder.join("lab.sock")
}

/// Outside, makes the space and calls this again in it; inside, runs the lab.
pub fn run(options: &Options, context: &Context) -> Outcome {
    let told = options.which.read()?;
    if options.print_world {
        return output::json(&serde_json::to_value(&told.world).map_err(Failure::failed)?);
    }
    let folder = folder(context)?;
    if space::is_inner() {
        return inside(options, context, told, &folder);
    }
    if let Some(host) = &options.on
        && !told.hosts.iter().any(|known| known.as_str() == host)
    {
        return Err(Failure::usage(format!(
            "--on {host}: the lab has no such host"
        )));
    }
    // Held out here, where process numbers mean something to others.
    let dir = DataDir::take(&folder)?;
    let path = socket(dir.path());
    if path.as_os_str().len() > MAX_SOCKET {
        return Err(Failure::usage(format!(
            "the path {} is {} bytes long; a Unix socket's is at most {MAX_SOCKET}; name a shorter --data-dir",
            path.display(),
            path.as_os_str().len()
        )));
    }
    let code = enter()?;
    // A process exits at once: what it holds is given back here.
    let _ = fs::remove_file(path);
    drop(dir);
    exit(code.into())
}

/// Calls this very command again in a space of its own, and waits for it. Only from a process
/// without other threads.
pub fn enter() -> Outcome<u8> {
    let program = env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot tell where this program is: {error}")))?;
    let mut init = Command::new(&program);
    init.args(["lab", "init", "--"])
        .args(env::args_os().skip(1));
    let status = space::enter(init).map_err(Failure::failed)?;
    Ok(space::code(status))
}

/// PID 1 of a space.
pub fn init(arguments: &[std::ffi::OsString]) -> Outcome {
    let mut inner = Command::new("/proc/self/exe");
    if let Ok(program) = env::current_exe() {
        inner = Command::new(program);
    }
    inner.args(arguments);
    let code = space::init(inner).map_err(Failure::failed)?;
    exit(code.into())
}

struct Inside {
    lab: Arc<Lab>,
    programs: Programs,
}

impl Emulated for Inside {
    fn nodes(&self) -> Vec<Value> {
        self.programs.list()
    }

    async fn act(&self, id: &str, act: Act) -> Outcome {
        self.programs.act(id, act).await
    }

    fn world(&self) -> World {
        World::clone(&self.lab.world())
    }

    fn change(&self, change: &Change) -> Outcome {
        let applied = self.lab.apply(change);
        applied.map_err(|error| control::refused(&self.lab.world(), &error))
    }

    fn carried(&self) -> Option<Value> {
        serde_json::to_value(self.lab.links()).ok()
    }
}

#[tokio::main]
async fn inside(options: &Options, context: &Context, told: Told, folder: &Path) -> Outcome {
    let mut signals = crate::role::Signals::new(false)?;
    let lab = Arc::new(Lab::start(told.world.clone()).map_err(Failure::failed)?);
    let logs = folder.join("logs");
    fs::create_dir_all(&logs)
        .map_err(|error| Failure::failed(format!("cannot make {}: {error}", logs.display())))?;
    let path = socket(folder);
    let inside = Arc::new(Inside {
        programs: Programs::new(lab.clone(), logs),
        lab: lab.clone(),
    });
    let own = Router::new()
        .route("/nodes", post(start))
        .route("/hosts", get(hosts))
        .with_state(inside.clone());
    control::serve_unix(&path, control::router(inside.clone()).merge(own))?;
    // Everything that is started from here on inherits it; no other thread reads the environment.
    let socket = (SOCKET, path.into_os_string());

    let first = &told.hosts[0];
    let on = options.on.as_deref().unwrap_or(first);
    let ready = json!({ "ready": true, "hosts": host_list(&lab) });
    tell(context, options, &lab, &ready)?;
    play(&told, &lab)?;
    let code = match &options.command[..] {
        [] => {
            while signals.next().await != crate::role::Signal::Stop {}
            0
        }
        [program, arguments @ ..] => {
            let host = lab.host(on).map_err(Failure::usage)?.clone();
            let mut command = Command::new(program);
            command.args(arguments).env(socket.0, socket.1);
            let mut child = host.start_with(command).map_err(Failure::failed)?;
            let ended = tokio::task::spawn_blocking(move || child.wait());
            tokio::select! {
                status = ended => {
                    let status = status.map_err(Failure::failed)?.map_err(Failure::failed)?;
                    space::code(status)
                }
                // A stop ends the lab, and with it the command: 128 + SIGTERM.
                () = stop(&mut signals) => 128 + 15,
            }
        }
    };
    // Said once at the end: whoever measured something has to know.
    let faulty = lab.faulty().map_err(Failure::failed)?;
    if faulty.overrun + faulty.overflowed > 0 {
        eprintln!(
            "longspan lab: the machine was too slow for this load: {} packets were not read in time, {} found too much under way",
            faulty.overrun, faulty.overflowed
        );
    }
    exit(code.into())
}

async fn stop(signals: &mut crate::role::Signals) {
    while signals.next().await != crate::role::Signal::Stop {}
}

fn tell(context: &Context, options: &Options, lab: &Lab, ready: &Value) -> Outcome {
    if options.command.is_empty() && context.format == Format::Json {
        return output::print(&format!("{ready}\n"));
    }
    let hosts: Vec<String> = lab
        .hosts()
        .map(|(host, address)| format!("{} {address}", host.name()))
        .collect();
    eprintln!("longspan lab: {}", hosts.join(", "));
    if options.command.is_empty() {
        let command = context.command()?;
        eprintln!("longspan lab: enter a host: {command} lab exec HOST -- COMMAND; stop: Ctrl-C");
    }
    Ok(())
}

fn host_list(lab: &Lab) -> Value {
    let world = lab.world();
    let hosts = lab.hosts().map(|(host, address)| {
        let placed = world.nodes.get(host.name());
        json!({
            "host": host.name(),
            "address": address,
            "region": placed.map(|placed| &placed.region),
            "zone": placed.and_then(|placed| placed.zone.as_ref()),
            "namespace": host.namespace(),
        })
    });
    hosts.collect()
}

/// Lays the schedule's changes over the lab from now on.
fn play(told: &Told, lab: &Arc<Lab>) -> Outcome {
    let clock = lab.clock();
    let mut player =
        Player::new(&told.schedule, &told.world, clock.time()).map_err(Failure::usage)?;
    let lab = lab.clone();
    let spawned = thread::Builder::new()
        .name("schedule".to_owned())
        .spawn(move || {
            while let Some(at) = player.poll_timeout() {
                let wait = clock.instant(at).saturating_duration_since(Instant::now());
                if wait > Duration::ZERO {
                    thread::sleep(wait);
                }
                while let Some(change) = player.handle_timeout(clock.time()) {
                    // Somebody else may have changed the world meanwhile.
                    if let Err(error) = lab.apply(&change) {
                        eprintln!("longspan lab: the schedule's step at {at:?}: {error}");
                    }
                }
            }
        });
    spawned.map(drop).map_err(Failure::failed)
}

async fn start(State(inside): State<Arc<Inside>>, Json(program): Json<Program>) -> Answer {
    let inside = inside.clone();
    let started = tokio::task::spawn_blocking(move || inside.programs.start(program));
    let started = started.await.map_err(Failure::failed)?;
    Ok(Json(started?))
}

async fn hosts(State(inside): State<Arc<Inside>>) -> Json<Value> {
    Json(host_list(&inside.lab))
}
