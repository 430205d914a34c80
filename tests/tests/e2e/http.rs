//! The HTTP that the tests speak.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Response, body::Incoming};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

/// The answer's status and body.
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("not JSON ({e}): {}", String::from_utf8_lossy(&self.body)))
    }
}

/// GET with the whole answer (at most 64 MB, 20 s).
pub async fn get(url: &str) -> Result<Answer, String> {
    get_as(url, None).await
}

/// GET with a bearer token.
pub async fn get_as(url: &str, token: Option<&str>) -> Result<Answer, String> {
    let work = async {
        let response = open(url, token).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), 64 << 20)
            .collect()
            .await
            .map_err(|e| format!("{url}: {e}"))?;
        Ok(Answer {
            status,
            body: body.to_bytes(),
        })
    };
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .map_err(|_| format!("{url}: no answer in 20 s"))?
}

/// GET that leaves the body to the caller.
pub async fn open(url: &str, token: Option<&str>) -> Result<Response<Incoming>, String> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let mut request = Request::get(url);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request
        .body(Empty::new())
        .map_err(|e| format!("{url}: {e}"))?;
    client
        .request(request)
        .await
        .map_err(|e| format!("{url}: {e}"))
}

/// Sum of a counter or gauge over its label sets that contain all of `labels` (`k="v"`).
pub fn metric(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let mut found = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((key, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let (metric, set) = key.split_once('{').unwrap_or((key, ""));
        if metric == name && labels.iter().all(|label| set.contains(label)) {
            found = Some(found.unwrap_or(0.0) + value.parse::<f64>().unwrap_or(0.0));
        }
    }
    found
}
