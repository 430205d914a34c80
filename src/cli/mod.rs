//! The command line.

mod configs;
mod drain;
mod keys;
mod lab;
mod links;
mod moves;
mod nodes;
pub mod output;
mod policies;
mod rooms;
mod routes;
mod wishes;

use std::{env, io::IsTerminal, path::PathBuf, process::exit, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};
use clap_complete::Shell;
use tokio::runtime::Runtime;

use crate::{
    bench,
    config::Role,
    failure::{Failure, Outcome},
    http::Api,
    role, up,
};

/// A self-hosted real-time backbone for live classrooms
#[derive(Debug, Parser)]
#[command(
    name = "longspan",
    version,
    max_term_width = 100,
    disable_help_subcommand = false
)]
pub struct Cli {
    #[command(flatten)]
    context: Context,
    #[command(subcommand)]
    verb: Verb,
}

/// What all commands share.
#[derive(Debug, Clone, Args)]
pub struct Context {
    /// How answers are printed
    #[arg(
        short = 'o',
        long = "output",
        global = true,
        value_enum,
        default_value_t
    )]
    pub format: Format,
    /// The controller's HTTP API; without it the `up` of the data directory
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "LONGSPAN_CONTROLLER",
        help_heading = "Which backbone"
    )]
    controller: Option<String>,
    /// File with the operator's token for --controller; else LONGSPAN_ADMIN_TOKEN holds it
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Which backbone"
    )]
    token_file: Option<PathBuf>,
    /// The data directory of `up`; $XDG_STATE_HOME/longspan if it is not told
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "LONGSPAN_DATA_DIR",
        help_heading = "Which backbone"
    )]
    data_dir: Option<PathBuf>,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// For verbs whose answer changes.
#[derive(Debug, Clone, Copy, Args)]
pub struct Watch {
    /// Asks again every second, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

impl Watch {
    /// Does `show` once, or again and again.
    async fn repeat(self, show: impl AsyncFn() -> Outcome) -> Outcome {
        /// How often. One answer costs a controller well under a millisecond.
        const EVERY: Duration = Duration::from_secs(1);
        if !self.watch {
            return show().await;
        }
        let terminal = std::io::stdout().is_terminal();
        loop {
            if terminal {
                // Home, and clear what is below (ECMA-48 CUP, ED).
                output::print("\x1b[H\x1b[J")?;
            }
            show().await?;
            tokio::time::sleep(EVERY).await;
        }
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    Up(up::Options),
    /// Runs a controller
    Controller(role::Options),
    /// Runs a relay
    Relay(role::Options),
    /// Runs an edge
    Edge(role::Options),
    /// Nodes: relays, edges, controllers
    #[command(subcommand)]
    Node(nodes::Verb),
    /// Links between nodes, each direction by itself
    #[command(subcommand)]
    Link(links::Verb),
    /// Rooms and the streams in them
    #[command(subcommand)]
    Room(rooms::Verb),
    /// Route tables, and why they are as they are
    #[command(subcommand)]
    Route(routes::Verb),
    /// What operators ask for: cordons, drains, costs, pins
    #[command(subcommand)]
    Override(wishes::Override),
    /// Who changed what
    #[command(subcommand)]
    Audit(wishes::Audit),
    /// Keys of users' tokens
    #[command(subcommand)]
    Key(keys::Verb),
    /// The emulated world: faults in that of `up`, and labs for any program
    #[command(subcommand)]
    Lab(lab::Verb),
    /// What things cost here, measured on real processes
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Configuration files
    #[command(subcommand)]
    Config(configs::Verb),
    /// Prints a completion script
    Completion {
        /// For which shell
        shell: Shell,
    },
}

/// Reads the command line. Help and version are printed right here.
pub fn parse() -> Outcome<Cli> {
    Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.exit(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            exit(2)
        }
        _ => one_line(&error),
    })
}

/// clap says what and why over several lines; scripts and logs want one.
fn one_line(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .take_while(|line| !line.starts_with("Usage:"))
        .map(|line| line.trim_start_matches("error: "))
        .collect();
    Failure::usage(format!("{}; see longspan --help", lines.join(" ")))
}

/// Does what was asked.
pub fn run(cli: Cli) -> Outcome {
    let context = &cli.context;
    match cli.verb {
        Verb::Up(options) => up::run(&options, context),
        Verb::Controller(options) => role::run(Role::Controller, &options),
        Verb::Relay(options) => role::run(Role::Relay, &options),
        Verb::Edge(options) => role::run(Role::Edge, &options),
        Verb::Node(verb) => block(nodes::run(verb, context)),
        Verb::Link(verb) => block(links::run(verb, context)),
        Verb::Room(verb) => block(rooms::run(verb, context)),
        Verb::Route(verb) => block(routes::run(verb, context)),
        Verb::Override(verb) => block(wishes::overrides(verb, context)),
        Verb::Audit(verb) => block(wishes::audit(verb, context)),
        Verb::Key(verb) => keys::run(verb, context),
        Verb::Lab(verb) => lab::run(verb, context),
        Verb::Bench(verb) => bench::run(&verb, context),
        Verb::Config(verb) => configs::run(verb, context),
        Verb::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "longspan", &mut script);
            output::print(&String::from_utf8_lossy(&script))
        }
    }
}

fn block(work: impl Future<Output = Outcome>) -> Outcome {
    Runtime::new().map_err(Failure::failed)?.block_on(work)
}

impl Context {
    /// The data directory in force.
    pub fn data_dir(&self) -> Outcome<PathBuf> {
        self.data_dir.clone().map_or_else(up::data_dir::default, Ok)
    }

    /// How this program is called so that it finds what this call found: for hints.
    pub fn command(&self) -> Outcome<String> {
        let program = env::args().next().unwrap_or_else(|| "longspan".to_owned());
        let dir = self.data_dir()?;
        // What the caller's environment says, it will say to the next command too.
        let told = env::var_os("LONGSPAN_DATA_DIR").map(PathBuf::from) == Some(dir.clone());
        if told || up::data_dir::default().is_ok_and(|default| default == dir) {
            Ok(program)
        } else {
            Ok(format!("{program} --data-dir {}", dir.display()))
        }
    }

    /// The controller's operator API.
    fn api(&self) -> Outcome<Api> {
        if let Some(url) = &self.controller {
            let base = url.trim_end_matches('/').to_owned();
            if !base.contains("://") {
                return Err(Failure::usage(format!(
                    "--controller {url:?} is not a URL like http://127.0.0.1:7480"
                )));
            }
            return Ok(Api {
                base: format!("{base}/api/v1"),
                socket: None,
                token: self.token()?,
                hint: "is the controller running, and is this its HTTP address?",
            });
        }
        let running = up::data_dir::running(&self.data_dir()?)?;
        let token = self.token()?.unwrap_or(running.admin_token);
        Ok(Api {
            base: format!("{}/api/v1", running.dashboard.trim_end_matches('/')),
            socket: None,
            token: Some(token),
            hint: "`longspan lab node ls` says whether the controller runs",
        })
    }

    /// The control listener of the lab we are in; else of the `up` of the data directory; else of
    /// the lab there.
    fn control(&self) -> Outcome<Api> {
        if env::var_os(crate::lab::run::SOCKET).is_some() {
            return self.lab();
        }
        match up::data_dir::running(&self.data_dir()?) {
            Ok(running) => Ok(Api {
                base: running.control,
                socket: None,
                token: Some(running.admin_token),
                hint: "is longspan up still running?",
            }),
            Err(failure) => self.lab().map_err(|_| failure),
        }
    }

    /// The control socket of the lab we are in, or of the data directory's.
    pub fn lab(&self) -> Outcome<Api> {
        let folder = crate::lab::run::folder(self)?;
        let socket = match env::var_os(crate::lab::run::SOCKET) {
            Some(told) => PathBuf::from(told),
            None => crate::lab::run::socket(&folder),
        };
        if !socket.exists() {
            return Err(Failure::failed(format!(
                "no longspan lab runs in {}; start one (longspan lab run), or name its --data-dir",
                folder.display()
            )));
        }
        Ok(Api {
            // The host's name is not used.
            base: "http://lab".to_owned(),
            socket: Some(socket),
            token: None,
            hint: "is the lab still running?",
        })
    }

    fn token(&self) -> Outcome<Option<String>> {
        if let Some(file) = &self.token_file {
            return std::fs::read_to_string(file)
                .map(|text| Some(text.trim_end().to_owned()))
                .map_err(|error| {
                    Failure::usage(format!(
                        "cannot read --token-file {}: {error}",
                        file.display()
                    ))
                });
        }
        Ok(env::var("LONGSPAN_ADMIN_TOKEN").ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_is_one_line() {
        let error = Cli::try_parse_from(["longspan", "nod", "ls"]).expect_err("refused");
        let failure = one_line(&error);
        assert!(failure.to_string().contains("nod"), "{failure}");
        assert!(failure.to_string().contains("node"), "{failure}");
        assert_eq!(failure.to_string().lines().count(), 1);
    }
}
