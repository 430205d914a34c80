//! TCP, TLS and HTTP/2 to the controllers.

use std::{io, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};
use tower::service_fn;

use crate::node::{BindError, Config, Io, WrapStream};

/// A controller that does not accept within this is not reached.
const CONNECT: Duration = Duration::from_secs(3);
/// HTTP/2 pings so often …
const PING: Duration = Duration::from_secs(2);
/// … and their answer may take this long: a controller that went silent is left within 5 s.
const PONG: Duration = Duration::from_secs(3);

/// Where the controllers are, in the operator's order.
pub(crate) struct Controllers {
    endpoints: Vec<(String, Endpoint)>,
    tls: Option<ClientTlsConfig>,
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
        let endpoint = |url: &String| match endpoint(url, tls.as_ref()) {
            Ok(endpoint) => Ok((url.clone(), endpoint)),
            Err(why) => Err(BindError::Controller {
                url: url.clone(),
                why,
            }),
        };
        Ok(Controllers {
            endpoints: config
                .controllers
                .iter()
                .map(endpoint)
                .collect::<Result<_, _>>()?,
            tls,
            wrap: config.hooks.connect.clone(),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// The controller whose turn it is, and a connection to it.
    pub fn connect(&self, turn: usize) -> (String, BoxFuture<'static, Result<Channel, String>>) {
        let (url, endpoint) = &self.endpoints[turn % self.endpoints.len()];
        (url.clone(), self.reach(endpoint.clone()))
    }

    /// The controller another one named as the leader: with the same certificates, whether or not
    /// it is on the operator's list.
    pub fn named(
        &self,
        url: &str,
    ) -> Result<(String, BoxFuture<'static, Result<Channel, String>>), String> {
        let endpoint = endpoint(url, self.tls.as_ref())?;
        Ok((url.to_owned(), self.reach(endpoint)))
    }

    fn reach(&self, endpoint: Endpoint) -> BoxFuture<'static, Result<Channel, String>> {
        let wrap = self.wrap.clone();
        Box::pin(async move {
            let connector = service_fn(move |uri: Uri| dial(uri, wrap.clone()));
            endpoint
                .connect_with_connector(connector)
                .await
                .map_err(|e| chain(&e))
        })
    }
}

type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

fn endpoint(url: &str, tls: Option<&ClientTlsConfig>) -> Result<Endpoint, String> {
    let uri: Uri = url.parse().map_err(|e| format!("{e}"))?;
    if uri.host().is_none() {
        return Err("it names no host".into());
    }
    let endpoint = Endpoint::from(uri.clone())
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true);
    match (uri.scheme_str(), tls) {
        (Some("http"), _) => Ok(endpoint),
        (Some("https"), Some(tls)) => endpoint.tls_config(tls.clone()).map_err(|e| e.to_string()),
        (Some("https"), None) => Err("no TLS identity is given".into()),
        _ => Err("the scheme is neither http nor https".into()),
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
