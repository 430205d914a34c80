//! moq-relay as processes of their own, and what they use.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use url::Url;

/// Which relay, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct Relay {
    /// The program
    #[arg(long, value_name = "PATH", default_value = "moq-relay")]
    relay: PathBuf,
    /// One more argument for it, such as --relay-arg=--quic-gso=false; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    relay_arg: Vec<String>,
    /// Raw QUIC instead of WebTransport
    #[arg(long)]
    raw: bool,
}

impl Relay {
    /// The program, listening there with a certificate of its own and open to everybody.
    pub fn command(&self, listen: SocketAddr) -> Command {
        let mut command = Command::new(&self.relay);
        command
            .args(["--listen", &listen.to_string()])
            .args(["--listen-tls-generate", "localhost"])
            .args(["--auth-public", "**", "--connect-tls-insecure"])
            .args(["--log-level", "warn"])
            .args(&self.relay_arg);
        command
    }

    /// How a relay there is dialled.
    pub fn url(&self, address: SocketAddr) -> Result<Url> {
        let scheme = if self.raw { "moqt" } else { "https" };
        Ok(format!("{scheme}://{address}/").parse()?)
    }
}

/// How long a relay may take until it is bound.
const BOUND: Duration = Duration::from_secs(20);

/// Relays in a row; each but the first pulls from the one before it.
pub struct Row {
    running: Vec<Child>,
    ports: Vec<u16>,
    relay: Relay,
    _files: TempDir,
}

impl Row {
    pub fn start(relay: &Relay, hops: u8) -> Result<Row> {
        let files = tempfile::tempdir()?;
        let mut row = Row {
            running: Vec::new(),
            ports: Vec::new(),
            relay: relay.clone(),
            _files: files,
        };
        for hop in 0..hops {
            row.add(relay, hop)?;
        }
        Ok(row)
    }

    fn add(&mut self, relay: &Relay, hop: u8) -> Result<()> {
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let log = self._files.path().join(format!("relay-{hop}.log"));
        let mut command = relay.command(local(port));
        if let Some(before) = self.ports.last() {
            let before = relay.url(local(*before))?;
            command.args(["--cluster-connect", before.as_str()]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("{}", relay.relay.display()))?;
        self.running.push(child);
        self.ports.push(port);
        // Bound: nobody else can bind the port any more.
        let deadline = Instant::now() + BOUND;
        while UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            let ended = self.running[usize::from(hop)].try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!("moq-relay does not listen: {}", fs::read_to_string(&log)?);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Where publishers go.
    pub fn first(&self) -> Result<Url> {
        self.relay.url(local(self.ports[0]))
    }

    /// Where receivers go.
    pub fn end(&self) -> Result<Url> {
        self.relay.url(local(self.ports[self.ports.len() - 1]))
    }

    /// CPU of all relays together.
    pub fn cpu_us(&self) -> Result<u64> {
        let mut sum = 0;
        for relay in &self.running {
            sum += Usage::of(relay.id())?.cpu_us;
        }
        Ok(sum)
    }

    /// What the last relay uses.
    pub fn last(&self) -> Usage {
        let last = self.running.last().map(Child::id);
        last.and_then(|pid| Usage::of(pid).ok()).unwrap_or_default()
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        for relay in &mut self.running {
            let _ = relay.kill();
            let _ = relay.wait();
        }
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// What a process has used so far (proc(5)).
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub cpu_us: u64,
    pub rss_bytes: u64,
}

/// `USER_HZ` is 100.
const TICK_US: u64 = 10_000;

impl Usage {
    pub fn of(pid: u32) -> Result<Usage> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the name in brackets and may hold anything.
        let (_, rest) = stat.rsplit_once(") ").context("no stat")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.context("no VmRSS")?.trim().trim_end_matches(" kB");
        Ok(Usage {
            cpu_us: ticks * TICK_US,
            rss_bytes: rss.parse::<u64>()? << 10,
        })
    }
}
