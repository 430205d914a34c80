//! One part of a backbone of moq-relays in a lab that `longspan bench failover --guest` runs: the bench
//! says where; the same faults hit this and Longspan at the same moment.

use std::{
    io::{self, Write},
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::Command,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    load::{self, Load, Subscribed},
    relay::Relay,
};

/// What the bench appends to the guest's command.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Part {
    /// A relay; this process becomes it, so that signals hit it
    Relay {
        /// Where it listens
        listen: SocketAddr,
        /// Relays that it pulls from: ADDRESS=COST, the cheapest first
        upstreams: Vec<String>,
    },
    /// The publisher
    Publish {
        /// Its relay
        to: SocketAddr,
    },
    /// A receiver; prints a line for each frame: µs since 1970, the frame's number
    Receive {
        /// Its relay
        from: SocketAddr,
    },
}

pub async fn run(part: &Part, relay: &Relay, load: &Load) -> Result<()> {
    match part {
        Part::Relay { listen, upstreams } => become_relay(relay, *listen, upstreams),
        Part::Publish { to } => {
            let (tell, _sent) = watch::channel(0);
            load::publish(relay.url(*to)?, load.clone(), Instant::now(), tell).await
        }
        Part::Receive { from } => receive(relay, *from).await,
    }
}

fn become_relay(relay: &Relay, listen: SocketAddr, upstreams: &[String]) -> Result<()> {
    let mut command = relay.command(listen);
    let urls = upstreams
        .iter()
        .map(|upstream| {
            let (address, cost) = upstream.split_once('=').context("ADDRESS=COST")?;
            let mut url = relay.url(address.parse()?)?;
            url.query_pairs_mut().append_pair("cost", cost);
            Ok(url.to_string())
        })
        .collect::<Result<Vec<_>>>()?;
    if !urls.is_empty() {
        command.args(["--cluster-connect", &urls.join(",")]);
    }
    bail!(
        "{:?}: {}",
        command.get_program().to_owned(),
        Command::exec(&mut command)
    )
}

async fn receive(relay: &Relay, from: SocketAddr) -> Result<()> {
    let mut subscribed = Subscribed::new(relay.url(from)?).await?;
    let (frames, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let mut groups = JoinSet::new();
    loop {
        tokio::select! {
            group = subscribed.track.recv_group() => {
                let Some(mut group) = group? else { bail!("the track ended") };
                let frames = frames.clone();
                groups.spawn(async move {
                    while let Ok(Some(frame)) = group.read_frame().await {
                        let _ = frames.send(frame.payload);
                    }
                });
            }
            Some(_) = groups.join_next() => {}
            Some(payload) = arrived.recv() => {
                let Some(n) = load::number(&payload) else { continue };
                let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
                writeln!(io::stdout().lock(), "{at} {n}")?;
            }
        }
    }
}
