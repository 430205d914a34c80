//! The command line as scripts see it: exit codes, one line on stderr, JSON.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use serde_json::Value;

/// The binary that was built beside this test.
pub fn binary() -> PathBuf {
    let exe = std::env::current_exe().expect("a path");
    let folder = exe.ancestors().find(|path| path.join("longspan").is_file());
    folder
        .expect("cargo build has made the longspan binary")
        .join("longspan")
}

/// `longspan` with nothing of the caller's environment that it would heed.
pub fn longspan(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    let ours = std::env::vars().filter(|(name, _)| name.starts_with("LONGSPAN_"));
    ours.for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> (i32, String, String) {
    told(longspan(args).output().expect("longspan runs"))
}

fn told(output: Output) -> (i32, String, String) {
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Runs it, expects the exit code and one line on stderr that holds all of `words`.
fn refused(args: &[&str], code: i32, words: &[&str]) {
    let (found, out, errors) = run(args);
    assert_eq!(found, code, "{args:?}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{args:?}: {errors}");
    assert!(errors.starts_with("longspan: "), "{errors}");
    for word in words {
        assert!(
            errors.contains(word),
            "{args:?}: {word:?} is not in {errors}"
        );
    }
    assert!(out.is_empty(), "{args:?}: {out}");
}

#[test]
fn help_version_schema_and_completion_succeed() {
    for args in [
        &["--help"][..],
        &["--version"],
        &["up", "--help"],
        &["completion", "bash"],
        &["completion", "zsh"],
        &["completion", "fish"],
        &["config", "schema"],
    ] {
        let (code, out, errors) = run(args);
        assert_eq!(code, 0, "{args:?}: {errors}");
        assert!(!out.is_empty() && errors.is_empty(), "{args:?}: {errors}");
    }
    let (_, help, _) = run(&["--help"]);
    // What does not exist yet is absent, not stubbed.
    for verb in ["netcheck", "top", "context"] {
        assert!(!help.contains(&format!("  {verb} ")), "{verb}");
    }
    let (_, schema, _) = run(&["config", "schema", "--role", "edge", "-o", "json"]);
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let keys = schema.as_array().expect("a list");
    assert!(
        keys.iter()
            .any(|key| key["key"] == "auth.jwt_keys" && key["reloads"] == true)
    );
    assert!(keys.iter().all(|key| key["key"] != "store.kind"));
}

#[test]
fn wrong_usage_is_one_line_and_2() {
    refused(&["nod", "ls"], 2, &["nod", "node"]);
    refused(&["node", "ls", "--fast"], 2, &["--fast"]);
    refused(&["node", "show"], 2, &["ID"]);
    for change in [
        &["node", "cordon", "hk-relay-1"][..],
        &["node", "drain", "hk-relay-1"],
        &["link", "cordon", "a", "b"],
        &["route", "unpin", "a", "b"],
    ] {
        refused(change, 2, &["--reason"]);
    }
    refused(
        &["link", "cost", "a", "b", "--reason", "r"],
        2,
        &["--add", "--factor", "--clear"],
    );
    refused(
        &["node", "cordon", "a", "--reason", "r", "--ttl", "30"],
        2,
        &["30", "30m"],
    );
    refused(
        &["up", "--regions", "hk,cn-shangai"],
        2,
        &["cn-shangai", "did you mean cn-shanghai?"],
    );
    refused(&["up", "--port-base", "80"], 2, &["1024"]);
    refused(
        &["up", "--profile", "cleen"],
        2,
        &["cleen", "did you mean clean?"],
    );
    refused(
        &["up", "--wan", "/nonexistent.csv"],
        2,
        &["/nonexistent.csv"],
    );
    refused(
        &["node", "ls", "--controller", "localhost:7480"],
        2,
        &["localhost:7480", "http://"],
    );
    refused(
        &["lab", "link", "degrade", "hk", "sg", "--delay", "300"],
        2,
        &["300ms"],
    );
    refused(
        &["relay", "--config", "/nonexistent.toml"],
        2,
        &["/nonexistent.toml"],
    );
}

#[test]
fn a_configuration_is_checked_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("relay.toml");
    let path = file.to_str().expect("text");
    let write = |text: &str| fs::write(&file, text).expect("written");
    let good = "[node]\nid = \"hk-relay-1\"\nregion = \"hk\"\n[tls]\nca = \"ca.pem\"\ncert = \"c.pem\"\n\
                key = \"k.pem\"\n[controller]\nurls = [\"http://127.0.0.1:7440\"]\n";
    write(good);
    let (code, out, errors) = run(&["config", "validate", path, "-o", "json"]);
    assert_eq!(code, 0, "{errors}");
    let valid: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&valid["valid"], &valid["role"]),
        (&true.into(), &"relay".into())
    );
    let shown = longspan(&["config", "show", path, "--set", "node.city=HK"])
        .env("LONGSPAN_LOG_LEVEL", "debug")
        .output();
    let (code, out, errors) = told(shown.expect("longspan runs"));
    assert_eq!(code, 0, "{errors}");
    assert!(
        out.lines()
            .any(|line| line.contains("log.level") && line.contains("LONGSPAN_LOG_LEVEL"))
    );
    assert!(
        out.lines()
            .any(|line| line.contains("node.city") && line.contains("--set"))
    );
    assert!(
        out.lines()
            .any(|line| line.contains("admin.listen") && line.contains("default"))
    );

    write(&good.replace("region", "regoin"));
    refused(
        &["config", "validate", path],
        2,
        &["node.regoin", "did you mean node.region?"],
    );
    refused(
        &["relay", "--config", path],
        2,
        &["node.regoin", "did you mean node.region?"],
    );
    write(&format!("{good}[quic]\nlisten = \"everywhere\"\n"));
    refused(
        &["config", "validate", path],
        2,
        &["quic.listen", "everywhere", "ip:port"],
    );
    write(&good.replace("\"hk-relay-1\"", "\"HK relay\""));
    refused(&["config", "validate", path], 2, &["HK relay", "a-z"]);
}

#[test]
fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    fs::write(folder.path().join("token"), "0123456789abcdef").expect("written");
    let file = folder.path().join("controller.toml");
    fs::write(
        &file,
        "[controller]\nid = \"controller-1\"\n[store]\nkind = \"embedded\"\npath = \"store.redb\"\n\
         [admin]\ntoken_file = \"token\"\nlisten = \"127.0.0.1:0\"\n",
    )
    .expect("written");
    let path = file.to_str().expect("text");
    for key in [
        "admin.listen",
        "controller.grpc_listen",
        "controller.http_listen",
    ] {
        let free = "=127.0.0.1:0";
        let set = |name: &str| {
            if name == key {
                format!("{name}={address}")
            } else {
                format!("{name}{free}")
            }
        };
        let sets = [
            set("admin.listen"),
            set("controller.grpc_listen"),
            set("controller.http_listen"),
        ];
        let mut args = vec!["controller", "--config", path];
        sets.iter().for_each(|set| args.extend(["--set", set]));
        let (code, _, errors) = run(&args);
        assert_eq!(code, 1, "{key}: {errors}");
        assert!(errors.contains(&address), "{key}: {errors}");
    }
}

#[test]
fn without_a_controller_it_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_str().expect("text");
    refused(
        &["node", "ls", "--data-dir", dir],
        1,
        &[dir, "no longspan up runs"],
    );
    refused(&["lab", "link", "ls", "--data-dir", dir], 1, &[dir]);
    // Nobody listens on a port that was just given back.
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let url = format!("http://{}", nobody.expect("a port"));
    refused(&["node", "ls", "--controller", &url], 1, &[&url, "refused"]);
}

/// Answers each request with what `answer` says for its path, until the test's process ends.
fn controller(answer: fn(&str) -> (u16, &'static str)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut request = String::new();
            let read = reader.read_line(&mut request);
            let mut header = String::new();
            while read.is_ok() && reader.read_line(&mut header).is_ok_and(|n| n > 2) {
                header.clear();
            }
            let (status, body) = answer(request.split(' ').nth(1).unwrap_or_default());
            let text = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = reader.get_mut().write_all(text.as_bytes());
        }
    });
    url
}

#[test]
fn answers_become_tables_json_and_exit_codes() {
    let url = controller(|path| match path {
        "/api/v1/nodes" => (
            200,
            r#"[{"id":"hk-relay-1","role":"relay","region":"hk","state":"up"},{"id":"sg-edge-1","state":"down"}]"#,
        ),
        "/api/v1/nodes/hk-relay-1" => (200, r#"{"id":"hk-relay-1","region":"hk"}"#),
        "/api/v1/nodes/hk-relay-2" => (
            404,
            r#"{"error":"not_found","message":"there is no node hk-relay-2 (did you mean hk-relay-1?)"}"#,
        ),
        "/api/v1/nodes/hk-relay-1/cordon" => {
            (200, r#"{"target":"node hk-relay-1","changed":true}"#)
        }
        "/api/v1/routes/pin" => (
            409,
            r#"{"error":"refused","message":"no link from a to b is up"}"#,
        ),
        "/api/v1/links/a/b/cost" => (
            400,
            r#"{"error":"bad_request","message":"added_ms: 20000 is not within 0 … 10000"}"#,
        ),
        "/api/v1/rooms/math%20101?tenant=default" => (
            404,
            r#"{"error":"not_found","message":"there is no room default/math 101"}"#,
        ),
        "/api/v1/rooms" => (
            403,
            r#"{"error":"forbidden","message":"not with this token"}"#,
        ),
        "/api/v1/links" => (503, r#"{"error":"unavailable","message":"nobody leads"}"#),
        _ => (
            401,
            r#"{"error":"unauthorized","message":"a token is needed"}"#,
        ),
    });
    let at = ["--controller", url.as_str()];
    let with = |args: &[&'static str]| [args, &at[..]].concat();

    let (code, out, errors) = run(&with(&["node", "ls"]));
    assert_eq!(code, 0, "{errors}");
    let lines: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0][..3], ["ID", "ROLE", "REGION"]);
    assert_eq!(lines[1][..5], ["hk-relay-1", "relay", "hk", "-", "up"]);
    let (_, out, _) = run(&with(&["node", "show", "hk-relay-1", "-o", "json"]));
    let node: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(node["region"], "hk");

    refused(
        &with(&["node", "show", "hk-relay-2"]),
        3,
        &["did you mean hk-relay-1?"],
    );
    refused(
        &with(&["room", "show", "math 101"]),
        3,
        &["there is no room default/math 101"],
    );
    let why = ["--reason", "new cables"];
    let cordon = [&["node", "cordon", "hk-relay-1"], &why[..]].concat();
    let (code, out, errors) = run(&with(&cordon));
    assert_eq!(
        (code, out.trim()),
        (0, "node hk-relay-1: cordoned"),
        "{errors}"
    );
    refused(
        &with(&[&["route", "pin", "a", "b"], &why[..]].concat()),
        4,
        &["no link from a to b is up"],
    );
    refused(
        &with(&[&["link", "cost", "a", "b", "--add", "20s"], &why[..]].concat()),
        2,
        &["20000", "10000"],
    );
    refused(&with(&["room", "ls"]), 4, &["not with this token"]);
    refused(&with(&["link", "ls"]), 1, &["nobody leads"]);
    refused(
        &with(&["route", "table", "x"]),
        4,
        &["LONGSPAN_ADMIN_TOKEN"],
    );
}

#[test]
fn keys_sign_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.toml");
    let file = file.to_str().expect("text");
    refused(
        &["key", "token", "--file", file, "--room", "math"],
        3,
        &["longspan key create"],
    );
    let (code, out, errors) = run(&[
        "key", "create", "--file", file, "--id", "school", "-o", "json",
    ]);
    assert_eq!(code, 0, "{errors}");
    let key: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(key["secret"].as_str().map(str::len), Some(64));
    refused(
        &["key", "create", "--file", file, "--id", "school"],
        4,
        &["school"],
    );
    let (code, out, errors) = run(&[
        "key",
        "token",
        "--file",
        file,
        "--room",
        "math",
        "--publish",
    ]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(out.trim().split('.').count(), 3, "{out}");
    refused(
        &["key", "token", "--file", file, "--room", "a/b"],
        2,
        &["a/b"],
    );
    let (_, out, _) = run(&["key", "ls", "--file", file]);
    assert!(out.contains("school") && !out.contains(key["secret"].as_str().expect("text")));
    assert!(Path::new(file).is_file());
}
