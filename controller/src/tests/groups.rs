//! Placement groups over real tonic and real etcd, with relays that are not real: a replacement that
//! one controller begins and another ends.

use std::time::Duration;

use longspan_proto::control::{self, GroupStatus, NodeStatus, Role, from_node::Message as Said};
use tonic::Code;

use super::{
    Running, StoreConfig,
    node::{self, Node, info},
};
use crate::{Limits, store::test_etcd};

fn keeper(id: &str, boot: u64, disk: u64) -> control::Join {
    control::Join {
        node: Some(info(id, Role::Relay, boot)),
        disk,
        ..Default::default()
    }
}

async fn join(url: &str, join: control::Join) -> Node {
    Node::join_as(node::client(url).await, join).await.unwrap()
}

/// What the member of a group at `relay` says: that `leader` leads.
fn status(
    group: &control::PlacementGroup,
    relay: &str,
    leader: u64,
    voters: &[u64],
) -> GroupStatus {
    let mut all = group.members.iter().chain(&group.leaving);
    let me = all.find(|m| m.node == relay).expect("it is named");
    GroupStatus {
        id: group.id,
        number: me.number,
        leader,
        generation: 1 << 48 | 5,
        voters: voters.to_vec(),
        applied: 40,
        ..Default::default()
    }
}

async fn says(node: &Node, groups: Vec<GroupStatus>) {
    let status = NodeStatus {
        groups,
        ..Default::default()
    };
    node.say(Said::Status(status)).await;
}

/// The member whose relay it is.
fn number(group: &control::PlacementGroup, relay: &str) -> u64 {
    let member = group.members.iter().find(|m| m.node == relay);
    member.expect("it belongs to it").number
}

async fn start(id: &str, etcd: &test_etcd::Server) -> Running {
    let endpoints = vec![etcd.endpoint()];
    let mut config = Running::config(id, StoreConfig::Etcd { endpoints });
    config.limits.election_ttl = Limits::default().election_ttl;
    config.limits.member_grace = Duration::from_secs(1);
    Running::start(config).await
}

#[tokio::test]
async fn a_replacement_that_one_controller_begins_is_ended_by_another() {
    let etcd = test_etcd::Server::start(&test_etcd::programs()[0]).await;
    let mut first = start("controller-1", &etcd).await;
    let second = start("controller-2", &etcd).await;
    let mut one = join(&first.grpc, keeper("hk-relay-1", 1, 11)).await;
    let two = join(&first.grpc, keeper("hk-relay-2", 1, 12)).await;
    let three = join(&first.grpc, keeper("hk-relay-3", 1, 13)).await;
    let mut edge = Node::edge(&first.grpc, "hk-edge").await;
    edge.watch("class").await;
    let is_placed = |n: &Node| n.rooms.get("class").is_some_and(|r| r.group != 0);
    edge.until(is_placed).await.unwrap();
    let id = edge.rooms["class"].group;
    one.until(|n| n.groups.contains_key(&id)).await.unwrap();
    let born = one.groups[&id].clone();
    assert_eq!((born.members.len(), born.revision), (3, 1));
    let leader = number(&born, "hk-relay-1");
    says(&one, vec![status(&born, "hk-relay-1", leader, &born.born)]).await;
    let shown = first
        .until("/api/v1/rooms/class", |r| {
            r["placement"]["state"] == "whole"
        })
        .await;
    assert_eq!(shown["placement"]["leader"], "hk-relay-1");
    assert_eq!(shown["placement"]["members"].as_array().unwrap().len(), 3);

    // The third is gone for good, and a fourth is there.
    let mut four = join(&first.grpc, keeper("hk-relay-4", 1, 14)).await;
    let _lease = three.leave().await;
    let beats = async {
        loop {
            for node in [&one, &two, &four] {
                node.heartbeat().await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let replaced = async {
        first
            .until("/api/v1/groups", |groups| {
                groups
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|g| g["revision"] == 2)
            })
            .await
    };
    tokio::select! {
        () = beats => {}
        _ = replaced => {}
    }
    one.until(|n| n.groups.get(&id).is_some_and(|g| g.revision == 2))
        .await
        .unwrap();
    four.until(|n| n.groups.get(&id).is_some_and(|g| g.revision == 2))
        .await
        .unwrap();
    let moved = one.groups[&id].clone();
    assert_eq!(moved.leaving.len(), 1);
    assert_eq!(moved.leaving[0].node, "hk-relay-3");
    assert_eq!(
        moved.members.last().map(|m| (m.number, m.disk)),
        Some((4, 14))
    );

    // As by kill -9: the other controller knows what the store says.
    first.task.take().expect("it runs").abort();
    let mut back = Vec::new();
    for before in [&one, &two, &four] {
        let disk = 10
            + before
                .info
                .id
                .bytes()
                .next_back()
                .map_or(0, |n| u64::from(n - b'0'));
        let mut again = keeper(&before.info.id, 1, disk);
        again.session = before.session;
        again.groups = before.groups.values().cloned().collect();
        let joined = async {
            loop {
                match Node::join_as(node::client(&second.grpc).await, again.clone()).await {
                    Ok(node) => return node,
                    Err(why) => assert_eq!(why.code(), Code::Unavailable, "{why}"),
                }
                tokio::task::yield_now().await;
            }
        };
        let node = super::soon(joined).await;
        node.links(&[]).await;
        back.push(node);
    }
    let mut one = back.remove(0);
    one.until(|n| n.groups.contains_key(&id)).await.unwrap();
    assert_eq!(one.groups[&id], moved, "it goes on from there");
    let members: Vec<u64> = moved.members.iter().map(|m| m.number).collect();
    says(&one, vec![status(&moved, "hk-relay-1", leader, &members)]).await;
    one.until(|n| n.groups[&id].revision == 3).await.unwrap();
    assert!(one.groups[&id].leaving.is_empty());
    second
        .until("/api/v1/groups", |groups| {
            let groups = groups.as_array().unwrap().iter();
            groups
                .clone()
                .any(|g| g["revision"] == 3 && g["state"] == "whole")
        })
        .await;
}

#[tokio::test]
async fn what_makes_no_sense_ends_the_session_by_name() {
    let controller = Running::embedded().await;
    let group = |id: u64, numbers: &[u64]| control::PlacementGroup {
        id,
        era: 1,
        revision: 1,
        members: numbers
            .iter()
            .map(|number| control::GroupMember {
                number: *number,
                node: "hk-relay-1".into(),
                disk: 11,
            })
            .collect(),
        born: vec![1],
        leaving: Vec::new(),
    };
    let cases: Vec<(Vec<control::PlacementGroup>, &[&str])> = vec![
        (vec![group(0, &[1])], &["join.groups.id", "0 is no group"]),
        (vec![group(7, &[])], &["0.7", "no members"]),
        (vec![group(7, &[1, 0])], &["0 is no member's number"]),
        (vec![group(7, &[3, 3])], &["3 is named twice"]),
        (
            vec![group(7, &(1..18).collect::<Vec<_>>())],
            &["17 members", "16"],
        ),
        (
            vec![control::PlacementGroup {
                revision: u64::MAX,
                ..group(7, &[1])
            }],
            &["revision", "281474976710656"],
        ),
        (
            vec![control::PlacementGroup {
                era: 70_000,
                ..group(7, &[1])
            }],
            &["era 70000", "65535"],
        ),
        (
            (1..=1_025).map(|id| group(id, &[1])).collect(),
            &["1025 groups", "the limit is 1024"],
        ),
    ];
    for (groups, words) in cases {
        let join = control::Join {
            groups,
            ..keeper("hk-relay-1", 1, 11)
        };
        let told = Node::join_as(node::client(&controller.grpc).await, join).await;
        let why = told.err().expect("refused");
        assert_eq!(why.code(), Code::InvalidArgument, "{why}");
        for word in words {
            assert!(why.message().contains(word), "{word:?} in {why}");
        }
    }
    // As many as may be are taken; and so are reports, up to the limit.
    let join = control::Join {
        groups: (1..=1_024).map(|id| group(id, &[1])).collect(),
        ..keeper("hk-relay-1", 1, 11)
    };
    let mut relay = Node::join_as(node::client(&controller.grpc).await, join)
        .await
        .unwrap();
    relay.until(|n| n.groups.len() == 1_024).await.unwrap();
    let flood = (0..1_025).map(|id| GroupStatus {
        id: id + 1,
        number: 1,
        ..Default::default()
    });
    says(&relay, flood.collect()).await;
    let ended = async {
        loop {
            if let Err(why) = relay.next().await {
                return why;
            }
        }
    };
    let why = super::soon(ended).await;
    assert!(why.message().contains("1025 groups"), "{why}");
}
