//! Room logs kept by three relays over real connections and disks: what is acked stays, whoever of
//! them dies.

use bytes::BytesMut;
use longspan_proto::{
    control::PlacementGroup,
    ids::Generation,
    wire::{
        Writer,
        room::{PACKET_STREAM, PACKETS_STREAM},
    },
};
use longspan_relay::node::{CallError, CallStatus, Verb};

use crate::{
    logs::{GROUP, Logs, open},
    stranger::{dial, greet, hello},
    world::{counted, eventually, metrics, soon},
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
                        status: CallStatus::Elsewhere,
                        message,
                        ..
                    } => break message,
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

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_its_disk_comes_back_as_another_and_is_told_some_megabytes() {
    let mut logs = Logs::new(3).await;
    let mut client = logs.client(1);
    for key in 0..250 {
        // No member writes more than 1 MB.
        let member = format!("m{}", key % 5);
        client.put(&member, &key.to_string(), 15_000).await;
    }
    let lost = (logs.leader().await + 1) % 3;
    logs.relays[lost].kill();
    logs.relays[lost].lose_disk();
    logs.relays[lost].restart().await;
    logs.tell_world();
    let before = logs.born();
    let old = before.members[lost].clone();
    // The record of before names another disk than it has now: it takes no part under that number.
    logs.tell(&PlacementGroup {
        revision: 2,
        ..before.clone()
    });
    let mut members = before.members.clone();
    members[lost] = logs.relays[lost].member(4);
    assert_ne!(members[lost].disk, 0);
    let replaced = PlacementGroup {
        revision: 3,
        members,
        leaving: vec![longspan_proto::control::GroupMember { disk: 1, ..old }],
        ..before
    };
    logs.tell(&replaced);
    let newcomer = || {
        logs.relays[lost]
            .status()
            .filter(|status| status.number == 4)
    };
    eventually("the newcomer votes", || {
        newcomer().is_some_and(|status| status.voters.contains(&4) && status.voters.len() == 3)
    })
    .await;
    // It knows all: with one of the others gone it is half of the majority.
    let leader = logs.leader().await;
    let other = (0..3).find(|at| *at != leader && *at != lost);
    logs.relays[other.unwrap_or(leader)].kill();
    let before = client.acked.len() as u64;
    assert_eq!(client.publish("on").await, before + 1);
    let (_, _, state) = client.state().await;
    assert_eq!(state.keys.len(), 250);
    assert_eq!(state.seq, before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_and_goes_on_tells_nothing_old() {
    let mut logs = Logs::new(3).await;
    let mut client = logs.client(1);
    client.publish("before").await;
    let leader = logs.leader().await;
    logs.relays[leader].stop();
    for n in 0..5 {
        client.publish(&n.to_string()).await;
    }
    logs.relays[leader].go_on();
    client.publish("after").await;
    assert_eq!(client.check().await.seq, 7);
    let generation = || {
        let all: Vec<_> = logs
            .relays
            .iter()
            .filter_map(|relay| relay.status())
            .collect();
        all.iter().all(|s| {
            (s.leader, s.generation, s.applied)
                == (all[0].leader, all[0].generation, all[0].applied)
        })
    };
    eventually("they agree", generation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_takes_nothing_and_two_do() {
    let mut logs = Logs::new(3).await;
    let mut client = logs.client(1);
    client.publish("before").await;
    let leader = logs.leader().await;
    let (left, other) = ((leader + 1) % 3, (leader + 2) % 3);
    logs.relays[leader].kill();
    logs.relays[other].kill();
    let name = logs.relays[left].name().clone();
    let refused = async {
        loop {
            let calling = logs.edge.handle().call(&name, open(Verb::Publish)).await;
            if let Err(CallError::Refused { status, .. }) = calling
                && status == CallStatus::Unavailable
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    soon("it knows of no leader", refused).await;
    logs.relays[other].restart().await;
    logs.tell_world();
    assert_eq!(client.publish("after").await, 2);
    client.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_drained_hands_over_the_lead() {
    let logs = Logs::new(3).await;
    let mut client = logs.client(1);
    client.publish("before").await;
    let leader = logs.leader().await;
    logs.tell_world_with(Some(leader));
    eventually("another leads", || {
        logs.relays
            .iter()
            .enumerate()
            .any(|(at, relay)| at != leader && relay.status().is_some_and(|s| s.leader == s.number))
    })
    .await;
    assert_eq!(client.publish("after").await, 2);
    client.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_place_costs_no_number() {
    let logs = Logs::new(3).await;
    let mut client = logs.client(1);
    client.publish("one").await;
    client.whisper().await;
    client.whisper().await;
    assert_eq!(client.publish("two").await, 2);
    client.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_speaks_for_nobody_but_its_own_members() {
    metrics();
    let logs = Logs::new(3).await;
    let mut client = logs.client(1);
    client.publish("before").await;
    let leader = logs.leader().await;
    let follower = (leader + 1) % 3;
    let (address, name) = {
        let relay = &logs.relays[follower];
        (relay.handle().address(), relay.name().clone())
    };
    let liar = logs.ca.identity("k");
    let (_endpoint, conn) = dial(&liar, b"longspan/1", address, name.as_str())
        .await
        .unwrap();
    let _control = greet(&conn, hello("k")).await;
    // A heartbeat of the leader in a term far ahead (WIRE.md, "Room log").
    let mut packet = BytesMut::new();
    packet.varint(GROUP);
    packet.extend_from_slice(&[0, 1]);
    packet.varint(leader as u64 + 1);
    packet.varint(follower as u64 + 1);
    packet.varint(5);
    packet.extend_from_slice(&[0, 8]);
    packet.varint(4_000);
    packet.extend_from_slice(&[0; 9]);
    let lost = r#"longspan_log_packets_lost_total{reason="stranger"}"#;
    let before = counted(lost);
    let mut small = conn.open_uni().await.unwrap();
    let mut out = BytesMut::new();
    out.varint(PACKETS_STREAM);
    out.prefixed(&packet);
    small.write_all(&out).await.unwrap();
    eventually("it is dropped and counted", || counted(lost) > before).await;
    let mut large = conn.open_uni().await.unwrap();
    let mut out = BytesMut::new();
    out.varint(PACKET_STREAM);
    out.extend_from_slice(&packet);
    large.write_all(&out).await.unwrap();
    soon("the large one is not read", large.stopped())
        .await
        .unwrap();
    client.publish("after").await;
    client.check().await;
    let status = logs.relays[follower].status().unwrap();
    assert!(Generation(status.generation).counter() < 4_000);
    // Two such streams at once are more than any node of ours opens.
    let mut second = conn.open_uni().await.unwrap();
    let mut out = BytesMut::new();
    out.varint(PACKETS_STREAM);
    second.write_all(&out).await.unwrap();
    let (code, _) = crate::stranger::closed(&conn).await;
    assert_eq!(code, 1);
}
