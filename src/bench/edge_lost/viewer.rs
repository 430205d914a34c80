//! A viewer over HTTP-FLV that knows several edges and leaves one that falls silent.

use std::time::Duration;

use longspan_edge::{flv, media::Kind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout},
};

use crate::failure::{Failure, Outcome};

/// An edge that sent nothing for this long is left. Tags come every 20 ms or so; a reroute inside
/// the backbone takes 100 to 300 ms and shall not scatter viewers.
pub(super) const SILENCE: Duration = Duration::from_millis(400);
/// The next edge is tried beside the one that did not deliver for so long.
const STAGGER: Duration = Duration::from_millis(500);
/// How long a TCP connection may take.
const CONNECT: Duration = Duration::from_millis(500);
/// How long an edge that refused or broke is left alone.
const PAUSE: Duration = Duration::from_millis(200);
/// Tags on their way from the connections to the viewer.
const QUEUE: usize = 1_024;

/// A tag that a viewer shows, and what it says about order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) at: Instant,
    /// By the number of its edge.
    pub(super) edge: usize,
    pub(super) picture: bool,
    /// A decoder config came just before: another description begins here.
    pub(super) begins: bool,
    /// In ms.
    pub(super) timestamp: u32,
}

enum Event {
    Tag(Instant, flv::Tag),
    Over,
}

/// An edge there is a connection with.
struct Tried {
    edge: usize,
    since: Instant,
    task: AbortHandle,
}

/// One that watches.
pub(super) struct Viewer {
    hosts: Vec<String>,
    path: String,
    connections: JoinSet<()>,
    tried: Vec<Tried>,
    tell: mpsc::Sender<(usize, Event)>,
    told: mpsc::Receiver<(usize, Event)>,
    at: usize,
    last_heard: Instant,
    /// Of the last tag that was shown, by kind.
    shown: [Option<u32>; 2],
    /// By edge: a decoder config came, and no picture since.
    config: Vec<bool>,
    /// Pictures behind a decoder config that are no key frame.
    pub(super) not_at_key: u64,
}

impl Viewer {
    /// Watches `path` (`/live/…`) at the first of the edges, which are `HOST:PORT`.
    pub(super) fn new(hosts: &[&str], path: &str) -> Viewer {
        let (tell, told) = mpsc::channel(QUEUE);
        let mut viewer = Viewer {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            path: path.to_owned(),
            connections: JoinSet::new(),
            tried: Vec::new(),
            tell,
            told,
            at: 0,
            last_heard: Instant::now(),
            shown: [None; 2],
            config: vec![false; hosts.len()],
            not_at_key: 0,
        };
        viewer.connect(0);
        viewer
    }

    /// The next tag to show. From another edge than before: only what is newer.
    pub(super) async fn next(&mut self) -> Seen {
        loop {
            let newest = self.tried.iter().map(|tried| tried.since).max();
            let due = match self.tried.as_slice() {
                [_] => self.last_heard + SILENCE,
                _ => newest.unwrap_or(self.last_heard) + STAGGER,
            };
            tokio::select! {
                told = self.told.recv() => {
                    // The sender is ours as well.
                    let Some((edge, event)) = told else { continue };
                    match event {
                        Event::Over => self.over(edge),
                        Event::Tag(at, tag) => if let Some(seen) = self.show(edge, at, &tag) {
                            return seen;
                        },
                    }
                }
                () = tokio::time::sleep_until(due) => self.connect_next(),
            }
        }
    }

    /// The next picture, waited for at most `bound`.
    pub(super) async fn within(&mut self, bound: Duration) -> Outcome<Seen> {
        let seen = timeout(bound, self.next()).await;
        seen.map_err(|_| Failure::failed(format!("{}: no tag within {bound:?}", self.path)))
    }

    fn show(&mut self, edge: usize, at: Instant, tag: &flv::Tag) -> Option<Seen> {
        if self.tried.iter().all(|tried| tried.edge != edge) {
            // It was left.
            return None;
        }
        let kind = match tag.tag_type {
            8 => Kind::Audio,
            9 => Kind::Video,
            _ => return None,
        };
        if edge == self.at {
            self.last_heard = at;
        }
        if flv::is_config(kind, &tag.body) {
            self.config[edge] |= kind == Kind::Video;
            return None;
        }
        let picture = kind == Kind::Video;
        let begins = picture && std::mem::take(&mut self.config[edge]);
        self.not_at_key += u64::from(begins && !flv::is_key(&tag.body));
        let last = self.shown[kind as usize];
        if edge != self.at {
            // A newcomer is sent the newest group from its start: that was seen already.
            if last.is_some_and(|last| tag.timestamp <= last) {
                return None;
            }
            self.at = edge;
            self.last_heard = at;
            self.leave(|tried| tried.edge != edge);
        }
        self.shown[kind as usize] = Some(tag.timestamp);
        Some(Seen {
            at,
            edge,
            picture,
            begins,
            timestamp: tag.timestamp,
        })
    }

    /// A connection broke: if it was the one that fed, the next is tried at once.
    fn over(&mut self, edge: usize) {
        self.leave(|tried| tried.edge == edge);
        if edge == self.at || self.tried.is_empty() {
            self.connect_next();
        }
    }

    fn leave(&mut self, mut which: impl FnMut(&Tried) -> bool) {
        for left in self.tried.extract_if(.., |tried| which(tried)) {
            left.task.abort();
        }
    }

    fn connect_next(&mut self) {
        let from = self.tried.last().map_or(self.at, |tried| tried.edge);
        let candidates = (1..=self.hosts.len()).map(|step| (from + step) % self.hosts.len());
        let mut free = candidates.filter(|edge| self.tried.iter().all(|tried| tried.edge != *edge));
        match free.next() {
            Some(edge) => self.connect(edge),
            // All are tried: they have a while more.
            None => self
                .tried
                .iter_mut()
                .for_each(|tried| tried.since = Instant::now()),
        }
    }

    fn connect(&mut self, edge: usize) {
        let (host, path) = (self.hosts[edge].clone(), self.path.clone());
        let tell = self.tell.clone();
        let task = self.connections.spawn(async move {
            let mut fed = false;
            // Why it ended makes no difference to a viewer.
            let _ = read(&host, &path, edge, &tell, &mut fed).await;
            if !fed {
                tokio::time::sleep(PAUSE).await;
            }
            // The viewer may be gone.
            let _ = tell.send((edge, Event::Over)).await;
        });
        let since = Instant::now();
        self.tried.push(Tried { edge, since, task });
    }
}

/// Reads a stream to its end. Sets `fed` at the first tag.
async fn read(
    host: &str,
    path: &str,
    edge: usize,
    tell: &mpsc::Sender<(usize, Event)>,
    fed: &mut bool,
) -> std::io::Result<()> {
    let mut tcp = timeout(CONNECT, TcpStream::connect(host)).await??;
    tcp.set_nodelay(true)?;
    // An answer to 1.0 has no chunks: what follows the head is the file.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    tcp.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    let mut reader = None;
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = tcp.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        let at = Instant::now();
        let reader = match &mut reader {
            Some(reader) => {
                flv::Reader::push(reader, &bytes[..read]);
                reader
            }
            None => {
                head.extend_from_slice(&bytes[..read]);
                let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                    continue;
                };
                if head.get(9..12) != Some(b"200") {
                    return Err(std::io::Error::other("refused"));
                }
                let fresh = reader.insert(flv::Reader::new());
                fresh.push(&head[end + 4..]);
                fresh
            }
        };
        while let Some(tag) = reader.next_tag().map_err(std::io::Error::other)? {
            *fed = true;
            if tell.send((edge, Event::Tag(at, tag))).await.is_err() {
                return Ok(());
            }
        }
    }
}
