//! `longspan room policy`: how much of a room's order is kept.

use std::time::{Duration, Instant};

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use super::{Format, Watch, output, wishes::Who};
use crate::{
    failure::{Failure, Kind, Outcome},
    http::{Api, escape},
};

/// How often the room is looked at; relays tell of policies once a second.
const EVERY: Duration = Duration::from_millis(250);

/// Shows, or sets, how much of a room's order is kept for whoever comes back.
///
/// A bound that is not named stays as it was wished before. The group that keeps the room allows so much
/// at most; what is wished beyond is cut to that, and shown. The room need not be open: it holds from its
/// first message on.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("wish").multiple(true)))]
pub struct Policy {
    /// Which room; without it, all for which something is wished
    room: Option<String>,
    /// Whose it is
    #[arg(long, default_value = "default")]
    tenant: String,
    /// At most so many messages
    #[arg(long, value_name = "N", group = "wish", requires = "reason")]
    messages: Option<u64>,
    /// What they cost together at most, such as 65536, 64k or 2M
    #[arg(long, value_name = "SIZE", group = "wish", requires = "reason", value_parser = output::size)]
    bytes: Option<u64>,
    /// How old the oldest may be, by the log's time, such as 90s or 8h
    #[arg(long, value_name = "TIME", group = "wish", requires = "reason", value_parser = output::duration)]
    age: Option<Duration>,
    /// Takes all bounds back: the group's own hold
    #[arg(long, group = "wish", requires = "reason", conflicts_with_all = ["messages", "bytes", "age"])]
    reset: bool,
    /// Why; it stands in the audit
    #[arg(long, value_name = "TEXT", requires = "wish")]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
    /// How long to wait until it holds
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = output::duration)]
    deadline: Duration,
    /// Returns at once
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    watch: Watch,
}

pub async fn run(policy: Policy, api: &Api, format: Format) -> Outcome {
    let tenant = escape(&policy.tenant);
    let Some(room) = &policy.room else {
        if policy.reason.is_some() {
            return Err(Failure::usage("a policy is a room's: name the room"));
        }
        let path = format!("/policies?tenant={tenant}");
        let show = async || list(output::items(api.get(&path).await?), format);
        return policy.watch.repeat(show).await;
    };
    let path = format!("/rooms/{}/policy?tenant={tenant}", escape(room));
    if policy.reason.is_none() {
        let show = async || show(&api.get(&path).await?, format);
        return policy.watch.repeat(show).await;
    }
    let began = Instant::now();
    let mut now = api.post(&path, &body(&policy)).await?;
    while now["state"] == "waiting" && !policy.detach {
        if began.elapsed() >= policy.deadline {
            return Err(Failure::failed(format!(
                "{room}: it does not hold after {} s: {}; it stays wished: longspan room policy {room}",
                policy.deadline.as_secs(),
                now["why"].as_str().unwrap_or("nobody says why")
            )));
        }
        tokio::time::sleep(EVERY).await;
        match api.get(&path).await {
            Ok(seen) => now = seen,
            // Another controller may be taking over: the wish stands in the store.
            Err(why) if why.kind == Kind::Failed => {}
            Err(why) => return Err(why),
        }
    }
    show(&now, format)
}

fn body(policy: &Policy) -> Value {
    let mut body = policy.who.body(policy.reason.as_deref());
    if let Some(messages) = policy.messages {
        body["messages"] = messages.into();
    }
    if let Some(bytes) = policy.bytes {
        body["bytes"] = bytes.into();
    }
    if let Some(age) = policy.age {
        body["age_s"] = age.as_secs_f64().into();
    }
    if policy.reset {
        body["reset"] = true.into();
    }
    body
}

fn show(policy: &Value, format: Format) -> Outcome {
    if format == Format::Json {
        return output::json(policy);
    }
    let mut head = json!({ "room": policy["room"], "policy": stands(policy) });
    let wished = &policy["wished"];
    if let Some(since) = wished["since_ms"].as_u64() {
        head["wished by"] = wished["owner"].clone();
        head["since"] = output::clock(since).into();
        head["reason"] = wished["reason"].clone();
    }
    output::object(format, &head)?;
    output::print("\n")?;
    let mut rows = vec![bounds("holds", &policy["holds"])];
    if wished.is_object() {
        rows.push(bounds("wished", wished));
    }
    rows.push(bounds("at most", &policy["most"]));
    let columns = [
        ("KEPT", "/what"),
        ("MESSAGES", "/messages"),
        ("BYTES", "/bytes"),
        ("AGE", "/age"),
    ];
    output::list(format, &rows, &columns)
}

fn list(mut policies: Vec<Value>, format: Format) -> Outcome {
    if format == Format::Table {
        for policy in &mut policies {
            let (wished, state) = (bounds("", &policy["wished"]), stands(policy));
            policy["wish"] = wished;
            policy["state"] = state.into();
        }
    }
    output::list(
        format,
        &policies,
        &[
            ("ROOM", "/room"),
            ("MESSAGES", "/wish/messages"),
            ("BYTES", "/wish/bytes"),
            ("AGE", "/wish/age"),
            ("OWNER", "/wished/owner"),
            ("REASON", "/wished/reason"),
            ("POLICY", "/state"),
        ],
    )
}

/// How far it is, in words.
fn stands(policy: &Value) -> String {
    let state = match policy["state"].as_str() {
        Some("default") => "none: the group's own bounds hold",
        Some("holds") => "holds",
        Some("clamped") => "holds as far as it can",
        Some("not_open") => "holds once the room opens",
        Some("waiting") => "does not hold yet",
        _ => "?",
    };
    match policy["why"].as_str() {
        Some(why) => format!("{state}: {why}"),
        None => state.to_owned(),
    }
}

/// As the flags take them.
fn bounds(what: &str, of: &Value) -> Value {
    let age = of["age_ms"].as_u64().map(output::short_duration);
    let bytes = of["bytes"].as_u64().map(output::short_size);
    json!({ "what": what, "messages": of["messages"], "bytes": bytes, "age": age })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        policy: Policy,
    }

    fn parse(args: &[&str]) -> Result<Policy, String> {
        let all = std::iter::once("policy").chain(args.iter().copied());
        let parsed = Cli::try_parse_from(all);
        parsed.map(|cli| cli.policy).map_err(|e| e.to_string())
    }

    #[test]
    fn only_what_is_named_is_asked_for() {
        let policy = parse(&["math", "--bytes", "64k", "--reason", "exams"]).unwrap();
        let body = body(&policy);
        assert_eq!(body["bytes"], 65_536);
        assert_eq!(body["reason"], "exams");
        assert!(body.get("messages").is_none() && body.get("reset").is_none());
        assert!(parse(&["math"]).unwrap().reason.is_none(), "it is shown");
        for (args, why) in [
            (&["math", "--messages", "10"][..], "--reason"),
            (&["math", "--reason", "x"], "--messages"),
            (
                &["math", "--reset", "--age", "1h", "--reason", "x"],
                "cannot be used with",
            ),
            (&["math", "--bytes", "64q", "--reason", "x"], "64k"),
            (&["math", "--messages", "-1", "--reason", "x"], "-1"),
        ] {
            let refused = parse(args).expect_err("refused");
            assert!(refused.contains(why), "{args:?}: {refused}");
        }
    }

    #[test]
    fn bounds_are_told_as_the_flags_take_them() {
        let kept = json!({"messages": 10, "bytes": 2 << 20, "age_ms": 86_400_000_u64});
        let row = bounds("holds", &kept);
        assert_eq!((&row["bytes"], &row["age"]), (&json!("2M"), &json!("24h")));
        let row = bounds("wished", &json!({"messages": 10}));
        assert!(row["bytes"].is_null() && row["age"].is_null());
        assert_eq!(
            stands(&json!({"state": "waiting", "why": "nobody leads"})),
            "does not hold yet: nobody leads"
        );
        assert_eq!(stands(&json!({"state": "holds", "why": null})), "holds");
    }
}
