//! ffmpeg as an RTMP publisher and player.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use bytes::Bytes;
use longspan_edge::{
    flv::{self, Ingest},
    media::Kind,
    rtmp::{Event, Input, Output, Session, Target},
};

use crate::{
    assert_same,
    lesson::{self, Lesson},
    packets::{ffmpeg, packets, packets_with},
};

/// Nothing on the loopback takes longer; a test that would hang fails instead.
const STUCK: Duration = Duration::from_secs(60);

/// A connection with a session on our side of it.
struct Connection {
    session: Session,
    socket: TcpStream,
}

impl Connection {
    fn accept(listener: &TcpListener) -> Connection {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(STUCK)).unwrap();
        Connection {
            session: Session::new(1),
            socket,
        }
    }

    fn handle(&mut self, input: Input) -> Vec<Event> {
        self.session.handle(input).unwrap();
        let mut events = Vec::new();
        while let Some(output) = self.session.poll_output() {
            match output {
                // A player that has what it wants closes without reading to the end.
                Output::Send(bytes) => drop(self.socket.write_all(&bytes)),
                Output::Event(event) => events.push(event),
            }
        }
        events
    }

    /// Reads once; `None` at the end.
    fn read(&mut self) -> Option<Vec<Event>> {
        let mut buffer = [0; 4096];
        let len = self.socket.read(&mut buffer).unwrap();
        (len > 0).then(|| self.handle(Input::Bytes(Bytes::copy_from_slice(&buffer[..len]))))
    }
}

#[test]
fn publish() {
    let lesson = Lesson::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live/a/b?token=T", listener.local_addr().unwrap());
    let server = thread::spawn(move || collect(Connection::accept(&listener)));
    let input = lesson.path.to_str().unwrap();
    ffmpeg(&["-i", input, "-c", "copy", "-f", "flv", &url]);
    let (target, events) = server.join().unwrap();
    let (room, stream) = target.names().unwrap();
    assert_eq!((room.as_str(), stream.as_str()), ("a", "b"));
    assert_eq!(target.query("token").as_deref(), Some("T"));
    assert_eq!(events.last(), Some(&Event::Closed));

    // All it sent, as a file of ours.
    let mut ingest = Ingest::new();
    let mut ingested = Vec::new();
    for event in events {
        match event {
            Event::Metadata(metadata) => ingested.extend(ingest.metadata(metadata)),
            Event::Media {
                kind,
                timestamp,
                body,
            } => ingested.extend(ingest.media(kind, timestamp, body).unwrap()),
            _ => {}
        }
    }
    let (catalog, _) = lesson::cut(ingested.clone());
    assert!(catalog.encoder.is_some_and(|e| e.starts_with("Lavf")));
    let mut muxer = flv::Muxer::new(&lesson.catalog);
    let mut file = muxer.header().to_vec();
    for it in ingested {
        if let flv::Ingested::Sample(sample) = it {
            file.extend_from_slice(&muxer.sample(&sample));
        }
    }
    let published = lesson.write("published.flv", &file);
    assert_same(&packets(&published), &lesson.original);
}

fn collect(mut connection: Connection) -> (Target, Vec<Event>) {
    let mut target = None;
    let mut events = Vec::new();
    while let Some(more) = connection.read() {
        for event in more {
            if let Event::Publish(named) = event {
                target = Some(named);
                assert_eq!(connection.handle(Input::Accept), []);
            } else {
                events.push(event);
            }
        }
    }
    (target.unwrap(), events)
}

#[test]
fn a_rejected_publisher_fails_with_our_words() {
    let lesson = Lesson::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live/a/b", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut connection = Connection::accept(&listener);
        while let Some(events) = connection.read() {
            if matches!(events[..], [Event::Publish(_)]) {
                let description = "a/b is taken".to_owned();
                let code = "NetStream.Publish.BadName";
                let events = connection.handle(Input::Reject { code, description });
                assert_eq!(events, [Event::Closed]);
            }
        }
    });
    let output = std::process::Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(&lesson.path)
        .args(["-c", "copy", "-f", "flv", &url])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("a/b is taken"), "{errors}");
    server.join().unwrap();
}

#[test]
fn play() {
    let lesson = Lesson::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live/a/b", listener.local_addr().unwrap());
    let catalog = lesson.catalog.clone();
    let assembled = lesson.assembled();
    let server = thread::spawn(move || {
        let mut connection = Connection::accept(&listener);
        while let Some(events) = connection.read() {
            if !matches!(events[..], [Event::Play(_)]) {
                continue;
            }
            connection.handle(Input::Accept);
            connection.handle(Input::Metadata(flv::metadata(&catalog)));
            let mut media = |kind: Kind, timestamp, body| {
                connection.handle(Input::Media {
                    kind,
                    timestamp,
                    body,
                });
            };
            for (kind, body) in flv::config_bodies(&catalog) {
                media(kind, 0, body);
            }
            for it in &assembled {
                let ms = (it.sample.timestamp / 1_000) as u32;
                media(it.sample.kind, ms, flv::sample_body(&it.sample));
            }
            connection.handle(Input::End);
            return;
        }
        panic!("ffmpeg left without playing");
    });
    let played = packets_with(
        std::path::Path::new(&url),
        &["-c", "copy", "-f", "framemd5"],
        &["-rtmp_live", "live"],
    );
    server.join().unwrap();
    assert_same(&played, &lesson.original);
}
