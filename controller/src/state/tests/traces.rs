//! The ways of a room's tracks, asked from the nodes.

use longspan_proto::ids::Track;

use super::*;
use crate::state::traces::Verdict;

fn track(name: &str, generation: Generation, chain: &str) -> TracedTrack {
    TracedTrack {
        stream: stream("teacher"),
        track: Track::new(name).unwrap(),
        generation,
        chain: chain.split_whitespace().map(node).collect(),
        receivers: 1,
    }
}

#[test]
fn tables_and_nodes_stand_side_by_side() {
    let mut world = World::new();
    let relay = world.join("hk-relay-1", 1, 0);
    let edges = ["hk-edge-1", "sg-edge-1", "bj-edge-1", "de-edge-1"];
    let conns = edges.map(|edge| world.join(edge, 1, 0));
    for conn in conns {
        world.watch(conn, "class");
        world.said(conn, Said::Attached(vec![node("hk-relay-1")]));
        world.said(conn, Said::Links(vec![report("hk-relay-1", 20)]));
    }
    world.said(
        relay,
        Said::Links(edges.map(|edge| report(edge, 20)).to_vec()),
    );
    world.settle();
    let claim = world
        .claim("hk-edge-1", ("class", "teacher"), "ann")
        .unwrap();
    world.live(&[relay], 1);

    let ticket = world.number();
    world.input(0, Input::Trace(ticket, room("class")));
    let [hk, sg, bj, _] = conns;
    let straight = "hk-edge-1 hk-relay-1 sg-edge-1";
    let tracks = vec![
        track("audio", claim.generation, straight),
        track("video", claim.generation, straight),
        track("video", Generation::new(0, 0), "old"),
    ];
    world.said(sg, Said::Traced(ticket, tracks));
    let around = track("video", claim.generation, "hk-edge-1 sg-relay-1 bj-edge-1");
    world.said(bj, Said::Traced(ticket, vec![around]));
    world.said(hk, Said::Traced(ticket, Vec::new()));
    // An answer to what nobody asked.
    world.said(hk, Said::Traced(ticket + 99, Vec::new()));
    assert!(world.controllers[0].traced.is_empty(), "one is waited for");
    world.wait(Duration::from_secs(2));
    let trace = world.controllers[0].traced[&ticket]
        .clone()
        .expect("a room");
    let teacher = &trace.streams[0];
    assert_eq!(teacher.stream, stream("teacher"));
    let told = teacher.edges.iter().map(|e| (e.edge.as_str(), e.verdict));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            ("bj-edge-1", Verdict::Otherwise),
            ("de-edge-1", Verdict::Silent),
            ("sg-edge-1", Verdict::AsTold),
        ]
    );
    let sg = &teacher.edges[2];
    assert_eq!(sg.actual.len(), 1, "tracks of one way stand together");
    assert_eq!(sg.actual[0].tracks.len(), 2);
    assert_eq!(trace.streams.len(), 1, "no group keeps its messages");

    let ticket = world.number();
    world.input(0, Input::Trace(ticket, room("klass")));
    assert_eq!(world.controllers[0].traced[&ticket], None);
    let told = world.state().no_room(&room("klass"));
    assert_eq!(
        told,
        Unchanged::NotFound {
            what: "there is no room default/klass".into(),
            near: Some("class".into()),
        }
    );
}
