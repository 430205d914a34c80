//! Which port each listener gets.

use std::{
    env, fmt,
    fs::{self, File, OpenOptions, TryLockError},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    str::FromStr,
};

use crate::failure::{Failure, Outcome};

/// Ports of one backbone that does not use the well-known ones: [`SLOTS`] for each use.
pub const RANGE: u16 = 200;

/// Regions a range has room for.
const SLOTS: usize = 20;

/// Where `auto` looks: below the ports that Linux gives to outgoing connections (32768 and up),
/// so that none of those can be in the way.
const AUTO: std::ops::Range<u16> = 20_000..32_000;

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Nodes to controller.
    Grpc,
    /// Operators and browsers to controller.
    Dashboard,
    /// The controller's private listener.
    ControllerAdmin,
    /// `longspan lab` to `up`.
    Control,
    /// Nodes to relay, UDP.
    RelayQuic,
    /// A relay's private listener.
    RelayAdmin,
    /// Nodes to edge, UDP.
    EdgeQuic,
    /// Players to edge.
    EdgeHttp,
    /// Encoders to edge.
    EdgeRtmp,
    /// An edge's private listener.
    EdgeAdmin,
}

impl Use {
    /// The well-known port of the first one (INTERFACES, "Ports"; on one machine there are many
    /// nodes, so most count up from it).
    fn known(self) -> u16 {
        match self {
            Use::Grpc => 7440,
            Use::Dashboard => 7480,
            Use::ControllerAdmin => 9090,
            Use::Control => 7490,
            Use::RelayQuic => 7443,
            Use::RelayAdmin => 9101,
            Use::EdgeQuic => 7543,
            Use::EdgeHttp => 8101,
            Use::EdgeRtmp => 1935,
            Use::EdgeAdmin => 9201,
        }
    }

    /// Offset of the first one from the range's base.
    fn offset(self) -> u16 {
        match self {
            Use::Grpc => 0,
            Use::Dashboard => 1,
            Use::ControllerAdmin => 2,
            Use::Control => 3,
            Use::RelayQuic => 20,
            Use::RelayAdmin => 40,
            Use::EdgeQuic => 60,
            Use::EdgeHttp => 80,
            Use::EdgeRtmp => 100,
            Use::EdgeAdmin => 120,
        }
    }

    fn is_udp(self) -> bool {
        matches!(self, Use::RelayQuic | Use::EdgeQuic)
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Use::Grpc => "the controller's gRPC",
            Use::Dashboard => "the dashboard",
            Use::ControllerAdmin => "the controller's private listener",
            Use::Control => "longspan lab",
            Use::RelayQuic => "a relay's QUIC",
            Use::RelayAdmin => "a relay's private listener",
            Use::EdgeQuic => "an edge's QUIC",
            Use::EdgeHttp => "an edge's HTTP",
            Use::EdgeRtmp => "an edge's RTMP",
            Use::EdgeAdmin => "an edge's private listener",
        })
    }
}

/// `--port-base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Whatever is free.
    Auto,
    /// From this one up.
    At(u16),
}

impl FromStr for Base {
    type Err = String;
    fn from_str(text: &str) -> Result<Base, String> {
        if text == "auto" {
            return Ok(Base::Auto);
        }
        match text.parse::<u16>() {
            Ok(base) if (1_024..=u16::MAX - RANGE).contains(&base) => Ok(Base::At(base)),
            _ => Err(format!(
                "it must be auto, or a number from 1024 to {}",
                u16::MAX - RANGE
            )),
        }
    }
}

/// Gives out ports that are free now.
#[derive(Debug)]
pub struct Ports {
    base: Option<u16>,
    /// Whether a port that is taken may be replaced.
    strict: bool,
    /// Held as long as a range is in use, so that others started meanwhile take another.
    _lock: Option<File>,
    /// Where replacements of well-known ports come from.
    spare: Option<Box<Ports>>,
}

impl Ports {
    /// By `--port-base`; without it, the well-known ports where they are free.
    pub fn new(base: Option<Base>) -> Outcome<Ports> {
        match base {
            Some(Base::Auto) => Ports::auto(),
            Some(Base::At(base)) => Ok(Ports {
                base: Some(base),
                strict: true,
                _lock: None,
                spare: None,
            }),
            None => Ok(Ports {
                base: None,
                strict: false,
                _lock: None,
                spare: None,
            }),
        }
    }

    /// A range that nobody uses and no other `up` has taken.
    pub fn auto() -> Outcome<Ports> {
        for base in AUTO.step_by(usize::from(RANGE)) {
            let lock = match lock(base) {
                Lock::Ours(lock) => Some(lock),
                Lock::Theirs => continue,
                // Another user's: whoever binds first has it.
                Lock::Unknown => None,
            };
            let free = (base..base + RANGE).all(|port| {
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                is_free(address, false) && is_free(address, true)
            });
            if free {
                return Ok(Ports {
                    base: Some(base),
                    strict: true,
                    _lock: lock,
                    spare: None,
                });
            }
        }
        Err(Failure::failed(format!(
            "no {RANGE} free ports in a row between {} and {}",
            AUTO.start, AUTO.end
        )))
    }

    /// The port of the `index`-th listener of a kind.
    pub fn take(&mut self, what: Use, index: usize, ip: IpAddr) -> Outcome<SocketAddr> {
        if index >= SLOTS {
            return Err(Failure::usage(format!("at most {SLOTS} regions fit")));
        }
        let first = self.base.map_or(what.known(), |base| base + what.offset());
        let address = SocketAddr::new(ip, first + index as u16);
        if is_free(address, what.is_udp()) {
            return Ok(address);
        }
        if self.strict {
            return Err(Failure::failed(format!(
                "port {} ({what}) is in use by another program; stop it, or take --port-base auto",
                address.port()
            )));
        }
        let spare = match &mut self.spare {
            Some(spare) => spare,
            none => none.insert(Box::new(Ports::auto()?)),
        };
        let instead = spare.take(what, index, ip)?;
        eprintln!(
            "longspan up: port {} ({what}) is in use by another program; taking {}",
            address.port(),
            instead.port()
        );
        Ok(instead)
    }
}

enum Lock {
    Ours(File),
    Theirs,
    Unknown,
}

/// One file for each range; whoever holds its lock has the range, until the process ends.
fn lock(base: u16) -> Lock {
    let folder = env::temp_dir().join("longspan-ports");
    let _ = fs::create_dir_all(&folder);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join(base.to_string()));
    match file.map(|file| (file.try_lock(), file)) {
        Ok((Ok(()), file)) => Lock::Ours(file),
        Ok((Err(TryLockError::WouldBlock), _)) => Lock::Theirs,
        _ => Lock::Unknown,
    }
}

fn is_free(address: SocketAddr, udp: bool) -> bool {
    if udp {
        UdpSocket::bind(address).is_ok()
    } else {
        TcpListener::bind(address).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_a_number_or_auto() {
        assert_eq!("auto".parse(), Ok(Base::Auto));
        assert_eq!("20000".parse(), Ok(Base::At(20_000)));
        assert!("80".parse::<Base>().is_err());
        assert!("65500".parse::<Base>().is_err());
        assert!("free".parse::<Base>().is_err());
    }

    #[test]
    fn a_taken_port_is_named_or_replaced() {
        let mut ports = Ports::auto().expect("free ports");
        let ip = IpAddr::from([127, 0, 0, 1]);
        let address = ports.take(Use::Grpc, 0, ip).expect("a port");
        let _taken = TcpListener::bind(address).expect("it is free");
        let told = ports.take(Use::Grpc, 0, ip).expect_err("taken").to_string();
        assert!(told.contains(&address.port().to_string()), "{told}");
        assert!(
            told.contains("gRPC") && told.contains("--port-base auto"),
            "{told}"
        );
        ports.strict = false;
        let other = ports.take(Use::Grpc, 0, ip).expect("another port");
        assert_ne!(other.port(), address.port());
    }
}
