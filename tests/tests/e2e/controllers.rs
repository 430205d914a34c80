//! Several controllers over one etcd: the leading one is killed under a running lesson.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    backbone::{Backbone, binary},
    flv::Viewer,
    http, media,
    process::{Process, eventually, signal},
    store::Etcd,
};

const TOKEN: &str = "0123456789abcdef";

/// A controller beside the one of `up`.
struct Controller {
    id: String,
    grpc: SocketAddr,
    http: SocketAddr,
    admin: SocketAddr,
}

impl Controller {
    fn plan(id: &str) -> Controller {
        let free = || {
            let listener = TcpListener::bind("127.0.0.1:0");
            listener.and_then(|l| l.local_addr()).expect("a free port")
        };
        Controller {
            id: id.to_owned(),
            grpc: free(),
            http: free(),
            admin: free(),
        }
    }

    fn start(&self, folder: &Path, etcd: &str) -> Process {
        std::fs::write(folder.join("token"), TOKEN).expect("written");
        let file = folder.join(format!("{}.toml", self.id));
        let Controller {
            id,
            grpc,
            http,
            admin,
        } = self;
        let config = format!(
            "[controller]\nid = \"{id}\"\ngrpc_listen = \"{grpc}\"\nhttp_listen = \"{http}\"\n\
             [store]\nkind = \"etcd\"\nendpoints = [\"{etcd}\"]\n\
             [admin]\nlisten = \"{admin}\"\ntoken_file = \"token\"\n[log]\nlevel = \"warn\"\n"
        );
        std::fs::write(&file, config).expect("written");
        let mut command = Command::new(binary());
        command.args(["controller", "--config"]).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Process::spawn(id, &mut command)
    }

    /// The API's answer, if this one leads.
    async fn leads(&self, path: &str) -> Option<Value> {
        let url = format!("http://{}{path}", self.http);
        let answer = http::get_as(&url, Some(TOKEN)).await.ok()?;
        (answer.status == 200).then(|| answer.json())
    }
}

/// Takes pictures for a while; none may be missing.
pub async fn runs_on(viewer: &mut Viewer, ms: u32) {
    let next = async |viewer: &mut Viewer| {
        let tag = viewer.next_video(Duration::from_secs(10)).await;
        tag.expect("the lesson runs on").timestamp
    };
    let mut last = next(viewer).await;
    let until = last + ms;
    while last < until {
        let at = next(viewer).await;
        assert!(
            at > last && at - last <= 70,
            "a hole from {last} to {at} ms"
        );
        last = at;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leading_controller_is_killed_and_no_route_changes() {
    let etcd = Arc::new(Etcd::start());
    let folder: TempDir = tempfile::tempdir().expect("a folder");
    let others = [
        Controller::plan("controller-8"),
        Controller::plan("controller-9"),
    ];
    let urls: Vec<String> = others
        .iter()
        .map(|c| format!("http://{}", c.grpc))
        .collect();
    // The others begin when `up`'s own leads; nodes know only the others, and are told by them who
    // leads.
    let (etcd_url, path) = (etcd.client.clone(), folder.path().to_owned());
    let waiting = etcd.clone();
    let (plans, processes) = std::thread::scope(|scope| {
        let begun = scope.spawn(|| {
            let deadline = Instant::now() + Duration::from_secs(60);
            while !waiting.keys().iter().any(|key| key.ends_with("/election")) {
                assert!(Instant::now() < deadline, "nobody leads within a minute");
                std::thread::park_timeout(Duration::from_millis(50));
            }
            let started = others.each_ref().map(|c| c.start(&path, &etcd_url));
            (others, started)
        });
        let args = [
            "--no-sample",
            "--profile",
            "clean",
            "--regions",
            "cn-shanghai,hk,sg",
        ];
        let etcd_args = ["--etcd", &etcd_url];
        let backbone = Backbone::start_with(
            &[&args[..], &etcd_args[..]].concat(),
            &[("LONGSPAN_CONTROLLER_URLS", &urls.join(","))],
        );
        let (plans, started) = begun.join().expect("controllers start");
        ((plans, backbone), started)
    });
    let ((controllers, backbone), _processes) = (plans, processes);

    let from = backbone.region("cn-shanghai");
    let to = backbone.region("sg");
    let url = format!("{}/live/class/teacher.flv", to.http);
    let _publisher = media::publish(&format!("{}/live/class/teacher", from.rtmp), None);
    let patience = Duration::from_secs(60);
    let mut viewer = eventually("a viewer in Singapore", patience, async || {
        Viewer::open(&url).await.ok()
    })
    .await;
    runs_on(&mut viewer, 5_000).await;
    let before = backbone.api("/api/v1/topology").await["routes"].clone();
    let way = backbone.path("sg", "class", "teacher").await;
    assert!(!way.is_empty());

    signal(backbone.child("controller-1"), "KILL");
    let killed = Instant::now();
    let next = async || {
        for controller in &controllers {
            if let Some(topology) = controller.leads("/api/v1/topology").await {
                return Some((controller, topology));
            }
        }
        None
    };
    let (leader, _) = eventually("another controller leads", patience, next).await;
    println!(
        "another controller leads {:?} after kill -9",
        killed.elapsed()
    );
    let nodes = eventually(
        "all nodes came to it, and took its table",
        patience,
        async || {
            let nodes = leader.leads("/api/v1/nodes").await?;
            let all = nodes.as_array()?.iter();
            let is_in = |n: &Value| n["up"] == true && n["table_acked"].is_string();
            (nodes.as_array()?.len() == 6 && all.clone().all(is_in)).then_some(nodes)
        },
    )
    .await;
    println!(
        "all {} nodes are back after {:?}",
        nodes.as_array().map_or(0, Vec::len),
        killed.elapsed()
    );
    runs_on(&mut viewer, 8_000).await;
    let after = leader.leads("/api/v1/topology").await.expect("it leads")["routes"].clone();
    assert_eq!(after, before, "a new leader is no reason to move");
    assert_eq!(backbone.path("sg", "class", "teacher").await, way);
    drop(etcd);
}
