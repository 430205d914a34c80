//! Who is in a room, as its members are told by edges, over the room's log.

use longspan_edge::Limits;
use serde_json::{Value, json};

use super::{
    client::{claims, sign},
    logs::{CBOR, JSON, Logs},
};

fn of(name: &str) -> impl Fn(&Value) -> bool {
    let key = json!(format!("presence/{name}"));
    move |event| event["topic"] == "presence" && event["key"] == key
}

#[tokio::test(flavor = "multi_thread")]
async fn members_see_each_other_across_edges_and_a_dead_edge_takes_its_own_along() {
    let mut logs = Logs::with(2, false, Limits::default()).await;
    let tokens = ["anna", "ben", "carl"].map(|name| sign(&claims(name)));
    let mut ghost = claims("inspector");
    ghost["video"]["hidden"] = json!(true);
    let (_inspector, _) = logs.join_at(0, 9, Some(&sign(&ghost)), JSON).await;
    let (mut anna, _) = logs.join_at(0, 1, Some(&tokens[0]), JSON).await;
    let here = anna.event(of("anna")).await;
    assert_eq!(
        (&here["class"], &here["from"]),
        (&json!("state"), &json!(""))
    );
    assert_eq!(here["body"], json!({ "member": "anna" }));

    // Whoever comes later has it in the welcome, or hears of it.
    let (mut ben, welcome) = logs.join_at(1, 2, Some(&tokens[1]), CBOR).await;
    if welcome["state"]["presence/anna"].is_null() {
        ben.event(of("anna")).await;
    } else {
        assert_eq!(welcome["state"]["presence/anna"]["body"]["member"], "anna");
    }
    assert!(welcome["state"]["presence/inspector"].is_null());
    anna.event(of("ben")).await;

    // He comes back before he is missed, at the other edge; then the first connection goes.
    let (ben_too, _) = logs.join_at(0, 3, Some(&tokens[1]), JSON).await;
    let (carl, _) = logs.join_at(1, 4, Some(&tokens[2]), JSON).await;
    anna.event(of("carl")).await;
    drop(carl);
    // Nothing is said of Ben or the inspector until Carl is gone.
    let next = anna.event(|event| event["topic"] == "presence").await;
    assert_eq!(
        (&next["key"], &next["body"]),
        (&json!("presence/carl"), &Value::Null)
    );

    // The edge of Ben's first connection dies: he is still here, at the other.
    drop(ben);
    let (_carl, _) = logs.join_at(1, 4, Some(&tokens[2]), JSON).await;
    anna.event(of("carl")).await;
    logs.edges[1].kill();
    let gone = anna.event(|event| event["topic"] == "presence").await;
    assert_eq!(
        (&gone["key"], &gone["body"]),
        (&json!("presence/carl"), &Value::Null)
    );
    drop(ben_too);
    let gone = anna.event(|event| event["topic"] == "presence").await;
    assert_eq!(
        (&gone["key"], &gone["body"]),
        (&json!("presence/ben"), &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_leader_tells_nobody_gone() {
    let mut logs = Logs::with(1, false, Limits::default()).await;
    let tokens = ["anna", "ben", "carl"].map(|name| sign(&claims(name)));
    let (mut anna, _) = logs.join_at(0, 1, Some(&tokens[0]), JSON).await;
    let (_ben, _) = logs.join_at(0, 2, Some(&tokens[1]), JSON).await;
    anna.event(of("ben")).await;
    let leader = logs.leader().await;
    logs.relays[leader].kill();
    let (carl, _) = logs.join_at(0, 3, Some(&tokens[2]), JSON).await;
    let next = anna.event(|event| event["topic"] == "presence").await;
    assert_eq!(next["body"]["member"], "carl", "{next}");
    drop(carl);
    let next = anna.event(|event| event["topic"] == "presence").await;
    assert_eq!(
        (&next["key"], &next["body"]),
        (&json!("presence/carl"), &Value::Null)
    );
}
