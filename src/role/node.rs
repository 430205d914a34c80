//! What relays and edges have in common: the forwarding node from its configuration.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use longspan_lab::{shim::Shim, world::Live};
use longspan_proto::{ids::Zone, wire};
use longspan_relay::{
    node::{Config, Hooks},
    quic::transport::Transport,
    tls::Identity,
};

use crate::{
    config,
    failure::{Failure, Outcome},
};

/// No machine has been up for longer: 100 years.
const MAX_AHEAD: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What a link may be said to carry, in Mbit/s: as the controller believes
/// (`longspan_controller::routes::Capacities`).
const LINK_MBPS: RangeInclusive<f64> = 0.1..=4_000_000.0;

/// The node's configuration, with the emulated world laid under it where there is one.
pub fn convert(config: config::Relay, role: wire::Role, admin_url: String) -> Outcome<Config> {
    let identity = |tls: config::Tls| Identity::Files {
        ca: tls.ca,
        cert: tls.cert,
        key: tls.key,
    };
    let tls = identity(config.tls);
    let config::Node {
        id,
        region,
        zone,
        country,
        city,
        lat,
        lon,
    } = config.node;
    let lab = config.lab.unwrap_or_default();
    let clock_ahead = Duration::try_from_secs_f64(lab.clock_ahead_s)
        .ok()
        .filter(|ahead| *ahead <= MAX_AHEAD)
        .ok_or_else(|| {
            Failure::usage(format!(
                "lab.clock_ahead_s = {}: it must be between 0 and {}",
                lab.clock_ahead_s,
                MAX_AHEAD.as_secs()
            ))
        })?;
    let capacity_mbps = config.quic.link_capacity_mbps;
    if !LINK_MBPS.contains(&capacity_mbps) {
        return Err(Failure::usage(format!(
            "quic.link_capacity_mbps = {capacity_mbps}: it must be between {} and {}",
            LINK_MBPS.start(),
            LINK_MBPS.end()
        )));
    }
    let transport = Transport {
        link_capacity: (capacity_mbps * 1e6) as u64,
        ..Transport::default()
    };
    let hooks = match lab.world {
        Some(world) => {
            let live = Live::open(&world).map_err(Failure::failed)?;
            hooks(Shim::new(live, id.clone(), region.clone()))
        }
        None => Hooks::default(),
    };
    if let Some(dir) = &config.data.dir {
        std::fs::create_dir_all(dir).map_err(|error| {
            Failure::failed(format!("cannot make data.dir {}: {error}", dir.display()))
        })?;
    }
    let zone = match zone {
        Some(zone) => zone,
        None => Zone::new(&region).map_err(Failure::usage)?,
    };
    let secure = config
        .controller
        .urls
        .iter()
        .any(|url| url.starts_with("https://"));
    Ok(Config {
        zone,
        country,
        city,
        lat,
        lon,
        advertise: config.quic.advertise,
        admin_url,
        controllers: config.controller.urls,
        controller_tls: secure.then(|| tls.clone()),
        data_dir: config.data.dir,
        clock_ahead,
        hooks,
        transport,
        ..Config::new(id, role, region, config.quic.listen, tls)
    })
}

fn hooks(shim: Shim) -> Hooks {
    let streams = shim.clone();
    Hooks {
        socket: Some(Arc::new(move |socket| shim.socket(socket))),
        connect: Some(Arc::new(move |stream| Box::new(streams.stream(stream)))),
    }
}
