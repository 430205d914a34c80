//! `longspan link …`

use clap::Subcommand;

use super::{Context, Watch, output};
use crate::failure::{Failure, Outcome};

/// Links.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All links as they are measured, each direction by itself
    Ls(Watch),
    /// One direction of a link
    Show {
        /// The sending node
        from: String,
        /// The receiving node
        to: String,
        /// Over which net
        #[arg(long, default_value = "internet")]
        net: String,
    },
}

pub async fn run(verb: Verb, context: &Context) -> Outcome {
    let api = context.api()?;
    let links = async || Outcome::Ok(output::items(api.get("/links").await?));
    match verb {
        Verb::Ls(watch) => {
            let columns = [
                ("FROM", "/from"),
                ("TO", "/to"),
                ("NET", "/net"),
                ("UP", "/up"),
                ("RTT MS", "/rtt_ms"),
                ("DELAY MS", "/delay_ms"),
                ("JITTER MS", "/jitter_ms"),
                ("LOSS", "/loss"),
            ];
            watch
                .repeat(async || output::list(context.format, &links().await?, &columns))
                .await
        }
        Verb::Show { from, to, net } => {
            let links = links().await?;
            let found = links.iter().find(|link| {
                link["from"] == from.as_str()
                    && link["to"] == to.as_str()
                    && link["net"].as_str().unwrap_or("internet") == net
            });
            match found {
                Some(link) => output::object(context.format, link),
                None => Err(Failure::not_found(format!(
                    "no link from {from} to {to} over {net}; longspan link ls lists all"
                ))),
            }
        }
    }
}
