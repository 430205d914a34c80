//! The physical limit here: what any forwarder must at least pay for a frame to a receiver. One
//! AES-128-GCM seal and one place in a batched UDP send for each datagram, and one acknowledgement
//! received and opened for every two; or, with `--tcp`, one write to a TCP connection.

use std::{
    io::{self, IoSlice, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustix::{
    io::Errno,
    net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg},
};
use serde_json::{Value, json};

use super::{report, usage::Usage};
use crate::failure::{Failure, Outcome};

/// What is sent to whom.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Receivers, each with a socket of its own.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    subscribers: u32,
    /// Bytes a datagram or write.
    #[arg(long, default_value_t = 1_200, value_parser = clap::value_parser!(u32).range(64..=65_000))]
    size: u32,
    /// How long to send, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// TCP writes instead of sealed datagrams.
    #[arg(long)]
    tcp: bool,
}

/// Datagrams a system call.
const BATCH: usize = 64;
/// An acknowledgement's size: a short header, an ACK frame, a tag.
const ACK: usize = 40;

/// What one TCP write of so many bytes costs here, in µs.
pub fn us_per_write(subscribers: u32, size: u32, seconds: u64) -> Outcome<f64> {
    let (sent, cpu_us) = tcp(&Args {
        subscribers,
        size,
        seconds,
        tcp: true,
    })
    .map_err(Failure::failed)?;
    Ok(cpu_us as f64 / sent as f64)
}

/// Runs it.
pub fn run(args: &Args) -> Outcome<Value> {
    check()?;
    let (sent, cpu_us) = if args.tcp { tcp(args) } else { udp(args) }.map_err(Failure::failed)?;
    Ok(report::report(
        0,
        json!({
            "us_per_datagram": report::round(cpu_us as f64 / sent as f64, 2),
            "cpu_s_per_gbit": report::cpu_s_per_gbit(cpu_us, sent, args.size),
            "sent": sent,
            "cpu_us": cpu_us,
        }),
    ))
}

fn key() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).expect("16 bytes are a key"))
}

/// The thread's own CPU time: the receivers' threads are not counted.
fn thread_cpu_us() -> u64 {
    // The first field of schedstat is time on the CPU in ns (proc(5)).
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|ns| ns.parse::<u64>().ok())
        .unwrap_or(0)
        / 1_000
}

fn udp(args: &Args) -> io::Result<(u64, u64)> {
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    sender.set_nonblocking(true)?;
    let receivers = (0..args.subscribers)
        .map(|_| UdpSocket::bind("127.0.0.1:0"))
        .collect::<io::Result<Vec<_>>>()?;
    let key = key();
    let mut ack = vec![1; ACK];
    seal(&key, &mut ack);
    for receiver in &receivers {
        receiver.connect(sender.local_addr()?)?;
        receiver.set_nonblocking(true)?;
    }
    let addresses = receivers
        .iter()
        .map(UdpSocket::local_addr)
        .collect::<io::Result<Vec<_>>>()?;
    let payload = vec![5; args.size as usize];
    let mut sealed = vec![Vec::new(); BATCH];
    let mut inbox = [0; 2_048];
    let (mut sent, mut cpu_us) = (0, 0);
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut round = 0u64;
    while Instant::now() < end {
        let before = thread_cpu_us();
        for batch in addresses.chunks(BATCH) {
            for sealed in &mut sealed[..batch.len()] {
                sealed.clear();
                sealed.extend_from_slice(&payload);
                seal(&key, sealed);
            }
            sent += send(&sender, batch, &sealed)?;
        }
        while let Ok((len, _)) = sender.recv_from(&mut inbox) {
            key.open_in_place(nonce(), Aad::empty(), &mut inbox[..len])
                .map_err(|_| io::Error::other("an acknowledgement does not open"))?;
        }
        cpu_us += thread_cpu_us() - before;
        // What follows stands for the receivers and is not counted.
        round += 1;
        for receiver in &receivers {
            while receiver.recv(&mut inbox).is_ok() {}
            if round.is_multiple_of(2) {
                let _ = receiver.send(&ack);
            }
        }
    }
    Ok((sent, cpu_us))
}

/// One value for all: nobody reads what is sealed here.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([3; 12])
}

fn seal(key: &LessSafeKey, message: &mut Vec<u8>) {
    key.seal_in_place_append_tag(nonce(), Aad::empty(), message)
        .expect("a short message");
}

/// One datagram to each address in one system call; how many the socket took.
fn send(socket: &UdpSocket, to: &[SocketAddr], datagrams: &[Vec<u8>]) -> io::Result<u64> {
    let addresses: Vec<SocketAddrAny> = to.iter().map(|address| (*address).into()).collect();
    let slices: Vec<[IoSlice; 1]> = datagrams
        .iter()
        .map(|datagram| [IoSlice::new(datagram)])
        .collect();
    let mut controls: Vec<_> = to.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut messages: Vec<MMsgHdr> = addresses
        .iter()
        .zip(&slices)
        .zip(&mut controls)
        .map(|((address, slice), control)| MMsgHdr::new_with_addr(address, slice, control))
        .collect();
    match sendmmsg(socket, &mut messages, SendFlags::empty()) {
        Ok(sent) => Ok(sent as u64),
        Err(Errno::AGAIN) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn tcp(args: &Args) -> io::Result<(u64, u64)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut pairs = Vec::new();
    for _ in 0..args.subscribers {
        let receiver = TcpStream::connect(listener.local_addr()?)?;
        let (sender, _) = listener.accept()?;
        sender.set_nodelay(true)?;
        receiver.set_nonblocking(true)?;
        pairs.push((sender, receiver));
    }
    let payload = vec![5; args.size as usize];
    let mut inbox = vec![0; 256 << 10];
    let (mut sent, mut cpu_us) = (0, 0);
    let end = Instant::now() + Duration::from_secs(args.seconds);
    while Instant::now() < end {
        let before = thread_cpu_us();
        for (sender, _) in &mut pairs {
            sender.write_all(&payload)?;
            sent += 1;
        }
        cpu_us += thread_cpu_us() - before;
        for (_, receiver) in &mut pairs {
            while receiver.read(&mut inbox).is_ok_and(|n| n > 0) {}
        }
    }
    Ok((sent, cpu_us))
}

/// So that a run on a machine without `/proc` says so instead of printing zeros.
pub fn check() -> Outcome {
    let usage = Usage::of(std::process::id());
    usage
        .map(|_| ())
        .ok_or_else(|| Failure::failed("this machine has no /proc to measure with"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_send_and_count() {
        for tcp in [false, true] {
            let figures = run(&Args {
                subscribers: 3,
                size: 1_200,
                seconds: 1,
                tcp,
            })
            .unwrap();
            assert!(figures["sent"].as_u64().unwrap() > 100, "{figures}");
            assert!(
                figures["us_per_datagram"].as_f64().unwrap() > 0.0,
                "{figures}"
            );
        }
    }
}
