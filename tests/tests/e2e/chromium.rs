//! A headless Chromium, told what to do over its DevTools protocol.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use super::process::Process;

const ANSWER: Duration = Duration::from_secs(30);

/// One page in a browser of its own.
pub struct Page {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    next: u64,
    _browser: Process,
    _profile: TempDir,
}

impl Page {
    /// Starts the browser and opens `url`.
    pub async fn open(url: &str) -> Page {
        let profile = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("chromium");
        command
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--mute-audio",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--remote-debugging-port=0",
                "--window-size=1280,800",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut browser = Process::spawn("chromium", &mut command);
        let mut stderr = BufReader::new(browser.child().stderr.take().expect("piped"));
        let devtools = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|n| n > 0) {
                if let Some((_, url)) = line.split_once("DevTools listening on ") {
                    let url = url.trim().to_owned();
                    // Keep reading, or a full pipe would stop the browser.
                    std::thread::spawn(move || stderr.read_to_end(&mut Vec::new()));
                    return url;
                }
                line.clear();
            }
            panic!("chromium ended without naming its DevTools address");
        })
        .await
        .expect("the address");
        let (socket, _) = tokio_tungstenite::connect_async(&devtools)
            .await
            .expect("DevTools answers");
        let mut page = Page {
            socket,
            session: String::new(),
            next: 0,
            _browser: browser,
            _profile: profile,
        };
        let target = page
            .call("Target.createTarget", json!({ "url": url }))
            .await;
        let attached = page
            .call(
                "Target.attachToTarget",
                json!({ "targetId": target["targetId"], "flatten": true }),
            )
            .await;
        page.session = attached["sessionId"]
            .as_str()
            .expect("a session")
            .to_owned();
        page
    }

    /// Evaluates an expression in the page.
    pub async fn eval(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", params).await;
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {}",
            answer["exceptionDetails"]
        );
        answer["result"]["value"].clone()
    }

    /// A PNG of what is seen, in base64.
    pub async fn screenshot(&mut self) -> String {
        let answer = self
            .call("Page.captureScreenshot", json!({ "format": "png" }))
            .await;
        answer["data"].as_str().expect("a picture").to_owned()
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .expect("the browser listens");
        let answer = async {
            loop {
                let message = self
                    .socket
                    .next()
                    .await
                    .expect("the browser is there")
                    .expect("a message");
                let Message::Text(text) = message else {
                    continue;
                };
                let value: Value = serde_json::from_str(&text).expect("JSON");
                if value["id"] == id {
                    assert!(value["error"].is_null(), "{method}: {}", value["error"]);
                    return value["result"].clone();
                }
            }
        };
        tokio::time::timeout(ANSWER, answer)
            .await
            .unwrap_or_else(|_| panic!("{method}: no answer"))
    }
}
