//! `longspan node …`

use clap::Subcommand;

use super::{Context, Watch, output};
use crate::failure::{Failure, Outcome, hint};

/// Nodes.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All nodes
    Ls(Watch),
    /// One node
    Show {
        /// Its name
        id: String,
    },
}

pub async fn run(verb: Verb, context: &Context) -> Outcome {
    let api = context.api()?;
    let nodes = async || Outcome::Ok(output::items(api.get("/nodes").await?));
    match verb {
        Verb::Ls(watch) => {
            let columns = [
                ("ID", "/id"),
                ("ROLE", "/role"),
                ("REGION", "/region"),
                ("CITY", "/city"),
                ("UP", "/up"),
                ("ATTACHED", "/attached"),
                ("HTTP", "/http"),
                ("RTMP", "/rtmp"),
                ("ADMIN", "/admin"),
            ];
            watch
                .repeat(async || output::list(context.format, &nodes().await?, &columns))
                .await
        }
        Verb::Show { id } => {
            let nodes = nodes().await?;
            match nodes.iter().find(|node| node["id"] == id.as_str()) {
                Some(node) => output::object(context.format, node),
                None => {
                    let known = nodes.iter().filter_map(|node| node["id"].as_str());
                    Err(Failure::not_found(format!(
                        "no node {id}{}; longspan node ls lists all",
                        hint(&id, known)
                    )))
                }
            }
        }
    }
}
