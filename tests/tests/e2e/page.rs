//! The page in a real browser.

use std::time::Duration;

use super::{backbone::Backbone, chromium::Page, process::eventually};

#[tokio::test(flavor = "multi_thread")]
async fn it_plays_the_sample_lesson_and_draws_its_path() {
    let backbone = Backbone::start(&[]);
    let url = format!(
        "{}/#token={}&edge={}",
        backbone.info["dashboard"]
            .as_str()
            .expect("dashboard")
            .trim_end_matches('/'),
        backbone.info["admin_token"].as_str().expect("admin_token"),
        backbone.region("sg").edge,
    );
    let mut page = Page::open(&url).await;

    let first = eventually("the video plays", Duration::from_secs(60), async || {
        page.eval("document.getElementById('video')?.currentTime")
            .await
            .as_f64()
            .filter(|t| *t > 0.0)
    })
    .await;
    eventually("its time grows", Duration::from_secs(30), async || {
        page.eval("document.getElementById('video')?.currentTime")
            .await
            .as_f64()
            .filter(|t| *t > first + 2.0)
    })
    .await;
    eventually(
        "the path stands in the page",
        Duration::from_secs(30),
        async || {
            let regions = page
                .eval("document.getElementById('path')?.dataset.regions ?? ''")
                .await;
            (regions == "cn-beijing cn-shanghai hk sg").then_some(())
        },
    )
    .await;
    let delay = eventually(
        "the end-to-end delay is shown",
        Duration::from_secs(30),
        async || {
            page.eval("Number(document.getElementById('delay')?.dataset.ms ?? NaN)")
                .await
                .as_f64()
        },
    )
    .await;
    assert!(
        delay > 0.0,
        "a picture cannot be shown before it was made ({delay} ms)"
    );

    // A message written in the page comes back to it through the room.
    eventually(
        "the room's messages are connected",
        Duration::from_secs(30),
        async || {
            let member = page
                .eval("document.getElementById('compose')?.dataset.member ?? ''")
                .await;
            member.as_str().is_some_and(|m| !m.is_empty()).then_some(())
        },
    )
    .await;
    page.eval("document.getElementById('text').value = 'hello, room'; document.getElementById('compose').requestSubmit(); 1").await;
    eventually(
        "the message is shown",
        Duration::from_secs(15),
        async || {
            let text = page
                .eval("document.getElementById('messages').textContent")
                .await;
            text.as_str()
                .is_some_and(|t| t.contains("hello, room"))
                .then_some(())
        },
    )
    .await;

    if let Ok(path) = std::env::var("LONGSPAN_SCREENSHOT") {
        use base64::Engine as _;
        let picture = base64::engine::general_purpose::STANDARD
            .decode(page.screenshot().await)
            .expect("base64");
        std::fs::write(path, picture).expect("a writable file");
    }
}
