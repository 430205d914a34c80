//! Members in different regions talk.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use super::{backbone::Backbone, process::eventually};

const EACH: u64 = 200;
const BOUND: Duration = Duration::from_secs(60);

/// A member's connection.
pub struct Member {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub welcome: Value,
    /// The newest place.
    seq: u64,
}

impl Member {
    /// Joins a room; None while the edge cannot take members.
    pub async fn join(http: &str, room: &str, session: &str) -> Option<Member> {
        let mut member = Member::connect(http, room).await?;
        member
            .send(json!({ "t": "hello", "session": session }))
            .await;
        member.welcome = member.next().await?;
        member.seq = member.welcome["seq"].as_u64().unwrap_or(0);
        (member.welcome["t"] == "welcome").then_some(member)
    }

    /// Goes on at another edge after what was seen; None while the edge cannot take it.
    pub async fn resume(&self, http: &str, room: &str, session: &str) -> Option<Member> {
        let mut member = Member::connect(http, room).await?;
        let resume = json!({ "seq": self.seq, "log": self.welcome["log"] });
        member
            .send(json!({ "t": "hello", "session": session, "resume": resume }))
            .await;
        member.welcome = member.next().await?;
        assert_eq!(member.welcome["seq"], self.seq, "it goes on where it was");
        Some(member)
    }

    /// Connects, and says nothing yet.
    pub async fn connect(http: &str, room: &str) -> Option<Member> {
        let url = format!("{}/rooms/{room}/messages", http.replacen("http", "ws", 1));
        let mut request = url.into_client_request().ok()?;
        request
            .headers_mut()
            .insert("sec-websocket-protocol", "longspan.v1+json".parse().ok()?);
        let (socket, _) = connect_async(request).await.ok()?;
        Some(Member {
            socket,
            welcome: Value::Null,
            seq: 0,
        })
    }

    pub async fn send(&mut self, message: Value) {
        self.send_raw(&message.to_string()).await;
    }

    pub async fn send_raw(&mut self, text: &str) {
        self.try_send(Message::text(text))
            .await
            .expect("the edge listens");
    }

    /// Sends anything; the edge may refuse to take it to its end.
    pub async fn try_send(&mut self, message: Message) -> Result<(), Error> {
        self.socket.send(message).await
    }

    /// The next message; None when the edge closed.
    pub async fn next(&mut self) -> Option<Value> {
        self.next_or_close().await.ok()
    }

    /// The next message, or the code with which the edge closed (none: it just went away). Without
    /// what is said of presence; places without a hole include it.
    pub async fn next_or_close(&mut self) -> Result<Value, Option<u16>> {
        loop {
            let message = tokio::time::timeout(BOUND, self.socket.next())
                .await
                .expect("a message in time");
            match message {
                Some(Ok(Message::Text(text))) => {
                    let message = serde_json::from_str(&text).expect("JSON");
                    if let Some(message) = self.look(message) {
                        return Ok(message);
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }
}

impl Member {
    /// Checks the places of events, and leaves out those of presence.
    fn look(&mut self, message: Value) -> Option<Value> {
        let events = match message["t"].as_str() {
            Some("ev") => vec![message],
            Some("evs") => message["evs"].as_array().expect("evs").clone(),
            Some("welcome") => {
                self.seq = message["seq"].as_u64().expect("a place");
                return Some(message);
            }
            Some("gap") => {
                // The state that follows is of this place.
                self.seq = message["to"].as_u64().expect("a place");
                return Some(message);
            }
            _ => return Some(message),
        };
        for seq in events.iter().filter_map(|event| event["seq"].as_u64()) {
            assert_eq!(seq, self.seq + 1, "one total order without holes");
            self.seq = seq;
        }
        let others = events
            .into_iter()
            .filter(|event| event["topic"] != "presence");
        let mut others: Vec<Value> = others.collect();
        match others.len() {
            0 => None,
            1 => others.pop(),
            _ => Some(json!({ "t": "evs", "evs": others })),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_each_way_all_arrive_in_each_publishers_order() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "cn-beijing,hk,sg"]);
    let mut members = Vec::new();
    for (region, session) in [("cn-beijing", "0a"), ("sg", "0b")] {
        let http = backbone.region(region).http;
        let session = session.repeat(16);
        members.push(
            eventually("a place in the room", Duration::from_secs(30), async || {
                Member::join(&http, "talk", &session).await
            })
            .await,
        );
    }
    let mut tasks = Vec::new();
    for (who, mut member) in members.into_iter().enumerate() {
        tasks.push(tokio::spawn(async move {
            for n in 1..=EACH {
                let body = json!({ "who": who, "n": n });
                member.send(json!({ "t": "pub", "n": n, "class": "log", "topic": "chat", "body": body })).await;
            }
            let (mut acked, mut last_seq, mut heard) = (0, 0, [0, 0]);
            while acked < EACH || heard != [EACH, EACH] {
                let message = member.next().await.expect("the edge stays");
                let events = match message["t"].as_str().expect("t") {
                    "ack" => {
                        acked += 1;
                        assert_eq!(message["n"], acked, "acks come in order");
                        continue;
                    }
                    "ev" => vec![message.clone()],
                    "evs" => message["evs"].as_array().expect("evs").clone(),
                    _ => panic!("unexpected: {message}"),
                };
                for event in events {
                    let seq = event["seq"].as_u64().expect("seq");
                    assert!(seq > last_seq, "in order");
                    last_seq = seq;
                    let from = event["body"]["who"].as_u64().expect("who") as usize;
                    heard[from] += 1;
                    assert_eq!(event["body"]["n"], heard[from], "each publisher's order is kept");
                }
            }
            (heard, last_seq)
        }));
    }
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(task.await.expect("a member saw everything"));
    }
    assert_eq!(ends[0], ends[1], "both members saw the same");
}
