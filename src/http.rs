//! The HTTP client of operator verbs and of `up`: small JSON over plain HTTP.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, client::conn::http1::handshake, header,
};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use serde_json::Value;
use tokio::net::UnixStream;

use crate::failure::{Failure, Outcome};

/// How long an answer may take. Operators wait for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer, in bytes: a directory of thousands of nodes is below it.
const MAX_ANSWER: usize = 32 << 20;

/// A status and a body.
pub struct Answer {
    /// HTTP's.
    pub status: StatusCode,
    /// Whole.
    pub body: Bytes,
}

/// One request; `Err` is one line that names the URL.
pub async fn request(
    method: Method,
    url: &str,
    token: Option<&str>,
    body: Option<&Value>,
    timeout: Duration,
) -> Outcome<Answer> {
    exchange(None, method, url, token, body, timeout).await
}

/// Over TCP, or over a Unix socket whatever host the URL names.
async fn exchange(
    socket: Option<&Path>,
    method: Method,
    url: &str,
    token: Option<&str>,
    body: Option<&Value>,
    timeout: Duration,
) -> Outcome<Answer> {
    let failed = |why: &dyn std::fmt::Display| Failure::failed(format!("{url}: {why}"));
    if url.starts_with("https://") {
        return Err(Failure::usage(format!(
            "{url}: operator verbs speak plain HTTP; reach the controller over loopback or a tunnel"
        )));
    }
    let mut request = Request::builder()
        .method(method)
        .uri(url)
        .header(header::ACCEPT, "application/json");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
    let request = request
        .body(Full::new(body))
        .map_err(|error| Failure::usage(format!("{url}: {error}")))?;
    let exchange = async {
        let response = match socket {
            Some(path) => over(path, request).await.map_err(|error| failed(&*error))?,
            None => {
                let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
                client.request(request).await.map_err(|error| {
                    // hyper's own text is "client error (Connect)"; the reason is beneath.
                    let mut reason: &dyn std::error::Error = &error;
                    while let Some(beneath) = reason.source() {
                        reason = beneath;
                    }
                    failed(reason)
                })?
            }
        };
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        let body = body.map_err(|error| failed(&*error))?.to_bytes();
        Ok(Answer { status, body })
    };
    tokio::time::timeout(timeout, exchange)
        .await
        .unwrap_or_else(|_| Err(failed(&format!("no answer within {} s", timeout.as_secs()))))
}

/// One request on a connection of its own.
async fn over(
    socket: &Path,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut sender, connection) = handshake(stream).await?;
    tokio::spawn(connection);
    // HTTP/1.1 has the host in a header and the path in the request line (RFC 9112 §3.2).
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse()?;
    request
        .headers_mut()
        .insert(header::HOST, header::HeaderValue::from_static("lab"));
    Ok(sender.send_request(request).await?)
}

/// An API and the right to use it.
#[derive(Debug, Clone)]
pub struct Api {
    /// Without a slash at its end.
    pub base: String,
    /// Instead of the host in `base`.
    pub socket: Option<PathBuf>,
    /// Bearer.
    pub token: Option<String>,
    /// What to do when nobody answers.
    pub hint: &'static str,
}

impl Api {
    /// `GET`.
    pub async fn get(&self, path: &str) -> Outcome<Value> {
        self.ask(Method::GET, path, None).await
    }

    /// `POST`.
    pub async fn post(&self, path: &str, body: &Value) -> Outcome<Value> {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn request(&self, method: Method, url: &str, body: Option<&Value>) -> Outcome<Answer> {
        let token = self.token.as_deref();
        let socket = self.socket.as_deref();
        let asked = exchange(socket, method, url, token, body, TIMEOUT).await;
        asked.map_err(|failure| match failure.kind {
            crate::failure::Kind::Failed => Failure::failed(format!("{failure}; {}", self.hint)),
            _ => failure,
        })
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Outcome<Value> {
        let url = format!("{}{path}", self.base);
        let mut answer = self.request(method.clone(), &url, body).await?;
        let mut json: Option<Value> = serde_json::from_slice(&answer.body).ok();
        // A controller that does not lead names the one that does; once is enough.
        let leader = json.as_ref().and_then(|json| json["leader"].as_str());
        if answer.status == StatusCode::SERVICE_UNAVAILABLE
            && let Some(leader) = leader
        {
            let url = format!("{}/api/v1{path}", leader.trim_end_matches('/'));
            answer = self.request(method, &url, body).await?;
            json = serde_json::from_slice(&answer.body).ok();
        }
        if answer.status.is_success() {
            return json.ok_or_else(|| Failure::failed(format!("{url}: the answer is not JSON")));
        }
        let message = json
            .as_ref()
            .and_then(|json| json["message"].as_str())
            .map_or_else(|| format!("{url}: HTTP {}", answer.status), str::to_owned);
        Err(match answer.status {
            StatusCode::NOT_FOUND => Failure::not_found(message),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Failure::usage(message),
            StatusCode::UNAUTHORIZED => Failure::refused(format!(
                "{message}; set LONGSPAN_ADMIN_TOKEN, or --token-file"
            )),
            StatusCode::FORBIDDEN | StatusCode::CONFLICT => Failure::refused(message),
            _ => Failure::failed(message),
        })
    }
}

/// Escapes a path segment or a query's value (RFC 3986 §2.3).
pub fn escape(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}
