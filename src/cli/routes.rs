//! `longspan route …`

use clap::Subcommand;

use super::{Context, output};
use crate::{failure::Outcome, http::escape};

/// Routes.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// One node's route table
    Table {
        /// Whose
        node: String,
    },
    /// Why a room's streams take the way they take
    Explain {
        /// The room
        room: String,
        /// Seen from this edge
        #[arg(long, value_name = "EDGE")]
        from: String,
        /// Whose room it is
        #[arg(long, default_value = "default")]
        tenant: String,
    },
}

pub async fn run(verb: Verb, context: &Context) -> Outcome {
    let path = match verb {
        Verb::Table { node } => format!("/routes/table?node={}", escape(&node)),
        Verb::Explain { room, from, tenant } => format!(
            "/routes/explain?room={}&from={}&tenant={}",
            escape(&room),
            escape(&from),
            escape(&tenant)
        ),
    };
    output::object(context.format, &context.api()?.get(&path).await?)
}
