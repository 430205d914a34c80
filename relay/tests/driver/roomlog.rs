//! Room logs kept by three relays over real connections and disks: what is acked stays, whoever of
//! them dies.

use longspan_relay::node::{CallError, CallStatus, Verb};

use crate::{
    logs::{GROUP, Logs, open},
    world::soon,
};

#[tokio::test(flavor = "multi_thread")]
async fn three_relays_order_a_room_and_the_others_say_who_leads() {
    let logs = Logs::new(3).await;
    let leader = logs.leader().await;
    let mut client = logs.client(1);
    for n in 1..=5 {
        assert_eq!(client.publish(&n.to_string()).await, n);
    }
    client.check().await;
    let told = client.follow(2, 4).await;
    let seqs: Vec<u64> = told.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, [2, 3, 4, 5]);
    let name = logs.relays[leader].name().to_string();
    for other in (0..3).filter(|other| *other != leader) {
        let to = logs.relays[other].name().clone();
        // It may hear of the leader a moment later.
        let refused = async {
            loop {
                let calling = logs.edge.handle().call(&to, open(Verb::Publish)).await;
                match calling.map(drop).unwrap_err() {
                    CallError::Refused {
                        status, message, ..
                    } if status == CallStatus::Elsewhere => break message,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        assert_eq!(soon("who leads", refused).await, name);
    }
    let elsewhere = longspan_relay::node::CallOpen {
        group: GROUP + 1,
        ..open(Verb::State)
    };
    let to = logs.relays[leader].name();
    let refused = logs.edge.handle().call(to, elsewhere).await.map(drop);
    assert!(matches!(
        refused.unwrap_err(),
        CallError::Refused {
            status: CallStatus::Unavailable,
            ..
        }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_while_publishing_costs_no_acked_message() {
    let mut logs = Logs::new(3).await;
    let mut client = logs.client(1);
    for round in 0..3 {
        for n in 0..20 {
            client.publish(&format!("{round} {n}")).await;
        }
        let leader = logs.leader().await;
        logs.relays[leader].kill();
        for n in 20..30 {
            client.publish(&format!("{round} {n}")).await;
        }
        client.check().await;
        logs.relays[leader].restart().await;
        logs.tell_world();
    }
    let state = client.check().await;
    assert_eq!(state.seq, 90);
    // Whoever followed under an older generation goes on in the newest where it was.
    let told = client.follow(57, 34).await;
    assert!(told.iter().map(|message| message.seq).eq(57..=90));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_them_come_back_from_their_disks_without_a_controller() {
    let mut logs = Logs::new(3).await;
    let mut client = logs.client(1);
    for n in 0..10 {
        client.publish(&n.to_string()).await;
    }
    for relay in &mut logs.relays {
        relay.kill();
    }
    for relay in &mut logs.relays {
        relay.restart().await;
    }
    logs.tell_world();
    client.check().await;
    assert_eq!(client.publish("on").await, 11);
    client.check().await;
}
