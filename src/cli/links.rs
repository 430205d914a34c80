//! `longspan link …`

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    Context, Format, Watch, output,
    wishes::{Ttl, Why, done},
};
use crate::{
    failure::{Failure, Outcome, hint},
    http::escape,
};

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
        #[command(flatten)]
        watch: Watch,
    },
    /// No path takes a link any more, in this direction
    Cordon {
        #[command(flatten)]
        ends: Ends,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        ttl: Ttl,
    },
    /// Takes a cordon back
    Uncordon {
        #[command(flatten)]
        ends: Ends,
        #[command(flatten)]
        why: Why,
    },
    /// Makes a link cost more (or less) than is measured, in this direction
    Cost {
        #[command(flatten)]
        ends: Ends,
        #[command(flatten)]
        cost: Amount,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        ttl: Ttl,
    },
}

/// Which link.
#[derive(Debug, Args)]
pub struct Ends {
    /// The sending node
    from: String,
    /// The receiving node
    to: String,
    /// Over which net; all if it is not told
    #[arg(long)]
    net: Option<String>,
}

/// What it costs.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Amount {
    /// Added to what is measured, such as 20ms; at most 10s
    #[arg(long, value_name = "TIME", value_parser = output::duration)]
    add: Option<Duration>,
    /// Multiplies what is measured, 0.1 to 100
    #[arg(long, value_name = "NUMBER")]
    factor: Option<f64>,
    /// As it is measured
    #[arg(long)]
    clear: bool,
}

impl Ends {
    fn path(&self, verb: &str) -> String {
        format!("/links/{}/{}/{verb}", escape(&self.from), escape(&self.to))
    }

    fn put(&self, body: &mut Value) {
        if let Some(net) = &self.net {
            body["net"] = net.as_str().into();
        }
    }
}

pub async fn run(verb: Verb, context: &Context) -> Outcome {
    let api = context.api()?;
    let ask = async |ends: &Ends, verb: &str, mut body: Value| {
        ends.put(&mut body);
        api.post(&ends.path(verb), &body).await
    };
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
                ("MBIT/S", "/rate_mbps"),
                ("OF", "/capacity_mbps"),
                ("ASKED", "/asked"),
            ];
            let show = async || {
                let mut links = links().await?;
                if context.format == Format::Table {
                    links
                        .iter_mut()
                        .for_each(|link| link["asked"] = kinds(link));
                }
                output::list(context.format, &links, &columns)
            };
            watch.repeat(show).await
        }
        Verb::Show {
            from,
            to,
            net,
            watch,
        } => {
            let show = async || {
                let links = links().await?;
                let found = links.iter().find(|link| {
                    link["from"] == from.as_str()
                        && link["to"] == to.as_str()
                        && link["net"].as_str().unwrap_or("internet") == net
                });
                match found {
                    Some(link) => output::object(context.format, link),
                    None => Err(missing(&links, &from, &to, &net)),
                }
            };
            watch.repeat(show).await
        }
        Verb::Cordon { ends, why, ttl } => {
            let mut body = why.body();
            ttl.put(&mut body);
            let answer = ask(&ends, "cordon", body).await?;
            done(context.format, &answer, "cordoned")
        }
        Verb::Uncordon { ends, why } => {
            let answer = ask(&ends, "uncordon", why.body()).await?;
            done(context.format, &answer, "not cordoned")
        }
        Verb::Cost {
            ends,
            cost,
            why,
            ttl,
        } => {
            let mut body = why.body();
            if let Some(add) = cost.add {
                body["added_ms"] = (add.as_secs_f64() * 1_000.0).into();
            }
            if let Some(factor) = cost.factor {
                body["factor"] = factor.into();
            }
            if !cost.clear {
                ttl.put(&mut body);
            }
            let said = if cost.clear { "as measured" } else { "changed" };
            done(context.format, &ask(&ends, "cost", body).await?, said)
        }
    }
}

/// The kinds of what is asked of a link.
fn kinds(link: &Value) -> Value {
    let asked = link["overrides"].as_array().into_iter().flatten();
    asked.map(|asked| asked["kind"].clone()).collect()
}

/// There is no such link: which of its names is wrong?
fn missing(links: &[Value], from: &str, to: &str, net: &str) -> Failure {
    let known = |end: &'static str| links.iter().filter_map(move |link| link[end].as_str());
    let unknown = |name: &str, end: &'static str| match known(end).any(|known| known == name) {
        true => String::new(),
        false => hint(name, known(end)),
    };
    let near = format!("{}{}", unknown(from, "from"), unknown(to, "to"));
    Failure::not_found(format!(
        "no link from {from} to {to} over {net}{near}; longspan link ls lists all"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_missing_link_names_what_was_meant() {
        let links = [json!({"from": "hk-relay-1", "to": "sg-relay-1", "net": "internet"})];
        let told = missing(&links, "hk-relay-1", "sg-rely-1", "internet").to_string();
        assert!(told.contains("did you mean sg-relay-1?"), "{told}");
        let told = missing(&links, "hk-relay-1", "sg-relay-1", "leased").to_string();
        assert!(!told.contains("did you mean"), "{told}");
    }
}
