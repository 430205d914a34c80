//! A viewer's edge is cut off from the backbone for a while: viewers see a pause, and stay.

use std::time::Duration;

use http_body_util::BodyExt;

use super::{backbone::Backbone, flv::Viewer, http, process::eventually};

const BOUND: Duration = Duration::from_secs(60);

/// Between two pictures of the lesson there are 33 or 34 ms.
const STEP: u32 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn viewers_stay_while_their_edge_is_cut_off() {
    let backbone = Backbone::start(&["--regions", "cn-shanghai,hk,sg"]);
    let base = format!("{}/live/lesson/teacher", backbone.region("sg").http);
    let mut flv = eventually("a viewer", BOUND, async || {
        Viewer::open(&format!("{base}.flv")).await.ok()
    })
    .await;
    let mp4 = http::open(&format!("{base}.mp4"), None).await;
    let mut mp4 = mp4.expect("a viewer of fragmented MP4").into_body();
    let playlist = format!(
        "{}/hls/lesson/teacher/index.m3u8",
        backbone.region("sg").http
    );
    let first = sequence(&playlist).await;
    let mut last = 0;
    for _ in 0..60 {
        let tag = flv.next_video(BOUND).await.expect("the lesson runs");
        last = tag.timestamp;
    }

    let lab = |verb: &str| {
        for other in ["cn-shanghai", "hk"] {
            let (code, _, errors) = backbone.run(&["lab", "link", verb, other, "sg"]);
            assert_eq!(code, 0, "{errors}");
        }
    };
    lab("cut");
    // What is on its way arrives, if anything is, then nothing.
    while let Some(tag) = flv.next_video(Duration::from_secs(3)).await {
        last = tag.timestamp;
    }
    lab("restore");

    let mut shown = 0;
    while shown < 90 {
        let tag = flv.next_video(BOUND).await.expect("the viewer stays");
        let step = tag.timestamp.checked_sub(last).expect("time goes on");
        assert!(step > 0, "a picture came twice");
        // What was lost is left out up to a key frame.
        assert!(
            step <= STEP || tag.key,
            "a gap of {step} ms, not at a key frame"
        );
        (shown, last) = (shown + 1, tag.timestamp);
    }
    // The other one was not read meanwhile: what waits is read first, then what is new.
    let mut bytes = 0;
    while bytes < 100_000 {
        let frame = tokio::time::timeout(BOUND, mp4.frame()).await;
        let frame = frame.expect("bytes in time").expect("the viewer stays");
        bytes += frame
            .expect("bytes")
            .into_data()
            .map_or(0, |data| data.len());
    }
    eventually("newer segments", BOUND, async || {
        (sequence(&playlist).await > first).then_some(())
    })
    .await;
}

/// The number of the first segment in a playlist.
async fn sequence(playlist: &str) -> u64 {
    let text = eventually("a playlist", BOUND, async || {
        let answer = http::get(playlist).await.ok()?;
        let text = String::from_utf8(answer.body.to_vec()).ok()?;
        text.contains("#EXT-X-MEDIA-SEQUENCE").then_some(text)
    })
    .await;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
    line.expect("a number").trim().parse().expect("a number")
}
