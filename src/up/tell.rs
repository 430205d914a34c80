//! What `up` says once everything is ready.

use std::{
    io::{Write, stdout},
    net::IpAddr,
    path::Path,
};

use serde::Serialize;

use super::{
    data_dir::Running,
    files::{SAMPLE, reachable},
    plan::Plan,
};
use crate::{
    failure::{Failure, Outcome},
    token,
};

/// How long the token in the page's address is good where rooms are not open, in seconds: a day.
const PAGE_TOKEN: u64 = 24 * 3_600;

/// The line of `-o json`.
#[derive(Debug, Serialize)]
pub struct Ready {
    ready: bool,
    controller: String,
    dashboard: String,
    admin_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<Sample>,
    regions: Vec<Region>,
    #[serde(skip)]
    jwt_keys: std::path::PathBuf,
}

#[derive(Debug, Serialize)]
struct Sample {
    room: String,
    stream: String,
    page: String,
}

#[derive(Debug, Serialize)]
struct Region {
    region: String,
    relay: Relay,
    edge: Edge,
}

#[derive(Debug, Serialize)]
struct Relay {
    id: String,
    quic: String,
    admin: String,
}

#[derive(Debug, Serialize)]
struct Edge {
    id: String,
    http: String,
    rtmp: String,
    admin: String,
}

/// What the text says beside that.
pub struct Entry<'a> {
    /// Rooms need no token.
    pub open: bool,
    /// Where users are served.
    pub listen: IpAddr,
    /// The profile's name.
    pub everywhere: &'a str,
    /// The data directory.
    pub data: &'a Path,
    /// How this program is called.
    pub command: &'a str,
}

impl Ready {
    /// From what was planned.
    pub fn new(plan: &Plan, running: &Running, users: IpAddr, sample: bool) -> Ready {
        let regions: Vec<Region> = plan
            .regions
            .iter()
            .map(|area| Region {
                region: area.region.to_string(),
                relay: Relay {
                    id: area.relay.id.to_string(),
                    quic: area.relay.quic.to_string(),
                    admin: format!("http://{}", area.relay.admin),
                },
                edge: Edge {
                    id: area.edge.id.to_string(),
                    http: format!("http://{}", reachable(area.edge.http, users)),
                    rtmp: format!("rtmp://{}", reachable(area.edge.rtmp, users)),
                    admin: format!("http://{}", area.edge.admin),
                },
            })
            .collect();
        let (room, stream) = SAMPLE;
        let sample = sample.then(|| Sample {
            room: room.to_owned(),
            stream: stream.to_owned(),
            page: format!("{}/classroom/{room}", far(&regions).edge.http),
        });
        Ready {
            ready: true,
            controller: format!("http://{}", plan.controller.grpc),
            dashboard: running.dashboard.clone(),
            admin_token: running.admin_token.clone(),
            sample,
            regions,
            jwt_keys: running.jwt_keys.clone(),
        }
    }

    /// One line.
    pub fn print_json(&self) -> Outcome {
        let line = serde_json::to_string(self).map_err(Failure::failed)?;
        print(&format!("{line}\n"))
    }

    /// For people.
    pub fn print_text(&self, entry: &Entry<'_>) -> Outcome {
        let (first, far) = (&self.regions[0], far(&self.regions));
        // In an address: nothing where rooms are open, else a token for this room.
        let access = |room: &str| -> Outcome<String> {
            if entry.open {
                return Ok(String::new());
            }
            let grant = token::Grant {
                room,
                identity: "up",
                publish: true,
                seconds: PAGE_TOKEN,
                tenant: None,
            };
            let token = token::mint(&self.jwt_keys, None, &grant)?;
            Ok(format!("?token={token}"))
        };
        let (page, class) = (access(SAMPLE.0)?, access("class")?);
        let mut text = String::new();
        let mut line =
            |label: &str, value: String| text.push_str(&format!("  {label:<10}{value}\n"));
        line(
            "page",
            format!("{}{page}#token={}", self.dashboard, self.admin_token),
        );
        line(
            "publish",
            format!(
                "ffmpeg -re -f lavfi -i testsrc2=size=640x360:rate=30 -f lavfi -i sine -c:v libx264 -g 60 -pix_fmt yuv420p -c:a aac -f flv '{}/live/class/teacher{class}'",
                first.edge.rtmp
            ),
        );
        line(
            "watch",
            format!("ffplay '{}/live/class/teacher.flv{class}'", far.edge.http),
        );
        let command = entry.command;
        line("look", format!("{command} node ls; {command} link ls"));
        if let [a, b, ..] = &self.regions[..] {
            let (a, b) = (&a.region, &b.region);
            line(
                "break",
                format!("{command} lab link degrade {a} {b} --delay 300ms"),
            );
        }
        line("stop", "Ctrl-C".to_owned());
        let regions: Vec<&str> = self
            .regions
            .iter()
            .map(|region| region.region.as_str())
            .collect();
        let rooms = if entry.open {
            if entry.listen.is_loopback() {
                "Rooms are open: whoever is on this machine may enter without a token.".to_owned()
            } else {
                format!("ROOMS ARE OPEN to everybody who reaches {}.", entry.listen)
            }
        } else {
            format!(
                "Rooms need a token: {} key token --room ROOM",
                entry.command
            )
        };
        print(&format!(
            "Longspan is up: {} (profile {}), data in {}\n{rooms}\n\n{text}",
            regions.join(", "),
            entry.everywhere,
            entry.data.display()
        ))
    }
}

/// Singapore, the far end of the sample lesson, or the last region.
fn far(regions: &[Region]) -> &Region {
    let far = regions.iter().find(|region| region.region == "sg");
    far.unwrap_or(&regions[regions.len() - 1])
}

fn print(text: &str) -> Outcome {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::failed(format!("cannot write to standard output: {error}")))
}
