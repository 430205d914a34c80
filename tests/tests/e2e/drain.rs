//! A relay is drained under a running lesson.

use std::time::Duration;

use serde_json::Value;

use super::{backbone::Backbone, controllers::runs_on, flv::Viewer, media, process::eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_drained_and_no_picture_is_missing() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "cn-shanghai,hk,sg"]);
    let from = backbone.region("cn-shanghai");
    let hk = backbone.region("hk");
    let url = format!("{}/live/class/teacher.flv", backbone.region("sg").http);
    let near = format!("{}/live/class/teacher.flv", hk.http);
    let _publisher = media::publish(&format!("{}/live/class/teacher", from.rtmp), None);
    let patience = Duration::from_secs(60);
    let open = async |url: &str| {
        eventually("a viewer", patience, async || Viewer::open(url).await.ok()).await
    };
    let (mut viewer, mut in_hk) = (open(&url).await, open(&near).await);
    runs_on(&mut viewer, 3_000).await;
    runs_on(&mut in_hk, 1_000).await;

    let plan = backbone.run(&["node", "drain", &hk.relay, "--dry-run", "-o", "json"]);
    let plan: Value = serde_json::from_str(&plan.1).unwrap_or_else(|e| panic!("{e}: {plan:?}"));
    assert_eq!(plan["edges"][0], hk.edge.as_str(), "{plan:#}");
    let nodes = backbone.api("/api/v1/nodes").await;
    let state = |nodes: &Value, id: &str| {
        let found = nodes
            .as_array()
            .and_then(|all| all.iter().find(|n| n["id"] == id).cloned());
        found.map(|node| node["state"].clone()).unwrap_or_default()
    };
    assert_eq!(state(&nodes, &hk.relay), "up", "a dry run changes nothing");

    let drained = tokio::task::spawn_blocking({
        let (data, relay) = (backbone.data().to_owned(), hk.relay.clone());
        move || {
            std::process::Command::new(super::backbone::binary())
                .args([
                    "node",
                    "drain",
                    &relay,
                    "--reason",
                    "new cables",
                    "--deadline",
                    "90s",
                ])
                .env("LONGSPAN_DATA_DIR", data)
                .output()
                .expect("longspan runs")
        }
    });
    let watching = async {
        loop {
            runs_on(&mut viewer, 1_000).await;
            runs_on(&mut in_hk, 1_000).await;
        }
    };
    let told = tokio::select! {
        never = watching => never,
        told = drained => told.expect("it ends"),
    };
    let (out, errors) = (
        String::from_utf8_lossy(&told.stdout).into_owned(),
        String::from_utf8_lossy(&told.stderr).into_owned(),
    );
    assert_eq!(told.status.code(), Some(0), "{out}{errors}");
    assert!(out.contains("drained"), "{out}");
    runs_on(&mut viewer, 2_000).await;
    runs_on(&mut in_hk, 2_000).await;
    let nodes = backbone.api("/api/v1/nodes").await;
    assert_eq!(state(&nodes, &hk.relay), "drained");
    let trace = backbone.run(&["room", "trace", "class"]);
    assert!(!trace.1.contains(&hk.relay), "{}", trace.1);
    let audit = backbone.run(&["audit", "ls"]);
    assert!(audit.1.contains("new cables"), "{}", audit.1);

    let (code, _, errors) = backbone.run(&["node", "undrain", &hk.relay, "--reason", "done"]);
    assert_eq!(code, 0, "{errors}");
    eventually("the edge comes back", patience, async || {
        let nodes = backbone.api("/api/v1/nodes").await;
        let all = nodes.as_array()?.iter();
        let edge = all.clone().find(|n| n["id"] == hk.edge.as_str())?;
        (edge["attached"][0] == hk.relay.as_str()).then_some(())
    })
    .await;
    runs_on(&mut in_hk, 2_000).await;
}
