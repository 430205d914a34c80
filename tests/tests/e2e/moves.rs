//! A room's log moves between placement groups of three regions while its members talk.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{
    backbone::{Backbone, binary},
    messages::Member,
    process::eventually,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that a member has unanswered at most.
const WINDOW: u64 = 20;

/// Says numbers until it is told to stop, and checks what it hears: every ack in order, no gap, no refusal,
/// one total order. Who said which number, in that order.
async fn talk(mut member: Member, who: u64, stop: watch::Receiver<bool>) -> Vec<(u64, u64)> {
    let (mut said, mut acked) = (0, 0);
    let mut heard = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_millis(25));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let stopped = *stop.borrow();
        if stopped && acked == said && heard.contains(&(who, said)) {
            return heard;
        }
        tokio::select! {
            _ = pace.tick(), if !stopped && said - acked < WINDOW => {
                said += 1;
                let body = json!({ "who": who, "n": said });
                member.send(json!({ "t": "pub", "n": said, "class": "log", "topic": "chat", "body": body })).await;
            }
            word = member.next() => {
                let word = word.expect("the edge stays");
                let events = match word["t"].as_str().expect("t") {
                    "ack" => {
                        acked += 1;
                        assert_eq!(word["n"], acked, "acks come in order");
                        continue;
                    }
                    "ev" => vec![word],
                    "evs" => word["evs"].as_array().expect("evs").clone(),
                    _ => panic!("neither ack nor message: {word}"),
                };
                heard.extend(events.iter().map(|event| {
                    let number = |name: &str| event["body"][name].as_u64().expect("a number");
                    (number("who"), number("n"))
                }));
            }
        }
    }
}

/// `longspan room move …`, in a thread of its own: its exit code and what it said.
async fn move_room(backbone: &Backbone, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(binary());
    command
        .args(["room", "move", "talk"])
        .args(args)
        .env("LONGSPAN_DATA_DIR", backbone.data());
    let ran = tokio::task::spawn_blocking(move || command.output().expect("longspan runs"));
    let ran = ran.await.expect("it ends");
    let text = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (ran.status.code().unwrap_or(-1), text.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_moves_to_and_fro_and_its_members_talk_on() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "cn-beijing,hk,sg"]);
    let (stop, stopped) = watch::channel(false);
    let mut talking = Vec::new();
    for (who, region) in (0..).zip(["cn-beijing", "sg"]) {
        let http = backbone.region(region).http;
        let session = format!("0{who}").repeat(16);
        let member = eventually("a place in the room", PATIENCE, async || {
            Member::join(&http, "talk", &session).await
        });
        talking.push(tokio::spawn(talk(member.await, who, stopped.clone())));
    }
    let group = async || {
        let room = backbone.api("/api/v1/rooms/talk").await;
        room["group"].as_str().map(str::to_owned)
    };
    let first = eventually("a group", PATIENCE, group).await;
    // There are no groups in these regions yet: they are made.
    for region in ["hk", "sg", "cn-beijing"] {
        let (code, told) =
            move_room(&backbone, &["--region", region, "--reason", "new disks"]).await;
        assert_eq!(code, 0, "{told}");
        assert!(told.contains("moved from group"), "{told}");
        let room = backbone.api("/api/v1/rooms/talk").await;
        assert_eq!(room["placement"]["region"], region, "{room:#}");
        assert!(
            room["move"].is_null() && room["last_move"]["failed"].is_null(),
            "{room:#}"
        );
    }
    let home = group().await.expect("a group");
    assert_eq!(home, first, "it is where it was");

    let refused: [(&[&str], i32, &str); 4] = [
        (&["--group", &home, "--reason", "x"], 4, "already"),
        (
            &["--group", "1.999", "--reason", "x"],
            3,
            "no placement group 1.999",
        ),
        (&["--region", "mars", "--reason", "x"], 3, "region mars"),
        (
            &["--tenant", "nobody", "--reason", "x"],
            3,
            "there is no room",
        ),
    ];
    for (args, code, why) in refused {
        let (got, told) = move_room(&backbone, args).await;
        assert_eq!(got, code, "{args:?}: {told}");
        assert!(told.contains(why), "{args:?}: {told}");
    }
    let audit = backbone.run(&["audit", "ls"]);
    assert!(
        audit.1.contains("new disks") && audit.1.contains("room_moved"),
        "{}",
        audit.1
    );

    // Whoever comes now finds all of it.
    let http = backbone.region("hk").http;
    let late = eventually("a place in the room", PATIENCE, async || {
        Member::join(&http, "talk", &"0c".repeat(16)).await
    });
    let welcome = late.await.welcome;
    assert!(welcome["seq"].as_u64() > Some(100), "{welcome}");
    stop.send_replace(true);
    let mut ends = Vec::new();
    for task in talking {
        ends.push(task.await.expect("a member heard everything"));
    }
    for heard in &ends {
        for who in 0..2 {
            let of = heard.iter().filter(|(from, _)| *from == who);
            let numbers: Vec<u64> = of.map(|(_, n)| *n).collect();
            let first = numbers.first().copied().unwrap_or_default();
            let wanted: Vec<u64> = (first..first + numbers.len() as u64).collect();
            assert_eq!(
                numbers, wanted,
                "each message once, in its publisher's order"
            );
            assert!(numbers.len() > 50, "they talked all the while");
        }
    }
    // One order for both, from where both were there.
    let both = ends[0]
        .iter()
        .position(|first| *first == ends[1][0])
        .expect("it heard that too");
    let (a, b) = (&ends[0][both..], &ends[1][..]);
    let length = a.len().min(b.len());
    assert_eq!(a[..length], b[..length]);
}

/// What a script sees of a move.
#[tokio::test(flavor = "multi_thread")]
async fn a_detached_move_is_told_as_json_and_ends() {
    let backbone = Backbone::start(&["--no-sample", "--regions", "hk,sg"]);
    let http = backbone.region("hk").http;
    let member = eventually("a place in the room", PATIENCE, async || {
        Member::join(&http, "talk", &"0a".repeat(16)).await
    });
    let _member = member.await;
    let args = ["--region", "sg", "--reason", "x", "--detach", "-o", "json"];
    let (code, told) = move_room(&backbone, &args).await;
    assert_eq!(code, 0, "{told}");
    let begun: Value = serde_json::from_str(&told).unwrap_or_else(|e| panic!("{e}: {told}"));
    let room = eventually("the room is there", PATIENCE, async || {
        let room = backbone.api("/api/v1/rooms/talk").await;
        (room["group"] == begun["to"]).then_some(room)
    });
    assert_eq!(room.await["last_move"]["word"], begun["word"]);
}
