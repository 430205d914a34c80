//! `longspan lab node …`.

use clap::Subcommand;
use longspan_proto::ids::NodeId;
use serde_json::json;

use super::done;
use crate::{
    cli::{Context, Watch, output},
    failure::{Failure, Outcome},
    http::escape,
    lab::programs::Program,
};

/// Nodes.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The processes of all nodes
    Ls(Watch),
    /// Kills a node's process (SIGKILL)
    Kill {
        /// Its name
        id: String,
    },
    /// Freezes a node's process (SIGSTOP): it does nothing, and its peers are not told
    Stop {
        /// Its name
        id: String,
    },
    /// Lets a frozen process go on (SIGCONT)
    Continue {
        /// Its name
        id: String,
    },
    /// Ends a node's process if it runs, and starts it again
    Restart {
        /// Its name
        id: String,
    },
    /// Starts a program in a lab, in the background, with its output in a file
    Start {
        /// Its name from now on
        id: NodeId,
        /// The host
        #[arg(long, value_name = "HOST")]
        on: String,
        /// The program and its arguments
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
}

pub async fn run(verb: Verb, context: &Context) -> Outcome {
    let control = context.control()?;
    let (id, act, did) = match verb {
        Verb::Ls(watch) => {
            let columns = [
                ("ID", "/id"),
                ("ROLE", "/role"),
                ("REGION", "/region"),
                ("STATE", "/state"),
                ("PID", "/pid"),
                ("HOW", "/how"),
                ("LOG", "/log"),
            ];
            let show = async || {
                let nodes = output::items(control.get("/nodes").await?);
                output::list(context.format, &nodes, &columns)
            };
            return watch.repeat(show).await;
        }
        Verb::Start { id, on, command } => {
            let folder = std::env::current_dir().map_err(Failure::failed)?;
            let said = format!("{id}: started\n");
            let program = Program {
                id,
                host: on,
                command,
                folder,
            };
            return done(
                context,
                &control.post("/nodes", &json!(program)).await?,
                &said,
            );
        }
        Verb::Kill { id } => (id, "kill", "killed"),
        Verb::Stop { id } => (id, "stop", "stopped"),
        Verb::Continue { id } => (id, "continue", "continued"),
        Verb::Restart { id } => (id, "restart", "restarted"),
    };
    let path = format!("/nodes/{}/{act}", escape(&id));
    let answer = control.post(&path, &json!({})).await?;
    done(context, &answer, &format!("{id}: {did}\n"))
}
