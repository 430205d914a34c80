//! TCP, TLS and HTTP/2 to the controllers.

use std::{io, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};
use tower::service_fn;

use crate::node::{BindError, Config, Io, WrapStream};

/// A controller that does not accept within this is not reached.
const CONNECT: Duration = Duration::from_secs(3);
/// HTTP/2 pings so often, and how long their answer may take: a silent break is seen in 10 s.
const PING: Duration = Duration::from_secs(5);

/// Where the controllers are, in the operator's order.
pub(crate) struct Controllers {
    endpoints: Vec<(String, Endpoint)>,
    wrap: Option<WrapStream>,
}

impl Controllers {
    pub fn new(config: &Config) -> Result<Controllers, BindError> {
        let tls = match &config.controller_tls {
            None => None,
            Some(identity) => {
                let loaded = identity.load()?;
                Some(
                    ClientTlsConfig::new()
                        .ca_certificate(Certificate::from_pem(loaded.ca))
                        .identity(Identity::from_pem(loaded.cert, loaded.key)),
                )
            }
        };
        let endpoints = config
            .controllers
            .iter()
            .map(|url| {
                let odd = |why: String| BindError::Controller {
                    url: url.clone(),
                    why,
                };
                let uri: Uri = url.parse().map_err(|e| odd(format!("{e}")))?;
                if uri.host().is_none() {
                    return Err(odd("it names no host".into()));
                }
                let endpoint = Endpoint::from(uri.clone())
                    .connect_timeout(CONNECT)
                    .http2_keep_alive_interval(PING)
                    .keep_alive_timeout(PING)
                    .keep_alive_while_idle(true);
                let endpoint = match (uri.scheme_str(), &tls) {
                    (Some("http"), _) => endpoint,
                    (Some("https"), Some(tls)) => endpoint
                        .tls_config(tls.clone())
                        .map_err(|e| odd(e.to_string()))?,
                    (Some("https"), None) => return Err(odd("no TLS identity is given".into())),
                    _ => return Err(odd("the scheme is neither http nor https".into())),
                };
                Ok((url.clone(), endpoint))
            })
            .collect::<Result<_, _>>()?;
        Ok(Controllers {
            endpoints,
            wrap: config.hooks.connect.clone(),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// The controller whose turn it is, and a connection to it.
    pub fn connect(
        &self,
        turn: usize,
    ) -> (&str, impl Future<Output = Result<Channel, String>> + use<>) {
        let (url, endpoint) = &self.endpoints[turn % self.endpoints.len()];
        let (endpoint, wrap) = (endpoint.clone(), self.wrap.clone());
        let connecting = async move {
            let connector = service_fn(move |uri: Uri| dial(uri, wrap.clone()));
            endpoint
                .connect_with_connector(connector)
                .await
                .map_err(|e| chain(&e))
        };
        (url, connecting)
    }
}

async fn dial(uri: Uri, wrap: Option<WrapStream>) -> io::Result<TokioIo<Box<dyn Io>>> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let https = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(match wrap {
        Some(wrap) => wrap(stream),
        None => Box::new(stream),
    }))
}

/// An error and its causes on one line: tonic's own text is only "transport error".
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
