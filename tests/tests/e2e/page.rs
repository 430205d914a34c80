//! The page in a real browser.

use std::time::Duration;

use serde_json::Value;

use super::{
    backbone::Backbone,
    chromium::Page,
    process::{eventually, signal},
};

#[tokio::test(flavor = "multi_thread")]
async fn it_plays_the_sample_lesson_and_draws_its_path() {
    let backbone = Backbone::start(&[]);
    let mut page = open(&backbone, "sg").await;
    plays_on(&mut page).await;
    path_is(&mut page, "cn-beijing cn-shanghai hk sg").await;
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

    says(&mut page, "hello, room").await;
    shoot(&mut page, "plays").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_the_path_move_while_the_picture_goes_on() {
    let backbone = Backbone::start(&["--regions", "cn-beijing,cn-shanghai,hk,sg"]);
    let mut page = open(&backbone, "sg").await;
    plays_on(&mut page).await;
    path_is(&mut page, "cn-beijing cn-shanghai hk sg").await;

    // Worse, not broken: the media moves without a pause.
    let lab = |verb: &[&str]| {
        let (code, _, errors) = backbone.run(&[&["lab", "link"], verb].concat());
        assert_eq!(code, 0, "{errors}");
    };
    lab(&["degrade", "cn-shanghai", "hk", "--extra", "400ms"]);
    let lines = eventually("what was left is drawn as left", BOUND, async || {
        let drawn = page.eval(DRAWN).await;
        let lines: Vec<String> = serde_json::from_value(drawn).ok()?;
        let left = lines.iter().any(|it| it == "left cn-shanghai>hk");
        left.then_some(lines)
    })
    .await;
    assert!(
        lines.iter().any(|it| it.starts_with("hop new ")),
        "{lines:?}"
    );
    let log = page.eval(LOG).await;
    let told = log.as_str().expect("text").lines().any(|line| {
        let left = line.split_once(" left, now ").map(|(left, _)| left);
        left.is_some_and(|left| left.contains("cn-shanghai → hk"))
    });
    assert!(told, "{log}");
    shoot(&mut page, "moved").await;
    plays_on(&mut page).await;
    lab(&["cut", "cn-shanghai", "hk"]);
    eventually("the link is drawn as down", BOUND, async || {
        let drawn = page.eval(DRAWN).await;
        let mut lines = drawn.as_array()?.iter();
        lines.any(|it| it == "down cn-shanghai>hk").then_some(())
    })
    .await;
    eventually("what was left has faded", BOUND, async || {
        let drawn = page.eval(DRAWN).await;
        let left = |it: &Value| it.as_str().is_some_and(|it| it.starts_with("left "));
        (!drawn.as_array()?.iter().any(left)).then_some(())
    })
    .await;
    shoot(&mut page, "faded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_at_another_edge_and_comes_back() {
    let backbone = Backbone::start(&["--regions", "cn-beijing,cn-shanghai,hk,sg"]);
    let mut page = open(&backbone, "sg").await;
    plays_on(&mut page).await;
    says(&mut page, "before").await;

    // Frozen, not killed: nothing is closed, nothing is answered.
    let pid = backbone.child("sg-edge-1");
    signal(pid, "STOP");
    from_is(&mut page, "hk-edge-1").await;
    plays_on(&mut page).await;
    let log = page.eval(LOG).await;
    let told = log.as_str().expect("text");
    assert!(
        told.contains("Watching from hk-edge-1 now instead of sg-edge-1 (silence"),
        "{told}"
    );
    path_is(&mut page, "cn-beijing cn-shanghai hk").await;
    says(&mut page, "meanwhile").await;
    let text = page
        .eval("document.getElementById('messages').textContent")
        .await;
    let text = text.as_str().expect("text");
    assert!(
        text.contains("before") && text.matches("meanwhile").count() == 1,
        "{text}"
    );
    shoot(&mut page, "elsewhere").await;

    // It is healthy again, and after a while the page trusts it.
    signal(pid, "CONT");
    from_is(&mut page, "sg-edge-1").await;
    plays_on(&mut page).await;
    let log = page.eval(LOG).await;
    let told = log.as_str().expect("text");
    assert!(
        told.contains("instead of hk-edge-1 (healthy again)"),
        "{told}"
    );
    path_is(&mut page, "cn-beijing cn-shanghai hk sg").await;
    shoot(&mut page, "back").await;
}

/// For anything the page does by itself, in a debug build on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// The lines on what moved, the newest first.
const LOG: &str =
    "[...document.getElementById('log').children].map((it) => it.textContent).join('\\n')";

/// The lines on the map: class and `FROM>TO`.
const DRAWN: &str = "[...document.querySelectorAll('#map [data-hop]')].map((it) => `${it.getAttribute('class')} ${it.dataset.hop}`)";

/// The controller's page, watching from a region's edge.
async fn open(backbone: &Backbone, region: &str) -> Page {
    let text = |key: &str| backbone.info[key].as_str().expect("text").to_owned();
    let url = format!(
        "{}/#token={}&edge={}",
        text("dashboard").trim_end_matches('/'),
        text("admin_token"),
        backbone.region(region).edge,
    );
    Page::open(&url).await
}

/// Waits until two more seconds of pictures were shown, on whichever element is in front.
async fn plays_on(page: &mut Page) {
    const TIME: &str = "document.querySelector('video.front')?.currentTime";
    let (mut last, mut played) = (None, 0.0);
    eventually("two seconds of pictures", BOUND, async || {
        let now = page.eval(TIME).await.as_f64()?;
        let step = now - last.replace(now).unwrap_or(now);
        // Another element has another clock.
        played += if (0.0..1.0).contains(&step) {
            step
        } else {
            0.0
        };
        (played > 2.0).then_some(())
    })
    .await;
}

async fn path_is(page: &mut Page, regions: &str) {
    let path = "document.getElementById('path')?.dataset.regions ?? ''";
    let what = format!("the path {regions} stands in the page");
    eventually(&what, BOUND, async || {
        (page.eval(path).await == regions).then_some(())
    })
    .await;
}

async fn from_is(page: &mut Page, edge: &str) {
    let from = "document.getElementById('from')?.textContent ?? ''";
    eventually(
        &format!("the page watches from {edge}"),
        BOUND,
        async || (page.eval(from).await == edge).then_some(()),
    )
    .await;
}

/// A message written in the page comes back to it through the room.
async fn says(page: &mut Page, text: &str) {
    let member = "document.getElementById('compose')?.dataset.member ?? ''";
    eventually("the room's messages are connected", BOUND, async || {
        let member = page.eval(member).await;
        member.as_str().is_some_and(|m| !m.is_empty()).then_some(())
    })
    .await;
    let say = format!(
        "document.getElementById('text').value = {text:?}; document.getElementById('compose').requestSubmit(); 1"
    );
    page.eval(&say).await;
    let messages = "document.getElementById('messages').textContent";
    eventually("the message is shown", BOUND, async || {
        let shown = page.eval(messages).await;
        shown.as_str()?.contains(text).then_some(())
    })
    .await;
}

/// Keeps a picture of the page where somebody wants to look at it.
async fn shoot(page: &mut Page, name: &str) {
    use base64::Engine as _;
    let Some(folder) = std::env::var_os("LONGSPAN_SCREENSHOTS") else {
        return;
    };
    let picture = base64::engine::general_purpose::STANDARD
        .decode(page.screenshot().await)
        .expect("base64");
    let file = std::path::Path::new(&folder).join(format!("{name}.png"));
    std::fs::write(file, picture).expect("a writable folder");
}
