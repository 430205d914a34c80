//! `longspan room …`

use clap::Subcommand;

use super::{Context, output};
use crate::{failure::Outcome, http::escape};

/// Rooms.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All rooms
    Ls,
    /// One room: its streams, where they enter, the edges that serve it
    Show(Name),
    /// The ways of a room's streams, from where they enter to every edge that serves it
    Trace(Name),
}

/// Which room.
#[derive(Debug, clap::Args)]
pub struct Name {
    /// Its name
    room: String,
    /// Whose it is
    #[arg(long, default_value = "default")]
    tenant: String,
}

impl Name {
    fn path(&self, rest: &str) -> String {
        let (room, tenant) = (escape(&self.room), escape(&self.tenant));
        format!("/rooms/{room}{rest}?tenant={tenant}")
    }
}

pub async fn run(verb: Verb, context: &Context) -> Outcome {
    let api = context.api()?;
    match verb {
        Verb::Ls => output::list(
            context.format,
            &output::items(api.get("/rooms").await?),
            &[
                ("TENANT", "/tenant"),
                ("ROOM", "/room"),
                ("HOME", "/home"),
                ("STREAMS", "/streams"),
                ("EDGES", "/edges"),
            ],
        ),
        Verb::Show(name) => output::object(context.format, &api.get(&name.path("")).await?),
        Verb::Trace(name) => output::object(context.format, &api.get(&name.path("/trace")).await?),
    }
}
