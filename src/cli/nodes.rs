//! `longspan node …`

use clap::Subcommand;

use super::{Context, output};
use crate::failure::{Failure, Outcome, hint};

/// Nodes.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All nodes
    Ls,
    /// One node
    Show {
        /// Its name
        id: String,
    },
}

pub async fn run(verb: Verb, context: &Context) -> Outcome {
    let nodes = output::items(context.api()?.get("/nodes").await?);
    match verb {
        Verb::Ls => output::list(
            context.format,
            &nodes,
            &[
                ("ID", "/id"),
                ("ROLE", "/role"),
                ("REGION", "/region"),
                ("CITY", "/city"),
                ("UP", "/up"),
                ("ATTACHED", "/attached"),
                ("HTTP", "/http"),
                ("RTMP", "/rtmp"),
                ("ADMIN", "/admin"),
            ],
        ),
        Verb::Show { id } => {
            let known = || nodes.iter().filter_map(|node| node["id"].as_str());
            match nodes.iter().find(|node| node["id"] == id.as_str()) {
                Some(node) => output::object(context.format, node),
                None => Err(Failure::not_found(format!(
                    "no node {id}{}; longspan node ls lists all",
                    hint(&id, known())
                ))),
            }
        }
    }
}
