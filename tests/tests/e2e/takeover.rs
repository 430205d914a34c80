//! Publishers that come back.

use std::time::Duration;

use super::{backbone::Backbone, flv::Viewer, media, process::eventually};

const BOUND: Duration = Duration::from_secs(40);

async fn generation(backbone: &Backbone, region: &str) -> Option<String> {
    let room = backbone.room(region, "class").await;
    room["streams"][0]["generation"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_go_on_with_the_next_generation() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "cn-shanghai,hk,sg"]);
    let publish = |region: &str| {
        media::publish(
            &format!("{}/live/class/teacher", backbone.region(region).rtmp),
            None,
        )
    };
    let url = format!("{}/live/class/teacher.flv", backbone.region("sg").http);

    let first = publish("cn-shanghai");
    let mut viewer = eventually("a viewer", BOUND, async || Viewer::open(&url).await.ok()).await;
    for _ in 0..60 {
        assert!(viewer.next_video(BOUND).await.is_some());
    }
    let before = generation(&backbone, "sg").await.expect("a generation");

    // Killed, and back at the same edge: the connection of the viewer stays.
    drop(first);
    let second = publish("cn-shanghai");
    let next = eventually("the next generation", BOUND, async || {
        generation(&backbone, "sg")
            .await
            .filter(|now| *now != before)
    })
    .await;
    let key = continue_with_a_key(&mut viewer).await;
    assert!(key, "a new generation begins with a key frame");

    // Back at another edge while the first still sends: the newer one wins, nothing is mixed.
    let mut second = second;
    let _third = publish("hk");
    eventually("the third generation", BOUND, async || {
        generation(&backbone, "sg").await.filter(|now| *now != next)
    })
    .await;
    assert!(continue_with_a_key(&mut viewer).await);
    eventually("the older publisher is sent away", BOUND, async || {
        (!second.is_running()).then_some(())
    })
    .await;
    let mut last = None;
    for _ in 0..90 {
        let tag = viewer.next_video(BOUND).await.expect("pictures go on");
        assert!(
            last.is_none_or(|last| tag.timestamp > last),
            "timestamps of two publishers are mixed"
        );
        last = Some(tag.timestamp);
    }
}

/// Reads until the timeline of a new publisher begins; whether its first picture is a key frame.
async fn continue_with_a_key(viewer: &mut Viewer) -> bool {
    let mut config = false;
    loop {
        let tag = viewer
            .next(BOUND)
            .await
            .expect("the viewer stays connected");
        if tag.kind != 9 {
            continue;
        }
        if tag.config {
            config = true;
        } else if config {
            return tag.key;
        }
    }
}
