//! A relay from its configuration.

use longspan_proto::wire;
use longspan_relay::node::Node;
use tokio_util::sync::CancellationToken;

use super::{Bound, node};
use crate::{
    config,
    failure::{Failure, Outcome},
};

pub async fn bind(
    config: config::Relay,
    admin_url: String,
    shutdown: CancellationToken,
) -> Outcome<Bound> {
    let config = node::convert(config, wire::Role::Relay, admin_url)?;
    let node = Node::bind(config).await.map_err(Failure::failed)?;
    let (ready, state) = (node.handle(), node.handle());
    tracing::info!(quic = %state.address(), "listening");
    Ok(Bound {
        run: Box::pin(node.run(shutdown)),
        ready: Box::new(move || ready.ready()),
        debug: Box::new(move || state.debug()),
        reload: Box::new(|_| Ok(())),
    })
}
