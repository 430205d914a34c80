//! Clients: ffmpeg, plain HTTP, tokens.

use std::{process::Stdio, time::SystemTime};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use super::backbone::{Backbone, PATIENCE, POLL};

pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub const LESSON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/sample-lesson.flv");

/// A token for the room `math`, good for a minute.
pub fn token(identity: &str, grants: Value) -> String {
    let mut claims = claims(identity);
    for (name, value) in grants.as_object().unwrap() {
        claims["video"][name] = value.clone();
    }
    sign(&claims)
}

/// What such a token says.
pub fn claims(identity: &str) -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let exp = now.unwrap().as_secs() + 60;
    let video = json!({"room": "math", "roomJoin": true});
    json!({"iss": "school", "sub": identity, "exp": exp, "video": video})
}

pub fn sign(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), claims, &key).unwrap()
}

fn ffmpeg(args: &[&str]) -> Command {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-nostdin", "-loglevel", "warning"])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// ffmpeg publishing the sample lesson again and again, in real time.
pub fn publish(url: &str) -> Child {
    let args = [
        "-re",
        "-stream_loop",
        "-1",
        "-i",
        LESSON,
        "-c",
        "copy",
        "-f",
        "flv",
        url,
    ];
    ffmpeg(&args).spawn().unwrap()
}

/// Runs ffmpeg to its end: whether it was content, its output, and what it complained of.
pub async fn run(args: &[&str]) -> (bool, String, String) {
    let output = timeout(PATIENCE, ffmpeg(args).output());
    let output = output.await.expect("ffmpeg ends in time").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// What ffmpeg said until it ended by itself.
pub async fn last_words(child: Child) -> String {
    let output = timeout(PATIENCE, child.wait_with_output());
    let output = output.await.expect("ffmpeg ends in time").unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The MD5 of each video packet of what ffmpeg reads from `input`, at most `frames` of them.
pub async fn packets(input: &str, frames: usize) -> Vec<String> {
    let frames = frames.to_string();
    let args = [
        "-i",
        input,
        "-map",
        "0:v",
        "-c",
        "copy",
        "-frames:v",
        &frames,
        "-f",
        "framemd5",
        "-",
    ];
    let (content, output, complaints) = run(&args).await;
    assert!(content, "{complaints}");
    output
        .lines()
        .filter(|line| !line.starts_with('#'))
        // Stream, times, duration, size, MD5; where a decoder config is new, something of that.
        .filter_map(|line| line.split(',').nth(5))
        .map(|md5| md5.trim().to_owned())
        .collect()
}

/// An answer to a request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A connection that asked for `path`.
pub async fn ask(edge: &Backbone, method: &str, path: &str, header: &str) -> TcpStream {
    let mut tcp = TcpStream::connect(edge.addresses.http).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n{header}\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    tcp
}

pub async fn request(edge: &Backbone, method: &str, path: &str, header: &str) -> Answer {
    let mut tcp = ask(edge, method, path, header).await;
    let mut bytes = vec![];
    let read = timeout(PATIENCE, tcp.read_to_end(&mut bytes)).await;
    read.expect("an answer in time").unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let body = bytes.split_off(end.expect("a head") + 4);
    let headers = String::from_utf8(bytes).unwrap().to_lowercase();
    Answer {
        status: headers[9..12].parse().unwrap(),
        headers,
        body,
    }
}

pub async fn get(edge: &Backbone, path: &str) -> Answer {
    request(edge, "GET", path, "").await
}

/// Asks until the answer is good.
pub async fn get_once_there(edge: &Backbone, path: &str) -> Answer {
    get_until(edge, path, |answer| answer.status == 200).await
}

/// Asks until the answer is as wanted.
pub async fn get_until(edge: &Backbone, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let asking = async {
        loop {
            let answer = get(edge, path).await;
            if wanted(&answer) {
                return answer;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let answer = timeout(PATIENCE, asking).await;
    answer.unwrap_or_else(|_| panic!("{path} is not as wanted in time"))
}
