//! `longspan lab link …`.

use std::time::Duration;

use clap::{Args, Subcommand};
use longspan_lab::{
    wan::{Loss, Profile},
    world::{Change, Effect},
};
use longspan_proto::ids::Net;
use serde_json::{Value, json};

use super::done;
use crate::{
    cli::{Context, Format, Watch, output},
    failure::{Failure, Outcome, hint},
    up,
};

/// Links.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All directions and the faults that lie over them
    Ls(Watch),
    /// Nothing arrives
    Cut(Ends),
    /// Takes a fault away
    Restore(Ends),
    /// Changes delay, loss or rate
    Degrade(Degrade),
}

/// Between whom.
#[derive(Debug, Args)]
pub struct Ends {
    /// A region, a zone (REGION/ZONE) or a node
    from: String,
    /// A region, a zone (REGION/ZONE) or a node
    to: String,
    /// Only from FROM to TO
    #[arg(long)]
    one_way: bool,
    /// Only over this net; without it over every one
    #[arg(long)]
    net: Option<Net>,
}

/// How it gets worse. Told again, it replaces what was told before.
#[derive(Debug, Args)]
pub struct Degrade {
    #[command(flatten)]
    ends: Ends,
    /// The one-way delay, such as 300ms, instead of the matrix's
    #[arg(long, value_name = "TIME", value_parser = output::duration)]
    delay: Option<Duration>,
    /// Added to the one-way delay
    #[arg(long, value_name = "TIME", value_parser = output::duration)]
    extra: Option<Duration>,
    /// Share of packets lost, such as 15%
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    loss: Option<f64>,
    /// Mean length of a run of losses, in packets; 1: each by itself
    #[arg(long, value_name = "PACKETS", requires = "loss", default_value_t = 4.0)]
    burst: f64,
    /// Mbit/s, behind a queue of 100 ms
    #[arg(long, value_name = "MBIT")]
    rate: Option<f64>,
    /// clean, internet, china-inbound, brownout, blackhole, or a TOML file with a profile
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
}

pub async fn run(verb: Verb, context: &Context) -> Outcome {
    let control = context.control()?;
    let (ends, fault, said) = match verb {
        Verb::Ls(watch) => {
            let show = async || ls(&control.get("/links").await?, context.format);
            return watch.repeat(show).await;
        }
        Verb::Cut(ends) => {
            let cut = Effect {
                profile: Some(Profile::blackhole()),
                ..Effect::default()
            };
            (ends, Some(cut), "cut")
        }
        Verb::Restore(ends) => (ends, None, "restored"),
        Verb::Degrade(degrade) => {
            let effect = degrade.effect()?;
            (degrade.ends, Some(effect), "degraded")
        }
    };
    let arrow = if ends.one_way { "→" } else { "↔" };
    let over = ends
        .net
        .as_ref()
        .map_or(String::new(), |net| format!(" ({net})"));
    let said = format!("{} {arrow} {}{over}: {said}\n", ends.from, ends.to);
    let change = Change {
        from: ends.from,
        to: ends.to,
        net: ends.net,
        one_way: ends.one_way,
        fault,
    };
    let change = serde_json::to_value(change).map_err(Failure::failed)?;
    done(context, &control.post("/links", &change).await?, &said)
}

impl Degrade {
    fn effect(&self) -> Outcome<Effect> {
        let profile = match &self.profile {
            None => None,
            Some(text) => Some(match up::profile_file(text)? {
                Some(profile) => profile,
                None => Profile::named(text).map_err(|error| {
                    Failure::usage(format!("--profile: {error}{}", hint(text, Profile::NAMES)))
                })?,
            }),
        };
        let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        let effect = Effect {
            profile,
            delay_ms: self.delay.map(ms),
            extra_ms: self.extra.map(ms),
            loss: self.loss.map(|mean| match mean {
                1.0 => Loss::All,
                mean if self.burst <= 1.0 => Loss::Bernoulli { mean },
                mean => Loss::GilbertElliott {
                    mean,
                    burst: self.burst,
                },
            }),
            rate_bits: self.rate.map(|mbit| (mbit * 1e6) as u64),
        };
        let nothing = effect.profile.is_none()
            && effect.delay_ms.is_none()
            && effect.extra_ms.is_none()
            && effect.loss.is_none()
            && effect.rate_bits.is_none();
        if nothing {
            return Err(Failure::usage(
                "degrade needs one of --delay, --extra, --loss, --rate, --profile",
            ));
        }
        Ok(effect)
    }
}

fn ls(world: &Value, format: Format) -> Outcome {
    if format == Format::Json {
        return output::json(world);
    }
    // A fault's effect tells only what it changes; what it leaves is empty in its row.
    let describe = |kind: &str, link: &Value| {
        let effect = if kind == "fault" {
            &link["effect"]
        } else {
            link
        };
        let profile = &effect["profile"];
        let told = |value: &Value| value.as_f64();
        let delays = [
            told(&effect["one_way_ms"]).or(told(&effect["delay_ms"])),
            told(&effect["extra_ms"]),
            told(&profile["extra_delay_ms"]).filter(|ms| *ms > 0.0),
        ];
        let delay = delays.into_iter().flatten().reduce(|sum, ms| sum + ms);
        let own_loss = &effect["loss"];
        let loss = if own_loss.is_null() {
            &profile["loss"]
        } else {
            own_loss
        };
        let bits = told(&effect["rate_bits"]).or(told(&profile["rate"]["bits_per_s"]));
        json!({
            "kind": kind,
            "from": link["from"],
            "to": link["to"],
            "net": link["net"],
            "delay": delay,
            "jitter": profile["jitter"]["kind"],
            "loss": match loss["kind"].as_str() {
                Some("none") => json!(0),
                None if kind == "link" => json!(0),
                None => Value::Null,
                Some("all") => json!(1),
                Some("ramps") => loss["peak"].clone(),
                Some(_) => loss["mean"].clone(),
            },
            "mbit": bits.map(|bits| bits / 1e6),
        })
    };
    let list = |name: &str| world[name].as_array().cloned().unwrap_or_default();
    let faults = list("faults");
    let mut rows: Vec<Value> = faults
        .iter()
        .map(|fault| describe("fault", fault))
        .collect();
    rows.extend(list("links").iter().map(|link| describe("link", link)));
    output::list(
        format,
        &rows,
        &[
            ("KIND", "/kind"),
            ("FROM", "/from"),
            ("TO", "/to"),
            ("NET", "/net"),
            ("DELAY MS", "/delay"),
            ("JITTER", "/jitter"),
            ("LOSS", "/loss"),
            ("MBIT/S", "/mbit"),
        ],
    )
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("it must be a percentage from 0 to 100".to_owned()),
    }
}
