//! Calls along a path.

use bytes::Bytes;
use longspan_proto::ids::{Generation, NodeId};
use longspan_relay::node::{CallError, CallOpen, CallStatus, Handle, Verb};

use crate::world::{World, eventually, id, room, soon};

fn open(verb: Verb) -> CallOpen {
    CallOpen {
        verb,
        path: vec![id("ignored")],
        crossed: Vec::new(),
        room: room(),
        generation: Generation::new(0, 4),
        ticket: Bytes::from_static(b"ticket"),
        group: 0,
    }
}

/// Serves calls by sending every message back, twice the bytes.
fn echo(handle: &Handle) {
    let mut calls = handle.serve(Verb::Publish);
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            tokio::spawn(async move {
                let mut call = call.accept().await.unwrap();
                while let Ok(Some(message)) = call.recv().await {
                    let twice = [&message[..], &message[..]].concat();
                    if call.send(twice.into()).await.is_err() {
                        return;
                    }
                }
                call.finish();
            });
        }
    });
}

async fn talks(world: &World, from: &str, to: NodeId) {
    let mut call = soon(
        "the reply",
        world.handle(from).call(&to, open(Verb::Publish)),
    )
    .await
    .unwrap();
    for len in [0, 1, 1_000, 500_000] {
        let message = Bytes::from(vec![len as u8; len]);
        call.send(message.clone()).await.unwrap();
        let back = soon("the echo", call.recv()).await.unwrap().unwrap();
        assert_eq!(back, [&message[..], &message[..]].concat());
    }
    call.finish();
    assert_eq!(soon("the end", call.recv()).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_two_nodes_between_and_to_itself() {
    let world = World::chain(&["edge-1", "a", "b", "edge-2"]).await;
    echo(world.handle("edge-2"));
    echo(world.handle("b"));
    talks(&world, "edge-1", id("edge-2")).await;
    talks(&world, "edge-1", id("b")).await;
    talks(&world, "b", id("b")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callee_sees_who_calls_and_over_whom() {
    let world = World::chain(&["a", "b", "c"]).await;
    let mut calls = world.handle("c").serve(Verb::State);
    let asked = world.handle("a").clone();
    let caller = tokio::spawn(async move { asked.call(&id("c"), open(Verb::State)).await });
    let call = soon("the call", calls.recv()).await.unwrap();
    assert_eq!(call.open().crossed, [id("a"), id("b")]);
    assert!(call.open().path.is_empty());
    assert_eq!(call.open().room, room());
    assert_eq!(call.open().generation, Generation::new(0, 4));
    assert_eq!(call.open().ticket, "ticket");
    call.refuse(CallStatus::StaleGeneration, "it is 5 by now")
        .await;
    match soon("the answer", caller).await.unwrap() {
        Err(CallError::Refused {
            status, message, ..
        }) => {
            assert_eq!(status, CallStatus::StaleGeneration);
            assert_eq!(message, "it is 5 by now");
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was refused"),
    }
}

async fn refused(handle: &Handle, to: &str, verb: Verb) -> String {
    match soon("the answer", handle.call(&id(to), open(verb))).await {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it should be refused"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_why() {
    let mut world = World::chain_with(&["a", "b", "c"], |mut config| {
        config.limits.waiting_calls = 1;
        config
    })
    .await;
    let a = world.handle("a").clone();
    assert_eq!(
        refused(&a, "c", Verb::Trace).await,
        "the call to c was refused: nobody serves Trace here"
    );
    assert_eq!(
        refused(&a, "nobody", Verb::Trace).await,
        "nobody is not reachable: no way is known"
    );
    // One waits for a server that never takes it.
    let _calls = world.handle("c").serve(Verb::Publish);
    let waiting = tokio::spawn({
        let a = a.clone();
        async move { a.call(&id("c"), open(Verb::Publish)).await.map(drop) }
    });
    let busy = loop {
        // Whichever of the two comes second is refused.
        let text = tokio::time::timeout(
            std::time::Duration::from_millis(200),
            refused(&a, "c", Verb::Publish),
        );
        if let Ok(text) = text.await {
            break text;
        }
    };
    assert_eq!(
        busy,
        "the call to c was refused: 1 calls wait here, the limit"
    );
    waiting.abort();
    world.nodes.remove("c").unwrap().stop().await;
    let text = refused(&a, "c", Verb::Publish).await;
    assert!(
        text == "the call to c was refused: b is not connected to c" || text.contains("broke"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_hangs_up_is_noticed_at_the_far_end() {
    let world = World::chain(&["a", "b", "c"]).await;
    let mut calls = world.handle("c").serve(Verb::Publish);
    let a = world.handle("a").clone();
    let caller = tokio::spawn(async move {
        let mut call = a.call(&id("c"), open(Verb::Publish)).await.unwrap();
        call.send(Bytes::from_static(b"bye")).await.unwrap();
    });
    let mut call = soon("the call", calls.recv())
        .await
        .unwrap()
        .accept()
        .await
        .unwrap();
    assert_eq!(soon("a word", call.recv()).await, Ok(Some("bye".into())));
    caller.await.unwrap();
    assert_eq!(soon("the end", call.recv()).await, Ok(None));
    // Down, the same is seen by sending.
    let mut told = Ok(());
    while told.is_ok() {
        told = soon("the stop", call.send(vec![0; 100_000].into())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_above_the_limit_is_not_sent() {
    let world = World::chain(&["a", "b"]).await;
    echo(world.handle("b"));
    let mut call = world
        .handle("a")
        .call(&id("b"), open(Verb::Publish))
        .await
        .unwrap();
    let len = (1 << 20) + 1;
    assert_eq!(
        call.send(vec![0; len].into()).await,
        Err(CallError::TooLarge { len })
    );
}

/// What a link is needed for, at both of its ends.
fn needs(world: &World, a: &str, b: &str) -> [String; 2] {
    [(a, b), (b, a)].map(|(at, of)| {
        let peer = world.nodes[at].peer(of).expect("they are connected");
        peer["need"].as_str().unwrap().to_owned()
    })
}

/// A link that is probed once a second is known to be dead too late for whoever waits for an answer.
#[tokio::test(flavor = "multi_thread")]
async fn links_that_words_of_a_call_cross_are_probed_as_links_that_carry() {
    let world = World::chain(&["a", "b", "c", "d"]).await;
    echo(world.handle("c"));
    let idle = |a, b| needs(&world, a, b) == ["idle", "idle"];
    assert!(idle("a", "b") && idle("b", "c") && idle("c", "d"));
    let c = id("c");
    let calling = world.handle("a").call(&c, open(Verb::Publish));
    let mut call = soon("the reply", calling).await.unwrap();
    let carries = |a, b| needs(&world, a, b) == ["carrying", "carrying"];
    let talk = async {
        loop {
            call.send(Bytes::from_static(b"word")).await.unwrap();
            call.recv().await.unwrap();
            if carries("a", "b") && carries("b", "c") {
                return;
            }
        }
    };
    soon("both links carry", talk).await;
    assert!(idle("c", "d"), "nothing crosses it");
    eventually("they are idle again", || idle("a", "b") && idle("b", "c")).await;
}
