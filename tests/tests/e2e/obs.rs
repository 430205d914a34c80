//! OBS Studio on a screen of its own, which streams as soon as it is started.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;
use tempfile::TempDir;

use super::process::Process;

/// The name of its profile, its scene collection and its scene.
const NAME: &str = "Lesson";

/// A running OBS.
pub struct Obs {
    pub process: Process,
    // Dropped after it.
    _screen: Screen,
    _home: TempDir,
}

impl Obs {
    /// Streams a coloured picture of 640 × 360, 30 a second, and its silent sound, to `server`
    /// with the key `key`.
    pub fn stream(server: &str, key: &str) -> Obs {
        let screen = Screen::open();
        let home = tempfile::tempdir().expect("a temporary directory");
        configure(home.path(), server, key);
        let mut command = Command::new("obs");
        command
            .args(["--startstreaming", "--minimize-to-tray", "--multi"])
            .args(["--disable-updater", "--disable-missing-files-check"])
            .args(["--profile", NAME, "--collection", NAME])
            .env("HOME", home.path())
            .env("XDG_CONFIG_HOME", home.path().join(".config"))
            .env("DISPLAY", &screen.name)
            // Mesa's llvmpipe: no graphics card is needed.
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
            // It asks the internet for a newer list of services; it gets no answer (RTMP takes no proxy).
            .env("https_proxy", "http://127.0.0.1:9")
            .env_remove("WAYLAND_DISPLAY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(home.path().join("obs.log")).expect("a log"));
        let process = Process::spawn_group("obs", &mut command);
        Obs {
            process,
            _screen: screen,
            _home: home,
        }
    }

    /// The end of what it said.
    pub fn said(&self) -> String {
        let log = fs::read_to_string(self._home.path().join("obs.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// Everything OBS asks for when it is started for the first time.
fn configure(home: &Path, server: &str, key: &str) {
    let base = home.join(".config/obs-studio");
    let profile = base.join("basic/profiles").join(NAME);
    let scenes = base.join("basic/scenes");
    for folder in [&profile, &scenes] {
        fs::create_dir_all(folder).expect("a folder");
    }
    let write = |path: &Path, text: String| fs::write(path, text).expect("written");
    write(
        &base.join("global.ini"),
        format!(
            "[General]\nFirstRun=true\nEnableAutoUpdates=false\n\
             [Basic]\nProfile={NAME}\nProfileDir={NAME}\nSceneCollection={NAME}\nSceneCollectionFile={NAME}\n\
             [OBSWebSocket]\nFirstLoad=false\nServerEnabled=false\n"
        ),
    );
    write(
        &profile.join("basic.ini"),
        format!(
            "[General]\nName={NAME}\n[Output]\nMode=Simple\nReconnect=false\n\
             [SimpleOutput]\nVBitrate=800\nABitrate=96\nStreamEncoder=x264\nPreset=ultrafast\n\
             UseAdvanced=true\nx264Settings=keyint=60\n\
             [Video]\nBaseCX=640\nBaseCY=360\nOutputCX=640\nOutputCY=360\nFPSType=0\nFPSCommon=30\n\
             [Audio]\nSampleRate=44100\nChannelSetup=Stereo\n"
        ),
    );
    let service = json!({
        "type": "rtmp_custom",
        "settings": { "server": server, "key": key, "use_auth": false, "bwtest": false },
    });
    write(&profile.join("service.json"), service.to_string());
    let item = json!({
        "name": "Colour", "id": 1, "visible": true, "locked": false, "align": 5, "bounds_type": 0,
        "pos": { "x": 0.0, "y": 0.0 }, "scale": { "x": 1.0, "y": 1.0 },
    });
    let collection = json!({
        "name": NAME, "current_scene": NAME, "current_program_scene": NAME,
        "scene_order": [{ "name": NAME }],
        "sources": [
            { "id": "color_source", "versioned_id": "color_source_v3", "name": "Colour",
              "settings": { "color": 0xff20_a040_u32, "width": 640, "height": 360 } },
            { "id": "scene", "name": NAME, "settings": { "id_counter": 1, "items": [item] } },
        ],
    });
    write(&scenes.join(format!("{NAME}.json")), collection.to_string());
}

/// A screen that nobody sees.
struct Screen {
    name: String,
    _process: Process,
}

impl Screen {
    fn open() -> Screen {
        let mut command = Command::new("Xvfb");
        command
            // It takes a free number and says which.
            .args(["-displayfd", "1", "-nolisten", "tcp"])
            .args(["-screen", "0", "1024x768x24"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // Told to end, it takes its lock and its socket away.
        let mut process = Process::spawn_group("Xvfb", &mut command);
        let stdout = process.child().stdout.take().expect("piped");
        let mut number = String::new();
        BufReader::new(stdout)
            .read_line(&mut number)
            .expect("the number of the screen");
        assert!(!number.trim().is_empty(), "Xvfb ended without a screen");
        Screen {
            name: format!(":{}", number.trim()),
            _process: process,
        }
    }
}
