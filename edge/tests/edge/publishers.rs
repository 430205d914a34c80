//! Who may publish, and what happens when two want to.

use longspan_edge::Limits;
use serde_json::json;

use super::{
    backbone::Backbone,
    client::{
        Answer, LESSON, get, get_once_there, get_until, last_words, packets, publish, run, token,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_identity_takes_over_and_viewers_stay() {
    let backbone = Backbone::open().await;
    let first = publish(&backbone.rtmp("math/teacher"));
    get_once_there(&backbone, "/hls/math/teacher/index.m3u8").await;
    let url = backbone.http("/live/math/teacher.flv");
    // More than the first publisher will have sent before it is taken over.
    let viewer = tokio::spawn(async move { packets(&url, 100).await });
    let watched = |room: &Answer| room.json()["streams"][0]["viewers"] == 1;
    get_until(&backbone, "/rooms/math", watched).await;
    let _second = publish(&backbone.rtmp("math/teacher"));
    let said = last_words(first).await;
    assert!(said.contains("published anew"), "{said}");
    assert_eq!(viewer.await.unwrap().len(), 100);
    let room = get(&backbone, "/rooms/math").await.json();
    assert_eq!(room["streams"][0]["generation"], "0.2");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_identity_is_refused_while_the_stream_is_held() {
    let backbone = Backbone::with(false, Limits::default()).await;
    let url = |identity| {
        let token = token(identity, json!({}));
        backbone.rtmp(&format!("math/teacher?token={token}"))
    };
    let _first = publish(&url("anna"));
    let watch = token("watcher", json!({"canPublish": false}));
    let playlist = format!("/hls/math/teacher/index.m3u8?token={watch}");
    let playlist = get_once_there(&backbone, &playlist).await;
    let file = playlist.text().lines().find(|line| !line.starts_with('#'));
    assert!(file.unwrap().ends_with(&format!("?token={watch}")));
    let said = last_words(publish(&url("bert"))).await;
    assert!(said.contains("published by another identity"), "{said}");
    let said = last_words(publish(
        &backbone.rtmp(&format!("math/teacher?token={watch}")),
    ))
    .await;
    assert!(said.contains("canPublish is false"), "{said}");
    let said = last_words(publish(&backbone.rtmp("math/teacher"))).await;
    assert!(said.contains("a token is needed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_is_given_back() {
    let backbone = Backbone::open().await;
    let mut publisher = publish(&backbone.rtmp("math/teacher"));
    get_once_there(&backbone, "/hls/math/teacher/index.m3u8").await;
    publisher.kill().await.unwrap();
    let nothing_is_on = |room: &Answer| room.json()["streams"][0].is_null();
    get_until(&backbone, "/rooms/math", nothing_is_on).await;
    assert_eq!(get(&backbone, "/live/math/teacher.flv").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_the_controllers_lost_is_claimed_anew_and_viewers_stay() {
    let backbone = Backbone::open().await;
    let generation = |wanted: &'static str| {
        move |room: &Answer| room.json()["streams"][0]["generation"] == wanted
    };
    let _first = publish(&backbone.rtmp("math/teacher"));
    get_until(&backbone, "/rooms/math", generation("0.1")).await;
    let _second = publish(&backbone.rtmp("math/teacher"));
    get_until(&backbone, "/rooms/math", generation("0.2")).await;
    get_once_there(&backbone, "/hls/math/teacher/index.m3u8").await;
    let url = backbone.http("/live/math/teacher.flv");
    // Longer than the edge waits for its name.
    let viewer = tokio::spawn(async move { packets(&url, 150).await });
    let watched = |room: &Answer| room.json()["streams"][0]["viewers"] == 1;
    get_until(&backbone, "/rooms/math", watched).await;
    backbone.controller.restore("math", "teacher");
    get_until(&backbone, "/rooms/math", generation("0.3")).await;
    let played = viewer.await.unwrap();
    let lesson = packets(LESSON, 10_000).await;
    assert_eq!(played.len(), 150);
    assert!(played.iter().all(|packet| lesson.contains(packet)));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_controller_running_streams_go_on_and_new_ones_are_refused() {
    let backbone = Backbone::open().await;
    let _publisher = publish(&backbone.rtmp("math/teacher"));
    get_once_there(&backbone, "/hls/math/teacher/index.m3u8").await;
    backbone.stop_controller();
    assert_eq!(
        packets(&backbone.http("/live/math/teacher.flv"), 60)
            .await
            .len(),
        60
    );
    let said = last_words(publish(&backbone.rtmp("math/student"))).await;
    assert!(said.contains("no controller answers"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codec_that_is_not_carried_is_refused_by_name() {
    let backbone = Backbone::open().await;
    let url = backbone.rtmp("math/teacher");
    let source = "testsrc2=size=64x64:rate=10:duration=20";
    let args = [
        "-re", "-f", "lavfi", "-i", source, "-c:v", "flv1", "-f", "flv", &url,
    ];
    let (content, _, said) = run(&args).await;
    assert!(!content);
    assert!(said.contains("Sorenson H.263 is not supported"), "{said}");
}
