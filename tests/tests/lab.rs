//! The TUN lab: programs that know nothing of it, on hosts that only the model joins. Each of
//! these needs /dev/net/tun and the right to make namespaces, and fails with the reason where it
//! has not got them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{binary, longspan};

/// How long anything may take that is waited for: an unoptimised build on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A lab's folder and what is called in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// `longspan …` with this data directory, by `wrapper` (as a user without rights, say).
    fn command(&self, wrapper: &[&str], args: &[&str]) -> Command {
        let mut command = match wrapper {
            [] => Command::new(binary()),
            [program, args @ ..] => {
                let mut command = Command::new(program);
                command.args(args).arg(binary());
                command
            }
        };
        command
            .args(args)
            .env("LONGSPAN_DATA_DIR", self.path())
            .env("LONGSPAN", binary())
            .env("FOLDER", self.path());
        command
    }

    /// Runs a shell script in the first host of a lab.
    fn script(&self, wrapper: &[&str], world: &[&str], script: &str) -> Output {
        let file = self.path().join("script");
        fs::write(&file, format!("set -eu\n{script}")).expect("written");
        let file = file.to_str().expect("a path").to_owned();
        let args = [&["lab", "run"], world, &["--", "bash", &file]].concat();
        self.command(wrapper, &args).output().expect("it runs")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn fine(output: &Output) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out
}

/// Asks etcd on the other host, over 33 ms, with the link whole, cut, and whole again.
const ETCD: &str = r#"
etcd=${LONGSPAN_TEST_ETCD:-etcd}
"$LONGSPAN" lab node start etcd --on sg -- "$etcd" --log-level error --data-dir "$FOLDER/etcd" \
  --listen-client-urls http://10.77.0.2:2379 --advertise-client-urls http://10.77.0.2:2379 \
  --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
  --initial-cluster default=http://127.0.0.1:2380
export ETCDCTL_API=3
ask() { etcdctl --endpoints http://10.77.0.2:2379 --dial-timeout 2s --command-timeout "${within:-5s}" "$@"; }
until_fine() { for _ in $(seq 60); do ask "$@" && return; sleep 0.2; done; cat "$FOLDER/lab/logs/etcd.txt"; return 1; }
until_fine put key value
ask get key
"$LONGSPAN" lab link cut hk sg --one-way
within=1s ask get key && { echo "a cut link carried something"; exit 1; }
"$LONGSPAN" lab link restore hk sg --one-way
until_fine get key
"$LONGSPAN" lab node stop etcd
"$LONGSPAN" lab node ls -o json | grep -q '"state": "frozen"'
within=1s ask get key && { echo "a frozen process answered"; exit 1; }
"$LONGSPAN" lab node continue etcd
until_fine get key
"$LONGSPAN" lab node restart etcd
until_fine get key
"$LONGSPAN" lab node kill etcd
"$LONGSPAN" lab node ls -o json | grep -q '"how": "signal 9"'
"$LONGSPAN" lab link ls -o json
"#;

#[test]
fn etcd_serves_across_a_link_that_is_cut_and_restored() {
    let folder = Folder::new();
    let output = folder.script(&[], &["--regions", "hk,sg"], ETCD);
    let out = fine(&output);
    assert!(out.matches("value").count() >= 4, "{out}");
    let links = out.find("{\n").map(|at| &out[at..]).expect("JSON");
    let links: Value = serde_json::from_str(links).expect("JSON");
    let carried = links["carried"].as_array().expect("links");
    let hk = carried.iter().find(|link| link["from"] == "hk");
    let hk = hk.expect("hk sent something");
    assert!(hk["packets"].as_u64() > Some(20), "{hk}");
    assert!(hk["lost"].as_u64() > Some(0), "{hk}");
}

/// Without the rights of root; where this is not root there is nothing to take away. One that may
/// not make user namespaces, as in a chroot, has to be told so.
#[test]
fn whoever_has_no_rights_gets_a_user_namespace_or_the_reason() {
    let root = fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    // CAP_SETFCAP: the kernel asks for it where root maps itself (user_namespaces(7)).
    let wrapper: &[&str] = if root {
        &["setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all"]
    } else {
        &[]
    };
    let mut may = Command::new(wrapper.first().unwrap_or(&"unshare"));
    may.args(wrapper.iter().skip(1));
    if root {
        may.arg("unshare");
    }
    let may = may.args(["--user", "true"]).output().expect("unshare runs");
    let folder = Folder::new();
    let world = ["--regions", "hk,sg", "--on", "sg"];
    let output = folder.script(
        wrapper,
        &world,
        "ip -brief address; \"$LONGSPAN\" lab exec hk -- ip -brief address; cat /proc/self/uid_map",
    );
    if may.status.success() {
        let out = fine(&output);
        assert!(
            out.contains("10.77.0.2/24") && out.contains("10.77.0.1/24"),
            "{out}"
        );
        // One identity, not all of them.
        assert!(!out.contains("4294967295"), "{out}");
    } else {
        let err = text(&output.stderr);
        assert!(
            err.contains("user namespaces are not allowed here"),
            "{err}"
        );
    }
}

#[test]
fn what_is_missing_is_named() {
    let folder = Folder::new();
    let run = ["lab", "run", "--regions", "hk", "--", "true"];
    let refused = |command: &mut Command| {
        let output = command.output().expect("it runs");
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        err
    };
    let nowhere = folder.path().join("nowhere");
    let err = refused(folder.command(&[], &run).env("PATH", &nowhere));
    assert!(
        err.contains("program ip") && err.contains("iproute2"),
        "{err}"
    );
    // A /dev/net without the device, in a mount namespace of its own (and, without rights, in a
    // user namespace). Where that may not be made, the test above says so.
    let hide = "mount -t tmpfs none /dev/net && exec \"$@\"";
    let wrapper = [
        "unshare",
        "--map-root-user",
        "--mount",
        "bash",
        "-c",
        hide,
        "-",
    ];
    let may = Command::new(wrapper[0])
        .args(&wrapper[1..6])
        .args(["-", "true"])
        .status();
    let mut wrapper = wrapper.to_vec();
    if !may.expect("unshare runs").success() {
        // Root in a chroot: no user namespace, none needed.
        wrapper.remove(1);
    }
    let err = refused(&mut folder.command(&wrapper, &run));
    assert!(
        err.contains("/dev/net/tun") && err.contains("modprobe tun"),
        "{err}"
    );
    let args = ["lab", "run", "--regions", "hk", "--", "no-such-program"];
    let output = folder.command(&[], &args).output().expect("it runs");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("no-such-program in host hk"), "{err}");
}

#[test]
fn the_command_line_says_what_it_ends_with_and_refuses_what_cannot_be() {
    let folder = Folder::new();
    let output = folder.script(&[], &["--regions", "hk"], "exit 7");
    assert_eq!(output.status.code(), Some(7));
    let output = folder.script(&[], &["--regions", "hk"], "kill -KILL $$");
    assert_eq!(output.status.code(), Some(128 + 9));
    // One lab in another, with a folder of its own.
    let nested = r#"
"$LONGSPAN" lab run --data-dir "$FOLDER/nested" --regions sg,hk --on hk -- \
  sh -c 'ip -brief address; "$LONGSPAN" lab exec sg -- ip -brief address'
"$LONGSPAN" lab exec hk -- ip -brief address"#;
    let out = fine(&folder.script(&[], &["--regions", "hk"], nested));
    let seen = ["10.77.0.2/24", "10.77.0.1/24", "10.77.0.1/24"];
    let lines: Vec<&str> = out.lines().filter(|line| line.contains("wan0")).collect();
    assert_eq!(lines.len(), seen.len(), "{out}");
    for (line, address) in lines.into_iter().zip(seen) {
        assert!(line.contains(address), "{out}");
    }
    let usage = [
        (
            &["--regions", "hk,sgg"][..],
            "\"sgg\" is not in the matrix (did you mean sg?)",
        ),
        (&["--regions", "hk", "--on", "sg"], "no such host"),
        (
            &["--regions", "hk", "--matrix", "/nowhere.csv"],
            "/nowhere.csv",
        ),
    ];
    for (world, wanted) in usage {
        let output = folder.script(&[], world, "true");
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.contains(wanted), "{err}");
    }
    let output = longspan(&["lab", "exec", "hk", "--data-dir"])
        .arg(folder.path())
        .args(["--", "true"])
        .output()
        .expect("it runs");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("no longspan lab runs"), "{err}");
}

#[test]
fn a_schedule_changes_the_world_while_a_command_runs() {
    let folder = Folder::new();
    let file = folder.path().join("schedule.toml");
    fs::write(
        &file,
        "[[step]]\nat_ms = 100\nfrom = 'hk'\nto = 'sg'\none_way = true\naction = { profile = 'brownout' }\n",
    )
    .expect("written");
    let world = [
        "--regions",
        "hk,sg",
        "--schedule",
        file.to_str().expect("a path"),
    ];
    let script = r#"
for _ in $(seq 300); do
  "$LONGSPAN" lab link ls -o json | grep -q '"extra_delay_ms": 80' && exit 0
  sleep 0.05
done
exit 1"#;
    fine(&folder.script(&[], &world, script));
}

/// A lab that is told to stay, with a program in it.
struct Staying {
    folder: Folder,
    outer: Child,
}

impl Staying {
    fn start() -> Staying {
        let folder = Folder::new();
        let outer = folder
            .command(&[], &["lab", "run", "--regions", "hk,sg"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut staying = Staying { folder, outer };
        let began = Instant::now();
        let start = [
            "lab", "node", "start", "idle", "--on", "sg", "--", "sleep", "86399",
        ];
        loop {
            let output = staying
                .folder
                .command(&[], &start)
                .output()
                .expect("it runs");
            if output.status.success() {
                return staying;
            }
            if staying.outer.try_wait().expect("a child").is_some() || began.elapsed() > SOON {
                let _ = staying.outer.kill();
                let mut err = String::new();
                let mut pipe = staying.outer.stderr.take().expect("piped");
                let _ = std::io::Read::read_to_string(&mut pipe, &mut err);
                panic!("{err}{}", text(&output.stderr));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The processes of the lab from the outermost to the lab itself.
    fn chain(&self) -> Vec<u32> {
        let mut chain = vec![self.outer.id()];
        for _ in 0..2 {
            let last = chain[chain.len() - 1];
            let children = fs::read_to_string(format!("/proc/{last}/task/{last}/children"));
            let children = children.expect("it runs");
            let child = children.split_whitespace().next().expect("a child");
            chain.push(child.parse().expect("a number"));
        }
        chain
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

/// Network namespaces that processes and their threads are in, apart from our own.
fn namespaces() -> Vec<String> {
    let own = fs::read_link("/proc/self/ns/net").expect("our own");
    let mut found = Vec::new();
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    for tasks in processes.filter_map(|process| fs::read_dir(process.path().join("task")).ok()) {
        let links = tasks
            .flatten()
            .map(|task| fs::read_link(task.path().join("ns/net")));
        found.extend(links.flatten().filter(|link| *link != own));
    }
    found.sort();
    found.dedup();
    found
        .iter()
        .map(|link| link.display().to_string())
        .collect()
}

/// Whether a process has this command line.
fn runs(marker: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines
        .map(|line| text(&line).replace('\0', " "))
        .any(|line| line.starts_with(marker))
}

#[test]
fn whichever_process_of_a_lab_is_killed_nothing_of_it_is_left() {
    for victim in 0..3 {
        let mut staying = Staying::start();
        // Of this lab alone: another test's may run beside it.
        let chain = staying.chain();
        let of_lab: Vec<String> = fs::read_dir(format!("/proc/{}/task", chain[2]))
            .expect("threads")
            .flatten()
            .filter_map(|task| fs::read_link(task.path().join("ns/net")).ok())
            .map(|link| link.display().to_string())
            .collect();
        assert!(
            of_lab
                .iter()
                .all(|namespace| namespaces().contains(namespace))
        );
        let exec = ["lab", "exec", "hk", "--", "sleep", "86398"];
        let mut guest = staying.folder.command(&[], &exec).spawn().expect("it runs");
        let began = Instant::now();
        while !runs("sleep 86398") && began.elapsed() < SOON {
            thread::sleep(Duration::from_millis(20));
        }
        let status = Command::new("kill")
            .args(["-KILL", &chain[victim].to_string()])
            .status();
        assert!(status.expect("kill runs").success());
        let began = Instant::now();
        let left = |guest: &mut Child| {
            let mut left: Vec<String> = namespaces();
            left.retain(|namespace| of_lab.contains(namespace));
            left.extend(chain[1..].iter().map(ToString::to_string).filter(|pid| {
                // A zombie of ours has no memory any more.
                fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
            }));
            if guest.try_wait().expect("a child").is_none() {
                left.push("a program that was started from outside".to_owned());
            }
            left
        };
        loop {
            let left = left(&mut guest);
            if left.is_empty() {
                break;
            }
            assert!(began.elapsed() < SOON, "victim {victim}: {left:?} are left");
            thread::sleep(Duration::from_millis(20));
        }
        let _ = staying.outer.wait();
        // The folder is free for the next one.
        let output = staying.folder.script(&[], &["--regions", "hk"], "true");
        fine(&output);
    }
}

#[test]
fn only_one_lab_at_a_time_has_a_folder_and_only_its_user_reaches_it() {
    let mut staying = Staying::start();
    let output = staying.folder.script(&[], &["--regions", "hk"], "true");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{err}");
    assert!(err.contains(&staying.outer.id().to_string()), "{err}");
    let folder = staying.folder.path().join("lab");
    let mode = fs::metadata(&folder)
        .expect("a folder")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    let stop = Command::new("kill")
        .args(["-TERM", &staying.outer.id().to_string()])
        .status();
    assert!(stop.expect("kill runs").success());
    let began = Instant::now();
    let status = loop {
        if let Some(status) = staying.outer.try_wait().expect("a child") {
            break status;
        }
        assert!(began.elapsed() < SOON, "SIGTERM does not end it");
        thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}");
    assert!(!folder.join("lab.sock").exists());
}

/// Not the times, which are the machine's: what chance and order decide has to be as it was told,
/// and nothing may arrive before its time.
#[test]
fn the_model_holds_end_to_end() {
    let folder = Folder::new();
    let output = folder
        .command(&[], &["lab", "selftest", "--short", "-o", "json"])
        .output()
        .expect("it runs");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
    let checks = report["checks"].as_array().expect("checks");
    let number = |check: &Value, key: &str| check[key].as_f64().expect("a number");
    let mut seen = 0;
    for check in checks {
        match check["unit"].as_str().expect("a unit") {
            "ms" => {
                let earliest = number(check, "set") - number(check, "tolerance");
                assert!(number(check, "measured") >= earliest, "{check}");
            }
            "Mbit/s" => assert!(number(check, "measured") > 0.0, "{check}"),
            _ => {
                seen += 1;
                assert_eq!(check["ok"], true, "{check}");
            }
        }
    }
    assert!(seen >= 15 && checks.len() > 40, "{} checks", checks.len());
    // The exit code is the report's.
    assert_eq!(output.status.success(), report["ok"] == true);
}
