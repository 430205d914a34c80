//! A lesson enters at one region and leaves at another.

use std::{collections::HashMap, time::Duration};

use super::{
    backbone::Backbone,
    flv::Viewer,
    http::{self, metric},
    media::{self, assert_same_run},
    process::eventually,
};

const SECONDS: u32 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn it_arrives_bit_exact_over_two_relays_and_follows_a_changed_link() {
    let backbone = Backbone::start(&["--no-sample"]);
    let (from, to) = (backbone.region("cn-beijing"), backbone.region("sg"));
    let files = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| files.path().join(name);

    let mut publisher = media::publish(
        &format!("{}/live/class/teacher", from.rtmp),
        Some(&file("sent.flv")),
    );
    eventually(
        "the stream is known at the far edge",
        Duration::from_secs(30),
        async || {
            let room = backbone.room("sg", "class").await;
            room["streams"]
                .as_array()
                .is_some_and(|s| !s.is_empty())
                .then_some(())
        },
    )
    .await;

    let kinds = [
        ("FLV", format!("{}/live/class/teacher.flv", to.http)),
        ("RTMP", format!("{}/live/class/teacher", to.rtmp)),
        ("HLS", format!("{}/hls/class/teacher/index.m3u8", to.http)),
    ];
    let mut players: Vec<_> = kinds
        .iter()
        .map(|(kind, url)| media::record(url, SECONDS, &file(kind)))
        .collect();

    let best = ["cn-beijing", "cn-shanghai", "hk", "sg"];
    eventually(
        "the path over Shanghai and Hong Kong",
        Duration::from_secs(30),
        async || (backbone.path("sg", "class", "teacher").await == best).then_some(()),
    )
    .await;

    let added = added_delay(&from.http, &to.http).await;
    eprintln!("Singapore sees a tag {added:?} after Beijing (90 ms of it are the path's)");

    for player in &mut players {
        let status = tokio::task::block_in_place(|| player.wait(Duration::from_secs(90)));
        assert!(status.success(), "a player ended with {status}");
    }

    // Each relay on the way says that it carried the lesson.
    for pair in best.windows(2) {
        let (here, next) = (backbone.region(pair[0]), backbone.region(pair[1]));
        let text = http::get(&format!("{}/metrics", here.relay_admin))
            .await
            .expect("metrics")
            .body;
        let text = String::from_utf8_lossy(&text);
        let frames = metric(&text, "longspan_frames_forwarded_total", &[]).unwrap_or(0.0);
        assert!(frames >= 300.0, "{}: {frames} frames forwarded", here.relay);
        let labels = [
            format!("from=\"{}\"", here.relay),
            format!("to=\"{}\"", next.relay),
            "class=\"video\"".into(),
        ];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let bytes = metric(&text, "longspan_link_bytes_total", &labels).unwrap_or(0.0);
        assert!(
            bytes > 100_000.0,
            "{} → {}: {bytes} bytes of video",
            here.relay,
            next.relay
        );
    }

    // A slower link: the route changes while the lesson runs.
    let (code, _, errors) = backbone.run(&[
        "lab",
        "link",
        "degrade",
        "cn-shanghai",
        "hk",
        "--delay",
        "300ms",
    ]);
    assert_eq!(code, 0, "{errors}");
    eventually("another path", Duration::from_secs(40), async || {
        let path = backbone.path("sg", "class", "teacher").await;
        (path.first().is_some_and(|r| r == "cn-beijing")
            && !path.windows(2).any(|w| w == ["cn-shanghai", "hk"]))
        .then_some(())
    })
    .await;

    publisher.signal("INT");
    tokio::task::block_in_place(|| publisher.wait(Duration::from_secs(20)));
    media::list(&file("sent.flv"), &file("sent"));
    let sent = media::packets(&file("sent"));
    for (kind, _) in &kinds {
        assert_same_run(
            kind,
            &sent,
            &media::packets(&file(kind)),
            300,
            *kind == "HLS",
        );
    }
}

/// How much later the far edge's viewers get a tag than those of the origin's edge: the median of
/// 100 pictures.
async fn added_delay(near: &str, far: &str) -> Duration {
    let watch = async |http: &str| {
        let mut viewer = Viewer::open(&format!("{http}/live/class/teacher.flv"))
            .await
            .expect("a viewer");
        // The first ones come out of a cache.
        for _ in 0..60 {
            viewer
                .next_video(Duration::from_secs(20))
                .await
                .expect("pictures");
        }
        let mut seen = HashMap::new();
        for _ in 0..160 {
            let tag = viewer
                .next_video(Duration::from_secs(20))
                .await
                .expect("pictures");
            seen.insert(tag.timestamp, tag.arrived);
        }
        seen
    };
    let (near, far) = tokio::join!(watch(near), watch(far));
    let mut later: Vec<Duration> = far
        .iter()
        .filter_map(|(timestamp, arrived)| {
            Some(arrived.saturating_duration_since(*near.get(timestamp)?))
        })
        .collect();
    later.sort();
    assert!(
        later.len() >= 50,
        "{} pictures were seen at both edges",
        later.len()
    );
    later[later.len() / 2]
}
