//! An edge from its configuration, with the sample lesson where one is asked for.

use std::time::Duration;

use bytes::Bytes;
use longspan_edge::{Config, Edge, Handle, Limits, auth, sample};
use longspan_proto::{
    ids::{RoomName, Tenant},
    wire,
};
use tokio_util::sync::CancellationToken;

use super::{Bound, node};
use crate::{
    config::{self, jwt_keys},
    failure::{Failure, Outcome},
};

/// H.264 and AAC, 16 s that loop without a jump; see assets/README.md.
const LESSON: &[u8] = include_bytes!("../../assets/sample-lesson.flv");

pub async fn bind(
    config: config::Edge,
    admin_url: String,
    shutdown: CancellationToken,
) -> Outcome<Bound> {
    let mut node = node::convert(config.relay, wire::Role::Edge, admin_url)?;
    node.http_url = config.http.public_url.unwrap_or_default();
    node.rtmp_url = config.rtmp.public_url.unwrap_or_default();
    let edge = Edge::bind(Config {
        node,
        http: config.http.listen,
        rtmp: config.rtmp.listen,
        auth: auth(&config.auth)?,
        limits: limits(&config.messages)?,
    })
    .await
    .map_err(Failure::failed)?;
    let handle = edge.handle();
    let (ready, state, reloaded) = (handle.clone(), handle.clone(), handle.clone());
    tracing::info!(quic = %handle.node().address(), http = %edge.addresses().http, rtmp = %edge.addresses().rtmp, "listening");
    if let Some(lesson) = config.sample {
        play(handle, lesson, shutdown.clone()).await?;
    }
    Ok(Bound {
        run: Box::pin(edge.run(shutdown)),
        ready: Box::new(move || ready.node().ready()),
        debug: Box::new(move || state.node().debug()),
        reload: Box::new(move |document| {
            let config: config::Edge = document.parse()?;
            let auth = auth(&config.auth)?;
            reloaded.auth().change(&auth).map_err(Failure::failed)
        }),
    })
}

fn limits(messages: &config::Messages) -> Outcome<Limits> {
    let seconds = messages.goaway_seconds;
    let goaway = Duration::try_from_secs_f64(seconds).map_err(|error| {
        Failure::failed(format!("messages.goaway_seconds = {seconds}: {error}"))
    })?;
    let mut limits = Limits::default();
    limits.messages.presence = messages.presence;
    limits.messages.goaway = goaway;
    Ok(limits)
}

fn auth(auth: &config::Auth) -> Outcome<auth::Config> {
    let jwt_keys = match &auth.jwt_keys {
        Some(file) => jwt_keys::read(file)?,
        None => Default::default(),
    };
    Ok(auth::Config {
        open: auth.open,
        jwt_keys,
    })
}

async fn play(handle: Handle, lesson: config::Sample, shutdown: CancellationToken) -> Outcome {
    let flv = match &lesson.file {
        Some(file) => tokio::fs::read(file)
            .await
            .map(Bytes::from)
            .map_err(|error| {
                Failure::failed(format!(
                    "cannot read sample.file {}: {error}",
                    file.display()
                ))
            })?,
        None => Bytes::from_static(LESSON),
    };
    let room = RoomName {
        tenant: Tenant::default_tenant(),
        room: lesson.room,
    };
    tokio::spawn(async move {
        if let Err(error) = sample::run(handle, room, lesson.stream, flv, shutdown).await {
            tracing::error!(%error, "the sample cannot be played");
        }
    });
    Ok(())
}
