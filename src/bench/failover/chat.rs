//! Two members of one room, in two regions, over the whole run: one writes, the other counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use rand::{Rng, seq::IteratorRandom};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::watch, task::JoinHandle};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::field::Field;
use crate::failure::{Failure, Outcome};

const ROOM: &str = "failover-chat";
/// Messages a second.
const RATE: u32 = 20;
/// How long what was sent last may take.
const LATE: Duration = Duration::from_secs(15);
/// How long a member may take to be welcomed.
const JOIN: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The running talk.
pub struct Chat {
    sent: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    heard: watch::Receiver<Heard>,
    tasks: [JoinHandle<()>; 2],
}

/// What the listening member heard.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    /// Different messages.
    count: u64,
    newest: u64,
    repeated: u64,
    out_of_order: u64,
    /// The edge closed.
    closed: bool,
}

/// What became of all messages.
#[derive(Debug)]
pub struct Talk {
    pub sent: u64,
    pub lost: u64,
    pub repeated: u64,
    pub out_of_order: u64,
}

impl Chat {
    /// Joins both and begins.
    pub async fn start(field: &Field, rng: &mut impl Rng) -> Outcome<Chat> {
        let sites = field.sites.iter().sample(rng, 2);
        let (writer, listener) = (sites[0], sites[1]);
        let join = |at: usize| {
            let url = format!("ws://{}/rooms/{ROOM}/messages", sites[at].area.edge.http);
            async move { join(&url, at as u64 + 1).await }
        };
        let talking = writer.there(join(0)).await??;
        let listening = listener.there(join(1)).await??;
        let sent = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = watch::channel(false);
        let (tell, heard) = watch::channel(Heard::default());
        let speaking = tokio::spawn(speak(talking, sent.clone(), stopped));
        let hearing = tokio::spawn(hear(listening, tell));
        Ok(Chat {
            sent,
            stop,
            heard,
            tasks: [speaking, hearing],
        })
    }

    /// Stops, and waits for what is under way.
    pub async fn end(mut self) -> Outcome<Talk> {
        self.stop.send_replace(true);
        let sent = &self.sent;
        let done = |heard: &Heard| heard.count >= sent.load(Ordering::Relaxed) || heard.closed;
        // Where it is not reached the rest counts as lost.
        let _ = tokio::time::timeout(LATE, self.heard.wait_for(done)).await;
        let heard = *self.heard.borrow();
        self.tasks.iter().for_each(JoinHandle::abort);
        let sent = sent.load(Ordering::Relaxed);
        Ok(Talk {
            sent,
            lost: sent.saturating_sub(heard.count),
            repeated: heard.repeated,
            out_of_order: heard.out_of_order,
        })
    }
}

async fn join(url: &str, session: u64) -> Outcome<Socket> {
    let failed = |why: &dyn std::fmt::Display| Failure::failed(format!("{url}: {why}"));
    let joined = async {
        loop {
            let mut request = url.into_client_request().map_err(|e| failed(&e))?;
            let protocol = "longspan.v1+json".parse().map_err(|e| failed(&e))?;
            request
                .headers_mut()
                .insert("sec-websocket-protocol", protocol);
            let hello = json!({ "t": "hello", "session": format!("{session:032x}") });
            if let Ok((mut socket, _)) = connect_async(request).await
                && socket.send(Message::text(hello.to_string())).await.is_ok()
                && let Some(Ok(Message::Text(text))) = socket.next().await
                && serde_json::from_str::<Value>(&text).is_ok_and(|m| m["t"] == "welcome")
            {
                return Ok(socket);
            }
            // The edge, or the room's home, is not there yet.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(JOIN, joined)
        .await
        .unwrap_or_else(|_| Err(failed(&format!("not welcomed within {JOIN:?}"))))
}

async fn speak(mut socket: Socket, sent: Arc<AtomicU64>, mut stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    for n in 1u64.. {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
        let message = json!({ "t": "pub", "n": n, "class": "log", "topic": "chat", "body": n });
        // Acknowledgements are read away by and by: they must not fill the connection.
        while let Some(Some(Ok(_))) = futures_util::FutureExt::now_or_never(socket.next()) {}
        if socket
            .send(Message::text(message.to_string()))
            .await
            .is_err()
        {
            return;
        }
        sent.store(n, Ordering::Relaxed);
    }
    // The connection stays for what is under way.
    while let Some(Ok(_)) = socket.next().await {}
}

async fn hear(mut socket: Socket, tell: watch::Sender<Heard>) {
    let mut seen = std::collections::HashSet::new();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else {
            continue;
        };
        let Ok(told) = serde_json::from_str::<Value>(&text) else {
            continue;
        };
        let events = match told["t"].as_str() {
            Some("ev") => vec![told],
            Some("evs") => told["evs"].as_array().cloned().unwrap_or_default(),
            _ => continue,
        };
        for n in events.iter().filter_map(|event| event["body"].as_u64()) {
            tell.send_modify(|heard| {
                if !seen.insert(n) {
                    heard.repeated += 1;
                } else {
                    heard.count += 1;
                    heard.out_of_order += u64::from(n < heard.newest);
                    heard.newest = heard.newest.max(n);
                }
            });
        }
    }
    tell.send_modify(|heard| heard.closed = true);
}
