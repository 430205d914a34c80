//! `longspan node …`

use clap::Subcommand;

use serde_json::Value;

use super::{
    Context, Watch, drain, output,
    wishes::{Ttl, Why, done},
};
use crate::{failure::Outcome, http::escape};

/// Nodes.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All nodes
    Ls(Watch),
    /// One node
    Show {
        /// Its name
        id: String,
        #[command(flatten)]
        watch: Watch,
    },
    /// No path crosses a relay any more, or nobody is sent to an edge any more
    Cordon {
        /// The relay or edge
        id: String,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        ttl: Ttl,
    },
    /// Takes a cordon back
    Uncordon {
        /// The relay or edge
        id: String,
        #[command(flatten)]
        why: Why,
    },
    Drain(drain::Drain),
    /// Takes a drain back
    Undrain {
        /// The relay or edge
        id: String,
        #[command(flatten)]
        why: Why,
    },
}

pub async fn run(verb: Verb, context: &Context) -> Outcome {
    let api = context.api()?;
    let ask = async |id: &str, verb: &str, body: Value| {
        let path = format!("/nodes/{}/{verb}", escape(id));
        api.post(&path, &body).await
    };
    let nodes = async || Outcome::Ok(output::items(api.get("/nodes").await?));
    match verb {
        Verb::Ls(watch) => {
            let columns = [
                ("ID", "/id"),
                ("ROLE", "/role"),
                ("REGION", "/region"),
                ("CITY", "/city"),
                ("STATE", "/state"),
                ("ATTACHED", "/attached"),
                ("HTTP", "/http"),
                ("RTMP", "/rtmp"),
                ("ADMIN", "/admin"),
            ];
            watch
                .repeat(async || output::list(context.format, &nodes().await?, &columns))
                .await
        }
        Verb::Show { id, watch } => {
            let path = format!("/nodes/{}", escape(&id));
            watch
                .repeat(async || output::object(context.format, &api.get(&path).await?))
                .await
        }
        Verb::Cordon { id, why, ttl } => {
            let mut body = why.body();
            ttl.put(&mut body);
            done(context.format, &ask(&id, "cordon", body).await?, "cordoned")
        }
        Verb::Uncordon { id, why } => {
            let answer = ask(&id, "uncordon", why.body()).await?;
            done(context.format, &answer, "not cordoned")
        }
        Verb::Drain(drain) => drain::run(drain, context).await,
        Verb::Undrain { id, why } => {
            let answer = ask(&id, "undrain", why.body()).await?;
            done(context.format, &answer, "not draining")
        }
    }
}
