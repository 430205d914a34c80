//! Two QUIC endpoints on an emulated link, in virtual time: the library's own connections (pacing,
//! loss detection, acknowledgements) behind `lab`'s model, with the transport that nodes use.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use longspan_lab::wan::{Direction, Profile, Reason, Verdict};
use longspan_proto::time::Time;
use longspan_relay::quic::transport::{self, Controller, Transport};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    Event, ServerConfig, StreamEvent, StreamId,
};
use rustls::pki_types::PrivateKeyDer;

const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2);
/// Calls are not used here.
const CALLS: u32 = 1;

/// The link and both ends. The client sends.
pub struct Net {
    began: Instant,
    pub now: Time,
    client: Host,
    server: Host,
    lanes: [Lane; 2],
    under_way: BinaryHeap<Reverse<(Time, u64)>>,
    contents: BTreeMap<u64, (Toward, BytesMut)>,
    numbers: u64,
    client_config: ClientConfig,
    /// Bytes that the server has of each stream, as they come.
    pub arrivals: Vec<Arrival>,
}

/// A stream has grown.
pub struct Arrival {
    pub at: Time,
    pub connection: usize,
    pub stream: StreamId,
    pub bytes: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Toward {
    Server = 0,
    Client = 1,
}

struct Host {
    endpoint: Endpoint,
    connections: BTreeMap<usize, Connection>,
    /// Bytes taken from each stream.
    taken: BTreeMap<(usize, StreamId), u64>,
    wakes: Option<Instant>,
}

/// One direction, and what became of packets in it.
struct Lane {
    direction: Direction,
    profile: Profile,
    /// When its bottleneck is done with what was accepted.
    free: Time,
    counts: Counts,
}

/// What became of the packets towards the server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub packets: u64,
    pub lost: u64,
    /// Dropped at the full queue.
    pub dropped: u64,
    /// Sum of what accepted packets waited at the bottleneck, in µs.
    pub waited_us: u64,
}

impl Counts {
    pub fn since(self, before: Counts) -> Counts {
        Counts {
            packets: self.packets - before.packets,
            lost: self.lost - before.lost,
            dropped: self.dropped - before.dropped,
            waited_us: self.waited_us - before.waited_us,
        }
    }

    pub fn dropped_share(self) -> f64 {
        self.dropped as f64 / self.packets.max(1) as f64
    }

    pub fn mean_wait_ms(self) -> f64 {
        self.waited_us as f64 / 1_000.0 / (self.packets - self.dropped).max(1) as f64
    }
}

impl Net {
    /// A link of `one_way` under `profile` in both directions.
    pub fn new(controller: Controller, one_way: Duration, profile: &Profile, seed: u64) -> Net {
        let transport = Arc::new(transport::config(
            &Transport {
                controller,
                ..Transport::default()
            },
            CALLS,
        ));
        let (server_config, client_config) = configs(&transport);
        let endpoint = |server, salt: u8| {
            let mut bytes = [salt; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            let config = Arc::new(EndpointConfig::default());
            Endpoint::new(config, server, true, Some(bytes))
        };
        let lane = |salt| Lane {
            direction: Direction::new(one_way, profile.clone(), seed ^ salt),
            profile: profile.clone(),
            free: Time::ZERO,
            counts: Counts::default(),
        };
        Net {
            began: Instant::now(),
            now: Time::ZERO,
            client: Host::new(endpoint(None, 1)),
            server: Host::new(endpoint(Some(Arc::new(server_config)), 2)),
            lanes: [lane(0), lane(u64::MAX)],
            under_way: BinaryHeap::new(),
            contents: BTreeMap::new(),
            numbers: 0,
            client_config,
            arrivals: Vec::new(),
        }
    }

    /// From now on.
    pub fn change(&mut self, one_way: Duration, profile: &Profile) {
        for lane in &mut self.lanes {
            lane.direction.change(one_way, profile.clone());
            lane.profile = profile.clone();
        }
    }

    pub fn counts(&self) -> Counts {
        self.lanes[Toward::Server as usize].counts
    }

    /// Opens a connection and waits until it stands.
    pub fn connect(&mut self) -> usize {
        let (handle, connection) = self
            .client
            .endpoint
            .connect(
                self.instant(),
                self.client_config.clone(),
                SERVER,
                "localhost",
            )
            .expect("a connection");
        self.client.connections.insert(handle.0, connection);
        self.flush(Toward::Server);
        let deadline = self.now + Duration::from_secs(10);
        while self.client.connections[&handle.0].is_handshaking() {
            assert!(self.now < deadline, "no handshake within 10 s");
            let at = self.now + Duration::from_millis(1);
            self.run(at);
        }
        handle.0
    }

    /// A connection of the sender's.
    pub fn connection(&mut self, number: usize) -> &mut Connection {
        self.client
            .connections
            .get_mut(&number)
            .expect("it was opened")
    }

    /// Sends what the application wrote.
    pub fn flush_client(&mut self) {
        self.flush(Toward::Server);
    }

    /// Lets time pass.
    pub fn run(&mut self, until: Time) {
        loop {
            let packet = self.under_way.peek().map(|Reverse((at, _))| *at);
            let client = self.client.wakes.map(|at| self.time(at));
            let server = self.server.wakes.map(|at| self.time(at));
            let Some(next) = [packet, client, server].into_iter().flatten().min() else {
                break;
            };
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if packet == Some(next) {
                let Some(Reverse((_, number))) = self.under_way.pop() else {
                    continue;
                };
                let (toward, data) = self.contents.remove(&number).expect("it is under way");
                self.deliver(toward, data);
            } else if client == Some(next) {
                self.client.time_out(self.began + since(self.now));
                self.flush(Toward::Server);
            } else {
                self.server.time_out(self.began + since(self.now));
                self.flush(Toward::Client);
            }
        }
        self.now = self.now.max(until);
    }

    fn deliver(&mut self, toward: Toward, data: BytesMut) {
        let now = self.instant();
        let (host, from) = match toward {
            Toward::Server => (&mut self.server, CLIENT),
            Toward::Client => (&mut self.client, SERVER),
        };
        let mut response = Vec::new();
        match host
            .endpoint
            .handle(now, from, None, None, data, &mut response)
        {
            Some(DatagramEvent::NewConnection(incoming)) => {
                let (handle, connection) = host
                    .endpoint
                    .accept(incoming, now, &mut response, None)
                    .unwrap_or_else(|refused| panic!("{:?}", refused.cause));
                host.connections.insert(handle.0, connection);
            }
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(connection) = host.connections.get_mut(&handle.0) {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
        if toward == Toward::Server {
            self.server.take(self.now, &mut self.arrivals);
        } else {
            self.client.take(self.now, &mut Vec::new());
        }
        // The receiving host answers in the other direction.
        self.flush(match toward {
            Toward::Server => Toward::Client,
            Toward::Client => Toward::Server,
        });
    }

    /// Puts on the link what the host at its other end wants to send.
    fn flush(&mut self, toward: Toward) {
        let now = self.instant();
        let host = match toward {
            Toward::Server => &mut self.client,
            Toward::Client => &mut self.server,
        };
        let mut packets = Vec::new();
        host.drain(now, &mut packets);
        let lane = &mut self.lanes[toward as usize];
        for packet in packets {
            let Some(at) = lane.send(self.now, packet.len()) else {
                continue;
            };
            self.under_way.push(Reverse((at, self.numbers)));
            self.contents.insert(self.numbers, (toward, packet));
            self.numbers += 1;
        }
    }

    fn instant(&self) -> Instant {
        self.began + since(self.now)
    }

    fn time(&self, at: Instant) -> Time {
        // Rounded up: an event at its time must be due.
        let nanos = at.saturating_duration_since(self.began).as_nanos();
        Time::from_micros(nanos.div_ceil(1_000) as u64)
    }
}

impl Lane {
    fn send(&mut self, now: Time, bytes: usize) -> Option<Time> {
        self.counts.packets += 1;
        match self.direction.send(now, bytes) {
            Verdict::Drop(Reason::QueueFull) => {
                self.counts.dropped += 1;
                None
            }
            verdict => {
                if let Some(rate) = self.profile.rate {
                    let begins = self.free.max(now);
                    self.counts.waited_us += begins.saturating_since(now).as_micros() as u64;
                    let takes = bytes as f64 * 8.0 / rate.bits_per_s as f64;
                    self.free = begins + Duration::from_secs_f64(takes);
                }
                match verdict {
                    Verdict::Deliver(at) => Some(at),
                    Verdict::Drop(_) => {
                        self.counts.lost += 1;
                        None
                    }
                }
            }
        }
    }
}

impl Host {
    fn new(endpoint: Endpoint) -> Host {
        Host {
            endpoint,
            connections: BTreeMap::new(),
            taken: BTreeMap::new(),
            wakes: None,
        }
    }

    fn time_out(&mut self, now: Instant) {
        for connection in self.connections.values_mut() {
            if connection.poll_timeout().is_some_and(|at| at <= now) {
                connection.handle_timeout(now);
            }
        }
    }

    /// Reads whatever has come.
    fn take(&mut self, now: Time, arrivals: &mut Vec<Arrival>) {
        for (&number, connection) in &mut self.connections {
            let mut readable = Vec::new();
            while let Some(event) = connection.poll() {
                match event {
                    Event::Stream(StreamEvent::Opened { dir }) => {
                        while let Some(id) = connection.streams().accept(dir) {
                            readable.push(id);
                        }
                    }
                    Event::Stream(StreamEvent::Readable { id }) => readable.push(id),
                    _ => {}
                }
            }
            for id in readable {
                let mut stream = connection.recv_stream(id);
                let Ok(mut chunks) = stream.read(true) else {
                    continue;
                };
                let mut bytes = 0;
                while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                    bytes += chunk.bytes.len() as u64;
                }
                let _ = chunks.finalize();
                let taken = self.taken.entry((number, id)).or_default();
                *taken += bytes;
                arrivals.push(Arrival {
                    at: now,
                    connection: number,
                    stream: id,
                    bytes: *taken,
                });
            }
        }
    }

    fn drain(&mut self, now: Instant, packets: &mut Vec<BytesMut>) {
        let mut buffer = Vec::new();
        for (&number, connection) in &mut self.connections {
            loop {
                let mut events = Vec::new();
                while let Some(event) = connection.poll_endpoint_events() {
                    events.push(event);
                }
                if events.is_empty() {
                    break;
                }
                for event in events {
                    let handle = ConnectionHandle(number);
                    if let Some(event) = self.endpoint.handle_event(handle, event) {
                        connection.handle_event(event);
                    }
                }
            }
            while connection.poll_transmit(now, 1, &mut buffer).is_some() {
                packets.push(BytesMut::from(&buffer[..]));
                buffer.clear();
            }
        }
        let wakes = self
            .connections
            .values_mut()
            .filter_map(Connection::poll_timeout);
        self.wakes = wakes.min();
    }
}

/// Streams of the sender's that carry bytes and nothing else.
pub fn open(connection: &mut Connection, priority: i32) -> StreamId {
    let id = connection
        .streams()
        .open(Dir::Uni)
        .expect("16,384 may be open");
    connection
        .send_stream(id)
        .set_priority(priority)
        .expect("it is open");
    id
}

fn since(time: Time) -> Duration {
    time.saturating_since(Time::ZERO)
}

/// Keys whose signatures have one length, so that a seed repeats a run.
fn configs(transport: &Arc<quinn_proto::TransportConfig>) -> (ServerConfig, ClientConfig) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .and_then(|params| params.self_signed(&key))
        .expect("a certificate");
    let chain = vec![certificate.der().clone()];
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut server = ServerConfig::with_single_cert(chain, private).expect("they fit");
    server.transport_config(transport.clone());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("a certificate");
    let mut client = ClientConfig::with_root_certificates(Arc::new(roots)).expect("a provider");
    client.transport_config(transport.clone());
    (server, client)
}
