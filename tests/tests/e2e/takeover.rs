//! Publishers that come back, and publishers that want what another has.

use std::{path::Path, time::Duration};

use super::{
    backbone::Backbone,
    flv::Viewer,
    http,
    media::{Publisher, runs},
    process::{eventually, signal},
};

const BOUND: Duration = Duration::from_secs(40);

/// Pictures that make sure that something goes on.
const MORE: usize = 90;

#[tokio::test(flavor = "multi_thread")]
async fn viewers_go_on_with_the_next_generation() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "cn-shanghai,hk,sg"]);
    let publish = |region: &str, hue| {
        let url = format!("{}/live/class/teacher", backbone.region(region).rtmp);
        Publisher::start(&url, hue)
    };
    let mut first = publish("cn-shanghai", 0);
    let watch = async |region: &str| {
        let url = format!("{}/live/class/teacher.flv", backbone.region(region).http);
        let viewer = eventually("a viewer", BOUND, async || Viewer::open(&url).await.ok()).await;
        viewer.record()
    };
    let (near, far) = (watch("cn-shanghai").await, watch("sg").await);
    let sees = async |pictures: usize| {
        eventually("pictures go on", BOUND, async || {
            let seen = [near.pictures().len(), far.pictures().len()];
            seen.iter().all(|seen| *seen >= pictures).then_some(())
        })
        .await;
    };
    sees(60).await;

    // Killed, and back at the same edge: the connections of the viewers stay.
    first.process.signal("KILL");
    let _ = first.process.wait(BOUND);
    let mut second = publish("cn-shanghai", 90);
    let key = eventually("its first key frame", BOUND, async || {
        second.pictures().into_iter().next()
    })
    .await;
    let mut ends = Vec::new();
    for (what, viewer) in [("the same edge", &near), ("two relays on", &far)] {
        let seen = eventually("the new publisher's pictures", BOUND, async || {
            let pictures = viewer.pictures();
            pictures.into_iter().find(|tag| tag.body == key.body)
        })
        .await;
        let later = seen.arrived.saturating_duration_since(key.arrived);
        eprintln!("a viewer at {what} goes on {later:?} after the new first key frame was sent");
        ends.push(viewer.pictures().len());
    }

    // At another edge while the second still sends: the newer one wins.
    sees(ends.into_iter().max().unwrap_or(0) + MORE).await;
    let third = publish("hk", 180);
    eventually("the older publisher is sent away", BOUND, async || {
        (!second.process.is_running()).then_some(())
    })
    .await;
    let key = eventually("its first key frame", BOUND, async || {
        third.pictures().into_iter().next()
    })
    .await;
    for viewer in [&near, &far] {
        eventually("the third publisher's pictures", BOUND, async || {
            let pictures = viewer.pictures();
            let at = pictures.iter().position(|tag| tag.body == key.body)?;
            (pictures.len() - at >= MORE).then_some(())
        })
        .await;
        let publishers = [&first, &second, &third];
        let seen: Vec<usize> = runs(&publishers, &viewer.pictures())
            .into_iter()
            .map(|(publisher, _)| publisher)
            .collect();
        assert_eq!(
            seen,
            [0, 1, 2],
            "one publisher after the other, never mixed"
        );
        assert!(!viewer.is_over(), "the viewer stays connected");
    }
    assert!(second.last_words().contains("published anew"));
}

/// A backbone whose edges ask for tokens, and the key that signs them.
struct School {
    backbone: Backbone,
}

impl School {
    async fn open(regions: &[&str]) -> School {
        let backbone = Backbone::start(&["--no-sample", "--regions", &regions.join(",")]);
        let school = School { backbone };
        school.longspan(&["key", "create", "--id", "school"]);
        for region in regions {
            let edge = school.backbone.region(region);
            let config = school.backbone.data().join("nodes").join(&edge.edge);
            close(&config.join("config.toml"));
            signal(school.backbone.child(&edge.edge), "HUP");
            eventually("the edge asks for a token", BOUND, async || {
                let answer = http::get(&format!("{}/rooms/class", edge.http))
                    .await
                    .ok()?;
                (answer.status == 401).then_some(())
            })
            .await;
        }
        school
    }

    fn longspan(&self, args: &[&str]) -> String {
        let (code, out, errors) = self.backbone.run(args);
        assert_eq!(code, 0, "{args:?}: {errors}");
        out
    }

    /// A token for the room `class`.
    fn token(&self, identity: &str, may: &[&str]) -> String {
        let mint = ["key", "token", "--id", "school", "--room", "class"];
        let args = [&mint[..], &["--identity", identity], may].concat();
        self.longspan(&args).trim().to_owned()
    }

    fn publish(&self, region: &str, hue: u32, access: &str) -> Publisher {
        let rtmp = self.backbone.region(region).rtmp;
        Publisher::start(&format!("{rtmp}/live/class/teacher{access}"), hue)
    }

    async fn generation(&self, region: &str, token: &str) -> Option<String> {
        let url = format!("{}/rooms/class", self.backbone.region(region).http);
        let room = http::get_as(&url, Some(token)).await.ok()?.json();
        let stream = &room["streams"][0];
        stream["generation"].as_str().map(str::to_owned)
    }
}

/// Whoever brings no token is refused from the next reload on.
fn close(config: &Path) {
    let text = std::fs::read_to_string(config).expect("a configuration");
    let closed = text.replace("open = true", "open = false");
    assert_ne!(text, closed, "{} is open", config.display());
    std::fs::write(config, closed).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_identity_takes_over_and_another_is_refused() {
    let school = School::open(&["cn-shanghai", "hk", "sg"]).await;
    let with = |token: &str| format!("?token={token}");
    let anna = with(&school.token("anna", &["--publish"]));
    let bert = with(&school.token("bert", &["--publish"]));
    let watcher = school.token("carl", &[]);

    let mut first = school.publish("cn-shanghai", 0, &anna);
    let url = format!(
        "{}/live/class/teacher.flv{}",
        school.backbone.region("sg").http,
        with(&watcher)
    );
    let viewer = eventually("a viewer", BOUND, async || Viewer::open(&url).await.ok())
        .await
        .record();
    let sees = async |pictures: usize| {
        eventually("pictures go on", BOUND, async || {
            (viewer.pictures().len() >= pictures).then_some(())
        })
        .await;
    };
    sees(60).await;
    let before = school.generation("sg", &watcher).await.expect("a stream");

    // Nobody else gets the stream, at whichever edge.
    let mut others = Vec::new();
    for (region, access, why) in [
        ("hk", &bert, "held by another publisher"),
        ("cn-shanghai", &bert, "held by another publisher"),
        ("hk", &with(&watcher), "canPublish is false"),
        ("hk", &String::new(), "a token is needed"),
        ("hk", &with("garbage"), "the token is not valid"),
    ] {
        let mut other = school.publish(region, 90, access);
        eventually(why, BOUND, async || {
            (!other.process.is_running()).then_some(())
        })
        .await;
        let said = other.last_words();
        assert!(said.contains(why), "{said}");
        others.push(other);
    }
    let anonymous = url.replace(&with(&watcher), "");
    let Err(refused) = Viewer::open(&anonymous).await else {
        panic!("a viewer without a token is let in");
    };
    assert!(
        refused.starts_with("401") && refused.contains("token_missing"),
        "{refused}"
    );
    assert_eq!(
        school.generation("sg", &watcher).await.as_deref(),
        Some(&*before)
    );
    assert!(
        first.process.is_running(),
        "who was refused disturbs nobody"
    );
    let seen = viewer.pictures().len();
    sees(seen + MORE).await;

    // The same identity, at another edge.
    let second = school.publish("hk", 180, &anna);
    eventually("the older publisher is sent away", BOUND, async || {
        (!first.process.is_running()).then_some(())
    })
    .await;
    assert!(first.last_words().contains("published anew"));
    let next = eventually("the next generation", BOUND, async || {
        let now = school.generation("sg", &watcher).await;
        now.filter(|now| *now != before)
    })
    .await;
    assert!(number(&next) > number(&before), "{before}, then {next}");
    let key = eventually("its first key frame", BOUND, async || {
        second.pictures().into_iter().next()
    })
    .await;
    eventually("the second publisher's pictures", BOUND, async || {
        let pictures = viewer.pictures();
        let at = pictures.iter().position(|tag| tag.body == key.body)?;
        (pictures.len() - at >= MORE).then_some(())
    })
    .await;
    let publishers = [&first, &second, &others[0], &others[1]];
    let seen: Vec<usize> = runs(&publishers, &viewer.pictures())
        .into_iter()
        .map(|(publisher, _)| publisher)
        .collect();
    assert_eq!(seen, [0, 1], "of two publishers on one key, one at a time");

    // Whoever had it first may still be refused: the claim is the second publisher's now.
    let mut bert = school.publish("sg", 90, &bert);
    eventually("refused still", BOUND, async || {
        (!bert.process.is_running()).then_some(())
    })
    .await;
    assert!(bert.last_words().contains("held by another publisher"));
}

/// A generation as (era, counter).
fn number(generation: &str) -> (u64, u64) {
    let (era, counter) = generation.split_once('.').expect("era.counter");
    (
        era.parse().expect("a number"),
        counter.parse().expect("a number"),
    )
}
