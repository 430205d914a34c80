//! ARCHITECTURE.md's arrows and absences, read off the workspace itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the workspace")
        .into()
}

/// Workspace crate → the workspace crates it depends on (not for its tests).
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let short = |name: &str| name.strip_prefix("longspan-").map(str::to_owned);
    packages
        .iter()
        .map(|package| {
            let name = package["name"].as_str().expect("a name");
            let to = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .filter_map(|dependency| short(dependency["name"].as_str()?))
                .collect();
            (short(name).unwrap_or_else(|| "root".into()), to)
        })
        .collect()
}

#[test]
fn crates_point_only_where_the_architecture_says() {
    let allowed = [
        ("proto", vec![]),
        ("topology", vec!["proto"]),
        ("relay", vec!["proto", "topology"]),
        ("edge", vec!["proto", "topology", "relay"]),
        ("controller", vec!["proto", "topology"]),
        ("lab", vec!["proto"]),
        (
            "sim",
            vec!["proto", "topology", "relay", "controller", "lab"],
        ),
        (
            "root",
            vec![
                "proto",
                "topology",
                "relay",
                "edge",
                "controller",
                "lab",
                "sim",
            ],
        ),
        ("tests", vec![]),
    ];
    let arrows = arrows();
    let known: BTreeSet<&str> = allowed.iter().map(|(name, _)| *name).collect();
    for name in arrows.keys() {
        assert!(
            known.contains(name.as_str()),
            "crate {name} stands in no architecture"
        );
    }
    for (name, allowed) in allowed {
        for to in arrows.get(name).into_iter().flatten() {
            assert!(
                allowed.contains(&to.as_str()),
                "{name} must not depend on {to}"
            );
        }
    }
}

/// Folders and files that hold pure cores.
const PURE: [&str; 32] = [
    "proto/src",
    "topology/src",
    "relay/src/congestion",
    "relay/src/forward",
    "relay/src/roomlog/group",
    "relay/src/roomlog/host/record.rs",
    "relay/src/roomlog/machine",
    "relay/src/roomlog/policy.rs",
    "relay/src/roomlog/room",
    "edge/src/auth.rs",
    "edge/src/media",
    "edge/src/messages/finder.rs",
    "edge/src/messages/member.rs",
    "edge/src/messages/outbox.rs",
    "edge/src/messages/rate.rs",
    "edge/src/messages/view.rs",
    "edge/src/messages/wire",
    "edge/src/rtmp",
    "edge/src/flv",
    "edge/src/fmp4",
    "edge/src/hls",
    "edge/src/live/ring.rs",
    "controller/src/grpc/parse.rs",
    "controller/src/routes",
    "controller/src/state",
    "lab/src/history",
    "lab/src/matrix.rs",
    "lab/src/wan",
    "lab/src/world/change.rs",
    "lab/src/world/lane.rs",
    "lab/src/world/schedule.rs",
    "sim/src",
];

/// What a pure core may not name outside its tests.
const IMPURE: [&str; 14] = [
    "tokio::",
    "quinn::",
    "std::net::Udp",
    "std::net::Tcp",
    "UdpSocket",
    "TcpStream",
    "Instant::now",
    "SystemTime",
    "rand::rng(",
    "rand::random",
    "thread_rng",
    "std::fs",
    "std::env",
    "std::thread",
];

#[test]
fn pure_cores_read_no_clock_and_open_no_socket() {
    let mut files = Vec::new();
    for place in PURE {
        let place = root().join(place);
        let found = files.len();
        sources(&place, &mut files);
        assert!(
            files.len() > found,
            "{} holds no source: is the list out of date?",
            place.display()
        );
    }
    for file in files {
        let text = fs::read_to_string(&file).expect("a readable source");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            for word in IMPURE {
                assert!(
                    !line.contains(word),
                    "{}:{}: a pure core names {word}",
                    file.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn etcd_is_named_in_the_store_only() {
    let mut files = Vec::new();
    for crate_name in ["proto", "topology", "relay", "edge", "controller", "lab"] {
        sources(&root().join(crate_name).join("src"), &mut files);
    }
    sources(&root().join("src"), &mut files);
    for file in files {
        if file.starts_with(root().join("controller/src/store")) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a readable source");
        assert!(
            !text.contains("etcd_client"),
            "{} names etcd_client",
            file.display()
        );
    }
}

/// All Rust sources at or below `place`, without test modules in files of their own.
fn sources(place: &Path, into: &mut Vec<PathBuf>) {
    if place.is_file() {
        into.push(place.into());
        return;
    }
    let Ok(entries) = fs::read_dir(place) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, into);
        } else if name.ends_with(".rs") && !name.starts_with("test") {
            into.push(path);
        }
    }
}
