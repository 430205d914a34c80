//! The programs that schools publish with, as Debian 12 has them: OBS 29 and GStreamer 1.22.
//! (ffmpeg is in all the other cases.)

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    backbone::Backbone,
    flv::Viewer,
    media,
    obs::Obs,
    process::{Process, eventually},
};

/// How long a program may take until its first picture is at the far edge.
const BOUND: Duration = Duration::from_secs(60);

/// Pictures, and pieces of sound, that are decoded of each stream.
const FRAMES: u32 = 90;

/// `flvmux` of H.264 and AAC into an RTMP sink, live.
fn gstreamer(sink: &str) -> Process {
    let video = "videotestsrc is-live=true ! video/x-raw,width=640,height=360,framerate=30/1 ! \
         x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 bitrate=800 ! h264parse";
    let audio = "audiotestsrc is-live=true ! audioconvert ! audio/x-raw,rate=44100,channels=2 ! \
         voaacenc bitrate=64000 ! aacparse";
    let pipeline =
        format!("flvmux name=mux streamable=true ! {sink} {video} ! mux. {audio} ! mux.");
    let mut command = Command::new("gst-launch-1.0");
    command
        .arg("--quiet")
        .args(pipeline.split_whitespace())
        .stdin(Stdio::null());
    Process::spawn("gst-launch-1.0", &mut command)
}

/// A number of `onMetaData` (AMF 0: a short name, marker 0, a double), read where it stands.
fn number(script: &[u8], name: &str) -> Option<f64> {
    let len = u16::try_from(name.len()).expect("short");
    let field = [&len.to_be_bytes()[..], name.as_bytes(), &[0]].concat();
    let at = script.windows(field.len()).position(|w| w == field)? + field.len();
    let value = script.get(at..at + 8)?;
    Some(f64::from_be_bytes(value.try_into().expect("eight bytes")))
}

/// Whether a stream is whole at an edge: described, both codecs, and it decodes without complaint.
async fn plays(what: &str, url: &str, said: impl Fn() -> String) {
    let opened = tokio::time::timeout(BOUND, async {
        loop {
            if let Ok(viewer) = Viewer::open(url).await {
                return viewer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let Ok(mut viewer) = opened.await else {
        panic!(
            "{what} is not at the far edge within {BOUND:?}; it said: {}",
            said()
        );
    };
    let (mut metadata, mut video, mut audio) = (None, Vec::new(), Vec::new());
    while video.len() < 2 || audio.len() < 2 {
        let tag = viewer.next(BOUND).await.expect("tags go on");
        match tag.kind {
            18 => metadata = Some(tag.body),
            9 => video.push(tag),
            _ => audio.push(tag),
        }
    }
    let metadata = metadata.unwrap_or_else(|| panic!("{what}: no onMetaData"));
    assert!(metadata.windows(10).any(|w| w == b"onMetaData"));
    let told = ["width", "height", "videocodecid", "audiocodecid"].map(|n| number(&metadata, n));
    assert_eq!(told, [640.0, 360.0, 7.0, 10.0].map(Some), "{what}");
    // FLV 10.1 §E.4.2.1 and §E.4.3.1: AAC is 10, AVC is 7; the configuration comes first.
    assert!(
        video[0].config && audio[0].config,
        "{what}: configurations lead"
    );
    assert!(video[1].key, "{what}: a key frame leads");
    assert!(
        video.iter().all(|tag| tag.body[0] & 15 == 7),
        "{what}: not AVC"
    );
    assert!(
        audio.iter().all(|tag| tag.body[0] >> 4 == 10),
        "{what}: not AAC"
    );

    let url = url.to_owned();
    let decoded = tokio::task::spawn_blocking(move || media::decode(&url, FRAMES));
    let (pictures, sounds, complaints) = tokio::time::timeout(BOUND, decoded)
        .await
        .unwrap_or_else(|_| panic!("{what}: not decoded within {BOUND:?}"))
        .expect("it does not panic");
    assert_eq!(complaints, "", "{what}");
    assert!(pictures >= FRAMES as usize, "{what}: {pictures} pictures");
    assert!(
        sounds >= FRAMES as usize,
        "{what}: {sounds} pieces of sound"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_is_seen_at_the_far_edge() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "cn-shanghai,hk,sg"]);
    let (from, to) = (
        backbone.region("cn-shanghai").rtmp,
        backbone.region("sg").http,
    );
    // Its own RTMP, and librtmp's.
    for sink in ["rtmp2sink", "rtmpsink"] {
        let mut publisher = gstreamer(&format!("{sink} location={from}/live/class/{sink}"));
        plays(sink, &format!("{to}/live/class/{sink}.flv"), String::new).await;
        assert!(publisher.is_running(), "{sink} goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn obs_is_seen_at_the_far_edge() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "cn-shanghai,hk,sg"]);
    let server = format!("{}/live", backbone.region("cn-shanghai").rtmp);
    let mut obs = Obs::stream(&server, "class/teacher");
    let far = format!("{}/live/class/teacher.flv", backbone.region("sg").http);
    plays("OBS", &far, || obs.said()).await;
    assert!(obs.process.is_running(), "{}", obs.said());
    drop(obs);
    eventually("the stream ends with OBS", BOUND, async || {
        let room = backbone.room("sg", "class").await;
        room["streams"].as_array()?.is_empty().then_some(())
    })
    .await;
}
