//! The backbone on a real etcd, and without it.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    backbone::{Backbone, binary},
    flv::Viewer,
    http, media,
    process::{Process, eventually, signal},
};

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}

/// An etcd of the test's own, on free ports.
pub struct Etcd {
    process: Option<Process>,
    data: TempDir,
    pub client: String,
    peer: String,
}

impl Etcd {
    pub fn start() -> Etcd {
        let mut etcd = Etcd::new();
        etcd.run();
        etcd
    }

    /// One that does not run yet.
    fn new() -> Etcd {
        let (client, peer) = (format!("http://{}", free()), format!("http://{}", free()));
        let data = tempfile::tempdir().expect("a temporary directory");
        Etcd {
            process: None,
            data,
            client,
            peer,
        }
    }

    fn run(&mut self) {
        let program = std::env::var("LONGSPAN_TEST_ETCD").unwrap_or_else(|_| "etcd".into());
        let mut command = Command::new(&program);
        command
            .args(["--name", "test", "--log-level", "error", "--data-dir"])
            .arg(self.data.path().join("etcd"))
            .args([
                "--listen-client-urls",
                &self.client,
                "--advertise-client-urls",
                &self.client,
            ])
            .args([
                "--listen-peer-urls",
                &self.peer,
                "--initial-advertise-peer-urls",
                &self.peer,
            ])
            .args(["--initial-cluster", &format!("test={}", self.peer)])
            .stdin(Stdio::null());
        self.process = Some(Process::spawn("etcd", &mut command));
    }

    fn kill(&mut self) {
        self.process = None;
    }

    pub fn keys(&self) -> Vec<String> {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args([
                "--endpoints",
                &self.client,
                "get",
                "--prefix",
                "/longspan/v1/",
                "--keys-only",
            ])
            .output()
            .expect("etcdctl runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .filter(|l| !l.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

fn holds(keys: &[String], key: &str) -> bool {
    keys.iter().any(|k| k == key)
}

async fn version(backbone: &Backbone) -> String {
    backbone.api("/api/v1/topology").await["version"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_follow_leases_and_a_lost_store_disturbs_nothing() {
    let mut etcd = Etcd::start();
    let backbone = Backbone::start(&[
        "--no-sample",
        "--regions",
        "cn-shanghai,hk,sg",
        "--etcd",
        &etcd.client,
    ]);
    let from = backbone.region("cn-shanghai");
    let to = backbone.region("sg");
    let url = format!("{}/live/class/teacher.flv", to.http);
    let _publisher = media::publish(&format!("{}/live/class/teacher", from.rtmp), None);
    let mut viewer = eventually(
        "a viewer in Singapore",
        Duration::from_secs(30),
        async || Viewer::open(&url).await.ok(),
    )
    .await;
    let watched = format!("{}/live/class/teacher.flv", backbone.region("hk").http);
    let mut in_hk = Viewer::open(&watched).await.expect("a viewer in Hong Kong");
    assert!(in_hk.next_video(Duration::from_secs(10)).await.is_some());

    let room = "/longspan/v1/tenants/default/rooms/class";
    let hk = backbone.region("hk");
    let expected = [
        format!("/longspan/v1/nodes/{}", from.relay),
        format!("/longspan/v1/nodes/{}", hk.edge),
        room.to_owned(),
        format!("{room}/streams/teacher"),
        format!("{room}/edges/{}", to.edge),
        format!("{room}/edges/{}", hk.edge),
    ];
    eventually(
        "nodes, room, stream and edges stand in etcd",
        Duration::from_secs(20),
        async || {
            let keys = etcd.keys();
            expected.iter().all(|key| holds(&keys, key)).then_some(())
        },
    )
    .await;

    // An edge that dies: its lease takes its records away.
    signal(backbone.child(&hk.edge), "KILL");
    drop(in_hk);
    eventually(
        "the killed edge's records vanish",
        Duration::from_secs(40),
        async || {
            let keys = etcd.keys();
            let gone = !holds(&keys, &expected[1]) && !holds(&keys, &expected[5]);
            (gone && holds(&keys, &expected[4])).then_some(())
        },
    )
    .await;

    // The store is lost under a running lesson: every picture of the next 20 s is there.
    let before = version(&backbone).await;
    etcd.kill();
    let mut last = viewer
        .next_video(Duration::from_secs(10))
        .await
        .expect("the lesson runs")
        .timestamp;
    let until = last + 20_000;
    while last < until {
        let tag = viewer
            .next_video(Duration::from_secs(10))
            .await
            .expect("the lesson runs on without the store");
        assert!(
            tag.timestamp > last && tag.timestamp - last <= 70,
            "a hole from {last} to {} ms",
            tag.timestamp
        );
        last = tag.timestamp;
    }

    // It comes back: a new room opens and tables move on.
    etcd.run();
    let second = format!("{}/live/evening/teacher.flv", to.http);
    let mut retry = None;
    let mut evening = eventually("a new room opens", Duration::from_secs(60), async || {
        if retry.as_mut().is_none_or(|p: &mut Process| !p.is_running()) {
            retry = Some(media::publish(
                &format!("{}/live/evening/teacher", from.rtmp),
                None,
            ));
        }
        Viewer::open(&second).await.ok()
    })
    .await;
    assert!(evening.next_video(Duration::from_secs(10)).await.is_some());
    let (code, _, errors) = backbone.run(&[
        "lab",
        "link",
        "degrade",
        "cn-shanghai",
        "hk",
        "--delay",
        "400ms",
    ]);
    assert_eq!(code, 0, "{errors}");
    eventually(
        "the table version advances",
        Duration::from_secs(40),
        async || (version(&backbone).await != before).then_some(()),
    )
    .await;
    let keys = etcd.keys();
    assert!(
        !holds(&keys, &expected[1]),
        "a dead edge does not come back with the store"
    );
    assert!(Path::new(backbone.data()).is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_is_not_there_is_named_and_tried_again() {
    const TOKEN: &str = "0123456789abcdef";
    let mut etcd = Etcd::new();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (api, log) = (free(), folder.path().join("log.txt"));
    fs::write(folder.path().join("token"), TOKEN).expect("written");
    let config = format!(
        "[controller]\nid = \"controller-1\"\ngrpc_listen = \"127.0.0.1:0\"\nhttp_listen = \"{api}\"\n\
         [store]\nkind = \"etcd\"\nendpoints = [\"{}\"]\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"token\"\n",
        etcd.client
    );
    fs::write(folder.path().join("controller.toml"), config).expect("written");
    let mut command = Command::new(binary());
    command
        .args(["controller", "--config", "controller.toml"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stderr(File::create(&log).expect("a log"));
    let mut controller = Process::spawn("longspan controller", &mut command);

    // It says which etcd, again and again, and so does whoever asks it.
    let tries = || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        let lines = said.lines().filter(|line| line.contains("trying again"));
        lines.filter(|line| line.contains(&etcd.client)).count()
    };
    eventually("it tries again", Duration::from_secs(40), async || {
        (tries() >= 3).then_some(())
    })
    .await;
    let url = format!("http://{api}/api/v1/nodes");
    let answer = http::get_as(&url, Some(TOKEN)).await.expect("an answer");
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 503, "{body}");
    assert!(body.contains(&etcd.client), "{body}");
    assert!(controller.is_running());

    // No restart is needed once it is there.
    etcd.run();
    eventually("it leads", Duration::from_secs(40), async || {
        let answer = http::get_as(&url, Some(TOKEN)).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    assert!(holds(&etcd.keys(), "/longspan/v1/election"));
}
