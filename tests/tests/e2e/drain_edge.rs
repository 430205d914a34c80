//! An edge is drained: under members who talk, and with a publisher who stays.

use std::{collections::VecDeque, process::Command, time::Duration};

use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use tokio_tungstenite::{connect_async, tungstenite};

use super::{
    backbone::{Backbone, binary},
    controllers::runs_on,
    flv::Viewer,
    http, media,
    messages::Member,
    process::eventually,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries of a member that goes elsewhere.
const PAUSE: Duration = Duration::from_millis(50);
const ROOM: &str = "talk";

/// Messages of each member: so many before the edge is drained, so many before it must have moved,
/// and all.
const BEFORE: u64 = 20;
const UNMOVED: u64 = 60;
const ALL: u64 = 120;
/// Messages of a member that are not answered yet, at most.
const UNDER_WAY: usize = 4;

/// A member that goes where it is sent, and remembers everything.
struct Roamer {
    member: Member,
    who: usize,
    session: String,
    n: u64,
    waiting: VecDeque<u64>,
    acked: u64,
    /// Where it was sent.
    went: Vec<String>,
    stays: bool,
    /// Who said what, in the room's order.
    heard: Vec<(u64, u64)>,
}

impl Roamer {
    async fn join(http: &str, who: usize, stays: bool) -> Roamer {
        let session = format!("{who:02x}").repeat(16);
        let member = eventually("a place in the room", PATIENCE, async || {
            Member::join(http, ROOM, &session).await
        });
        Roamer {
            member: member.await,
            who,
            session,
            n: 0,
            waiting: VecDeque::new(),
            acked: 0,
            went: Vec::new(),
            stays,
            heard: Vec::new(),
        }
    }

    /// Talks until `members` of them have said all they have to say and it heard them.
    async fn run(mut self, members: usize, begun: oneshot::Sender<()>) -> Roamer {
        let mut begun = Some(begun);
        while self.acked < ALL || self.heard.len() < members * ALL as usize {
            let may = self.stays || !self.went.is_empty() || self.n < UNMOVED;
            if self.n < ALL && self.waiting.len() < UNDER_WAY && may {
                self.n += 1;
                self.waiting.push_back(self.n);
                self.say(self.n).await;
            }
            let word = timeout(PATIENCE, self.member.next()).await;
            let word = word.expect("a word in time");
            let word = word.expect("no edge closes on a member that goes when it is told");
            self.take(word).await;
            if self.acked >= BEFORE
                && let Some(begun) = begun.take()
            {
                begun.send(()).expect("it is waited for");
            }
        }
        self
    }

    async fn say(&mut self, n: u64) {
        let body = json!({ "who": self.who, "n": n });
        let word = json!({ "t": "pub", "n": n, "class": "log", "topic": "chat", "body": body });
        self.member.send(word).await;
    }

    async fn take(&mut self, word: Value) {
        match word["t"].as_str().expect("t") {
            "ack" => {
                let n = word["n"].as_u64().expect("n");
                // An ack may come again when a message was sent again.
                self.waiting.retain(|waits| *waits != n);
                self.acked = self.acked.max(n);
            }
            "ev" => self.hear(&word),
            "evs" => word["evs"]
                .as_array()
                .expect("evs")
                .iter()
                .for_each(|ev| self.hear(ev)),
            "goaway" => self.go(&word).await,
            _ => panic!("unexpected: {word}"),
        }
    }

    fn hear(&mut self, event: &Value) {
        let number = |name: &str| event["body"][name].as_u64().expect("a number");
        self.heard.push((number("who"), number("n")));
    }

    async fn go(&mut self, told: &Value) {
        let url = told["alternatives"][0].as_str().expect("somewhere to go");
        let going = async {
            loop {
                let place = self.member.resume(url, ROOM, &self.session).await;
                match place {
                    Some(member) => break member,
                    None => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        let member = timeout(PATIENCE, going).await;
        // The one before is left when the next is there.
        self.member = member.expect("a place elsewhere");
        self.went.push(url.to_owned());
        for n in self.waiting.clone() {
            self.say(n).await;
        }
    }
}

/// Runs an operator's command beside the test.
fn beside(backbone: &Backbone, args: &[&str]) -> JoinHandle<(i32, String, String)> {
    let mut command = Command::new(binary());
    command.args(args).env("LONGSPAN_DATA_DIR", backbone.data());
    tokio::task::spawn_blocking(move || {
        let output = command.output().expect("longspan runs");
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    })
}

async fn state(backbone: &Backbone, id: &str) -> Value {
    backbone.api(&format!("/api/v1/nodes/{id}")).await
}

/// What the edge answers to a member it does not take.
async fn refusal(http: &str) -> Option<Value> {
    let url = format!("{}/rooms/{ROOM}/messages", http.replacen("http", "ws", 1));
    match connect_async(url).await {
        Err(tungstenite::Error::Http(answer)) => {
            assert_eq!(answer.status(), 503);
            let body = answer.body().as_deref().unwrap_or_default();
            Some(serde_json::from_slice(body).expect("JSON"))
        }
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_members_move_and_lose_and_repeat_nothing() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "cn-shanghai,hk,sg"]);
    let (hk, sg) = (backbone.region("hk"), backbone.region("sg"));
    let homes = [&hk.http, &hk.http, &hk.http, &sg.http];
    let mut members = Vec::new();
    for (who, home) in homes.into_iter().enumerate() {
        members.push(Roamer::join(home, who, *home == sg.http).await);
    }
    let count = members.len();
    let (mut talking, mut begun) = (Vec::new(), Vec::new());
    for member in members {
        let (tell, told) = oneshot::channel();
        talking.push(tokio::spawn(member.run(count, tell)));
        begun.push(told);
    }
    for told in begun {
        let told = timeout(PATIENCE, told).await;
        told.expect("they talk").expect("they run");
    }

    let plan = backbone.run(&["node", "drain", &hk.edge, "--dry-run", "-o", "json"]);
    let plan: Value = serde_json::from_str(&plan.1).unwrap_or_else(|e| panic!("{e}: {plan:?}"));
    assert_eq!(plan["takers"].as_array().map(Vec::len), Some(2), "{plan:#}");
    assert_eq!(
        state(&backbone, &hk.edge).await["state"],
        "up",
        "a dry run changes nothing"
    );
    let args = [
        "node",
        "drain",
        &hk.edge,
        "--reason",
        "new disks",
        "--deadline",
        "60s",
    ];
    let (code, out, errors) = beside(&backbone, &args).await.expect("it ends");
    assert_eq!(code, 0, "{out}{errors}");
    assert!(out.ends_with(&format!("{} is empty\n", hk.edge)), "{out}");
    assert_eq!(state(&backbone, &hk.edge).await["state"], "drained");

    let mut order: Option<Vec<(u64, u64)>> = None;
    for (who, talked) in talking.into_iter().enumerate() {
        let talked = timeout(PATIENCE, talked)
            .await
            .expect("they come to an end");
        let roamer = talked.unwrap_or_else(|e| panic!("member {who}: {e}"));
        let went = usize::from(!roamer.stays);
        assert_eq!(roamer.went.len(), went, "it moved: {:?}", roamer.went);
        for who in 0..count as u64 {
            let said = roamer.heard.iter().filter(|(by, _)| *by == who);
            let said: Vec<u64> = said.map(|(_, n)| *n).collect();
            assert!(
                said.iter().copied().eq(1..=ALL),
                "of {who}, lost or repeated: {said:?}"
            );
        }
        let heard = roamer.heard;
        assert_eq!(
            order.get_or_insert_with(|| heard.clone()),
            &heard,
            "one order for all"
        );
    }

    let refused = refusal(&hk.http).await.expect("nobody new is taken");
    assert_eq!(refused["error"], "going_away", "{refused}");
    assert_eq!(
        refused["alternatives"].as_array().map(Vec::len),
        Some(2),
        "{refused}"
    );
    let listed = http::get(&format!("{}/edges", sg.http))
        .await
        .expect("it answers")
        .json();
    let listed: Vec<&Value> = listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|e| &e["id"])
        .collect();
    assert!(
        listed.len() == 2 && !listed.contains(&&json!(hk.edge)),
        "{listed:?}"
    );

    let (code, _, errors) = backbone.run(&["node", "undrain", &hk.edge, "--reason", "done"]);
    assert_eq!(code, 0, "{errors}");
    let mut back = eventually("newcomers are let in", PATIENCE, async || {
        Member::join(&hk.http, ROOM, &"0f".repeat(16)).await
    })
    .await;
    back.send(json!({ "t": "pub", "n": 1, "class": "log", "topic": "chat", "body": null }))
        .await;
    loop {
        let word = back.next().await.expect("the edge stays");
        if word["t"] == "ack" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_publisher_stays_its_viewer_has_until_the_deadline_and_the_last_edge_is_kept() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "hk,sg"]);
    let (hk, sg) = (backbone.region("hk"), backbone.region("sg"));
    let _publisher = media::publish(&format!("{}/live/class/teacher", hk.rtmp), None);
    let open = async |http: &str| {
        let url = format!("{http}/live/class/teacher.flv");
        eventually("a viewer", PATIENCE, async || Viewer::open(&url).await.ok()).await
    };
    let (mut near, mut far) = (open(&hk.http).await, open(&sg.http).await);
    runs_on(&mut near, 1_000).await;
    runs_on(&mut far, 1_000).await;

    let args = [
        "node",
        "drain",
        &hk.edge,
        "--reason",
        "new disks",
        "--deadline",
        "3s",
    ];
    let draining = beside(&backbone, &args);
    let watching = async {
        loop {
            runs_on(&mut far, 1_000).await;
        }
    };
    let (code, out, errors) = tokio::select! {
        never = watching => never,
        ended = draining => ended.expect("it ends"),
    };
    assert_eq!(code, 1, "{out}{errors}");
    let left = "0 members, 0 viewers, 1 publisher (who stay until they end by themselves)";
    assert!(errors.contains(left), "{out}{errors}");
    assert!(out.contains("1 viewer, 1 publisher"), "{out}");
    runs_on(&mut far, 1_000).await;
    assert_eq!(state(&backbone, &hk.edge).await["state"], "draining");

    let refused = backbone.run(&["node", "drain", &sg.edge, "--reason", "too", "--detach"]);
    assert_ne!(refused.0, 0, "{refused:?}");
    let why = format!(
        "no other edge takes the members of {}: {} drains too",
        sg.edge, hk.edge
    );
    assert!(refused.2.contains(&why), "{refused:?}");
    let cordoned = backbone.run(&["node", "cordon", &sg.edge, "--reason", "too"]);
    assert_eq!(cordoned.0, 0, "{cordoned:?}");
    assert_eq!(state(&backbone, &sg.edge).await["state"], "cordoned");
    runs_on(&mut far, 1_000).await;
}
