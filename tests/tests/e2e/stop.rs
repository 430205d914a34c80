//! `longspan up` is told to stop: every node ends by itself, whatever its links are like.

use std::time::Duration;

use super::{backbone::Backbone, flv::Viewer, process::eventually};

/// DESIGN's five seconds, and what a busy machine adds.
const STOP: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn every_node_ends_by_itself_with_dead_and_with_young_connections() {
    let mut backbone = Backbone::start(&["--regions", "cn-shanghai,hk,sg"]);
    let url = format!("{}/live/lesson/teacher.flv", backbone.region("sg").http);
    let mut viewer = eventually("a viewer", Duration::from_secs(60), async || {
        Viewer::open(&url).await.ok()
    })
    .await;
    assert!(viewer.next_video(Duration::from_secs(30)).await.is_some());
    let lab = |args: &[&str]| {
        let (code, _, errors) = backbone.run(&[&["lab"], args].concat());
        assert_eq!(code, 0, "{args:?}: {errors}");
    };
    // Packets between these go nowhere, those of the one that is back are seconds old, and this
    // one hears nothing at all until it is told to stop.
    lab(&["link", "cut", "cn-shanghai", "hk"]);
    lab(&["node", "restart", &backbone.region("sg").relay]);
    lab(&["node", "stop", &backbone.region("hk").edge]);
    backbone.process.signal("TERM");
    let status = backbone.process.wait(STOP);
    // It is 1 where a node was killed, or ended with another code than 0.
    assert_eq!(status.code(), Some(0));
}
