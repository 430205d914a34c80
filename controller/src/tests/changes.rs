//! What operators change over HTTP, and what they are refused.

use serde_json::{Value, json};

use super::{Running, TOKEN, node::Node};

/// Two relays with a link each way, and an edge.
async fn backbone() -> (Running, [Node; 3]) {
    let controller = Running::embedded().await;
    let bj = Node::relay(&controller.grpc, "bj-relay-1").await;
    let hk = Node::relay(&controller.grpc, "hk-relay-1").await;
    let edge = Node::edge(&controller.grpc, "hk-edge-1").await;
    bj.links(&[("hk-relay-1", 40)]).await;
    hk.links(&[("bj-relay-1", 40)]).await;
    let both = |links: &Value| links.as_array().is_some_and(|links| links.len() == 2);
    controller.until("/api/v1/links", both).await;
    (controller, [bj, hk, edge])
}

fn why() -> Value {
    json!({"reason": "new cables", "owner": "ann"})
}

fn with(field: &str, value: impl Into<Value>) -> Value {
    let mut body = why();
    body[field] = value.into();
    body
}

#[tokio::test]
async fn what_is_asked_for_is_shown_and_audited_until_it_is_taken_back() {
    let (controller, _nodes) = backbone().await;
    let done = |(status, answer): (u16, Value), changed: bool| {
        assert_eq!(
            (status, &answer["changed"]),
            (200, &changed.into()),
            "{answer}"
        );
    };
    let node = "/api/v1/nodes/hk-relay-1";
    let link = "/api/v1/links/bj-relay-1/hk-relay-1";
    // First: a path over a link that is cordoned cannot be pinned.
    let mut pin = why();
    pin["from"] = "bj-relay-1".into();
    pin["to"] = "hk-relay-1".into();
    done(
        controller.post("/api/v1/routes/pin", pin.clone()).await,
        true,
    );
    done(
        controller
            .post(&format!("{node}/cordon"), with("ttl_s", 600))
            .await,
        true,
    );
    done(
        controller
            .post(&format!("{link}/cordon"), with("net", "internet"))
            .await,
        true,
    );
    done(
        controller
            .post(&format!("{link}/cost"), with("added_ms", 12.5))
            .await,
        true,
    );
    let shown = controller.get(node).await;
    assert_eq!(shown["state"], "cordoned");
    assert_eq!(shown["override"]["reason"], "new cables");
    assert!(shown["override"]["until_ms"].is_u64());
    let links = controller.get("/api/v1/links").await;
    let link_shown = links
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["from"] == "bj-relay-1");
    let kinds = |link: &Value| -> Vec<String> {
        let asked = link["overrides"].as_array().unwrap().iter();
        asked
            .map(|o| o["kind"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(kinds(link_shown.unwrap()), ["cordon", "cost_added"]);
    let all = controller.get("/api/v1/overrides").await;
    let targets = all
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["target"].as_str().unwrap());
    assert_eq!(
        targets.collect::<Vec<_>>(),
        [
            "node hk-relay-1",
            "link from bj-relay-1 to hk-relay-1 over internet",
            "cost of link from bj-relay-1 to hk-relay-1",
            "path from bj-relay-1 to hk-relay-1",
        ]
    );

    done(
        controller.post(&format!("{node}/uncordon"), why()).await,
        true,
    );
    done(
        controller.post(&format!("{node}/uncordon"), why()).await,
        false,
    );
    done(
        controller
            .post(&format!("{link}/uncordon"), with("net", "internet"))
            .await,
        true,
    );
    done(controller.post(&format!("{link}/cost"), why()).await, true);
    done(controller.post("/api/v1/routes/unpin", pin).await, true);
    assert_eq!(controller.get("/api/v1/overrides").await, json!([]));
    let audit = controller.get("/api/v1/audit").await;
    let by_ann = audit
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["actor"] == "operator ann");
    let told: Vec<_> = by_ann.map(|r| r["what"]["t"].as_str().unwrap()).collect();
    assert_eq!(told.len(), 8, "{audit:#}");
    assert_eq!((told[0], told[7]), ("override_ended", "override_set"));
}

#[tokio::test]
async fn a_drain_is_tried_dry_told_to_nodes_and_shown_until_nothing_is_left() {
    let (controller, [bj, hk, mut edge]) = backbone().await;
    let path = "/api/v1/nodes/hk-relay-1";
    let (status, plan) = controller
        .post(&format!("{path}/drain"), json!({"dry_run": true}))
        .await;
    assert_eq!(
        (status, &plan["node"]),
        (200, &"hk-relay-1".into()),
        "{plan}"
    );
    assert_eq!(controller.get("/api/v1/overrides").await, json!([]));

    let (status, answer) = controller.post(&format!("{path}/drain"), why()).await;
    assert_eq!(status, 200, "{answer}");
    edge.until(|edge| edge.draining == ["hk-relay-1"])
        .await
        .unwrap();
    let status = longspan_proto::control::NodeStatus {
        subscriptions: 2,
        ..Default::default()
    };
    hk.say(longspan_proto::control::from_node::Message::Status(status))
        .await;
    let shown = controller
        .until(path, |node| node["status"]["subscriptions"] == 2)
        .await;
    assert_eq!(shown["state"], "draining");
    hk.say(longspan_proto::control::from_node::Message::Status(
        Default::default(),
    ))
    .await;
    controller
        .until(path, |node| node["state"] == "drained")
        .await;
    drop((bj, edge));
}

#[tokio::test]
async fn bad_input_is_refused_and_named() {
    let (controller, _nodes) = backbone().await;
    let node = "/api/v1/nodes/hk-relay-1";
    let link = "/api/v1/links/bj-relay-1/hk-relay-1";
    let pin =
        |via: Value| json!({"reason": "r", "from": "bj-relay-1", "to": "hk-relay-1", "via": via});
    let cases: Vec<(String, Value, u16, &[&str])> = vec![
        (
            format!("{node}/cordon"),
            json!({}),
            400,
            &["reason is missing"],
        ),
        (
            format!("{node}/cordon"),
            with("tll_s", 5),
            400,
            &["tll_s", "ttl_s"],
        ),
        (
            format!("{node}/cordon"),
            with("ttl_s", -5),
            400,
            &["ttl_s", "-5", "within"],
        ),
        (
            format!("{node}/cordon"),
            with("ttl_s", 1e12),
            400,
            &["ttl_s", "7776000"],
        ),
        (
            format!("{node}/uncordon"),
            with("ttl_s", 5),
            400,
            &["ttl_s"],
        ),
        (
            format!("{node}/cordon"),
            with("reason", "x".repeat(513)),
            400,
            &["513", "512"],
        ),
        (
            format!("{node}/cordon"),
            with("reason", "a\nb"),
            400,
            &["reason holds"],
        ),
        (
            format!("{node}/drain"),
            with("deadline_s", 0),
            400,
            &["deadline_s", "within"],
        ),
        (
            format!("{node}/cordon"),
            with("dry_run", true),
            400,
            &["dry_run"],
        ),
        (format!("{node}/reboot"), why(), 404, &["reboot", "undrain"]),
        (
            "/api/v1/nodes/hk-rely-1/drain".into(),
            why(),
            404,
            &["did you mean hk-relay-1?"],
        ),
        (
            "/api/v1/nodes/hk-edge-1/drain".into(),
            why(),
            409,
            &["hk-edge-1", "it is the only edge"],
        ),
        (
            format!("{link}/cost"),
            with("added_ms", -1),
            400,
            &["added_ms", "-1", "10000"],
        ),
        (
            format!("{link}/cost"),
            with("added_ms", 10_001),
            400,
            &["10001", "10000"],
        ),
        (
            format!("{link}/cost"),
            with("factor", 0.05),
            400,
            &["factor", "0.05", "0.1 … 100"],
        ),
        (
            format!("{link}/cost"),
            with("factor", 101),
            400,
            &["101", "0.1 … 100"],
        ),
        (
            format!("{link}/cost"),
            json!({"reason": "r", "added_ms": 1, "factor": 2}),
            400,
            &["one of them"],
        ),
        (
            format!("{link}/cordon"),
            with("added_ms", 1),
            400,
            &["cost only"],
        ),
        (
            format!("{link}/cordon"),
            with("net", "Leased"),
            400,
            &["Leased"],
        ),
        (
            format!("{link}/cordon"),
            with("net", "leased"),
            404,
            &["no link", "leased"],
        ),
        (
            "/api/v1/links/bj-relay-1/hk-relay-2/cordon".into(),
            why(),
            404,
            &["hk-relay-2", "did you mean hk-relay-1?"],
        ),
        (
            "/api/v1/routes/pin".into(),
            pin(json!(["sg-relay-1"])),
            404,
            &["sg-relay-1"],
        ),
        (
            "/api/v1/routes/pin".into(),
            pin(json!(["hk-edge-1"])),
            409,
            &["no link"],
        ),
        (
            "/api/v1/routes/pin".into(),
            pin(json!(["hk-relay-1"])),
            409,
            &["twice"],
        ),
        (
            "/api/v1/routes/pin".into(),
            pin(json!(vec!["x"; 16])),
            400,
            &["16 nodes"],
        ),
        (
            "/api/v1/routes/pin".into(),
            json!({"reason": "r", "to": "a"}),
            400,
            &["from is missing"],
        ),
    ];
    for (path, body, code, words) in cases {
        let (status, answer) = controller.post(&path, body.clone()).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert_eq!(status, code, "{path} {body}: {answer}");
        for word in words {
            assert!(
                message.contains(word),
                "{path} {body}: {word:?} is not in {message:?}"
            );
        }
    }
    assert_eq!(controller.get("/api/v1/overrides").await, json!([]));

    // Reading verbs name what was meant, too.
    for (path, words) in [
        ("/api/v1/nodes/hk-relay-2", "did you mean hk-relay-1?"),
        (
            "/api/v1/routes/table?node=hk-relay-2",
            "did you mean hk-relay-1?",
        ),
    ] {
        let (status, body) = controller.get_as(path, Some(TOKEN)).await;
        assert_eq!(status, 404, "{path}: {body}");
        assert!(body.contains(words), "{path}: {body}");
    }
    // Never a change over GET, nor without the token, nor of any size.
    let path = format!("{node}/cordon");
    let (status, _) = controller.get_as(&path, Some(TOKEN)).await;
    assert_eq!(status, 405);
    let body = why().to_string();
    let (status, _) = controller.ask("POST", &path, None, &body).await;
    assert_eq!(status, 401);
    let large = with("reason", "x".repeat(20_000)).to_string();
    let (status, _) = controller.ask("POST", &path, Some(TOKEN), &large).await;
    assert_eq!(status, 413);
    assert_eq!(controller.get("/api/v1/overrides").await, json!([]));
}

#[tokio::test]
async fn a_trace_asks_the_edges() {
    use longspan_proto::control::TracedTrack;
    let (controller, [bj, hk, edge]) = backbone().await;
    let mut far = Node::edge(&controller.grpc, "bj-edge-1").await;
    edge.watch("class").await;
    far.watch("class").await;
    let claim = edge.claim("class", "teacher", "ann").await.unwrap();
    far.until(|far| {
        far.rooms
            .get("class")
            .is_some_and(|room| room.edges.len() == 2)
    })
    .await
    .unwrap();
    far.traced = vec![TracedTrack {
        stream: "teacher".into(),
        track: "video".into(),
        generation: claim.generation,
        chain: vec!["hk-edge-1".into(), "hk-relay-1".into(), "bj-edge-1".into()],
        receivers: 1,
    }];
    let answering = async { far.until(|_| false).await };
    let trace = tokio::select! {
        ended = answering => panic!("{ended:?}"),
        trace = controller.get("/api/v1/rooms/class/trace") => trace,
    };
    let seen = &trace["streams"][0]["edges"][0];
    assert_eq!(seen["edge"], "bj-edge-1", "{trace:#}");
    assert_eq!(seen["actual"][0]["nodes"][1], "hk-relay-1");
    assert_eq!(seen["actual"][0]["tracks"], json!(["video"]));
    let (status, body) = controller
        .get_as("/api/v1/rooms/clas/trace", Some(TOKEN))
        .await;
    assert_eq!(status, 404);
    assert!(body.contains("did you mean class?"), "{body}");
    drop((bj, hk));
}

#[tokio::test]
async fn a_room_s_policy_is_set_shown_and_audited_and_what_cannot_be_is_refused() {
    let (controller, _nodes) = backbone().await;
    let path = "/api/v1/rooms/math/policy";
    let (status, none) = controller.get_as(path, Some(TOKEN)).await;
    assert_eq!(status, 404, "{none}");
    let mut asked = with("messages", 10);
    asked["age_s"] = 90.5.into();
    let (status, taken) = controller.post(path, asked).await;
    assert_eq!(status, 200, "{taken}");
    // The room need not be open.
    assert_eq!(taken["state"], "not_open");
    let wished = &taken["wished"];
    assert_eq!(
        (&wished["messages"], &wished["age_ms"]),
        (&10.into(), &90_500.into())
    );
    let (status, taken) = controller.post(path, with("bytes", 4_096)).await;
    assert_eq!((status, &taken["wished"]["messages"]), (200, &10.into()));
    assert_eq!(controller.get(path).await, taken);
    assert_eq!(
        controller.get("/api/v1/policies?tenant=default").await,
        json!([taken])
    );
    assert_eq!(
        controller.get("/api/v1/policies?tenant=other").await,
        json!([])
    );
    let (status, taken) = controller.post(path, with("reset", true)).await;
    assert_eq!(
        (status, taken["wished"].get("messages")),
        (200, None),
        "{taken}"
    );
    let audit = controller.get("/api/v1/audit").await;
    let newest = audit.as_array().unwrap()[..3].iter().rev();
    let kinds = newest.map(|line| line["what"]["t"].as_str().unwrap());
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        ["room_policy_set", "room_policy_set", "room_policy_reset"]
    );

    let both = json!({"reason": "x", "reset": true, "messages": 1});
    for (body, word) in [
        (json!({"messages": 10}), "reason is missing"),
        (why(), "nothing is asked"),
        (both, "takes all bounds back"),
        (with("messages", -1), "-1"),
        (with("bytes", 1_u64 << 53), "9007199254740991"),
        (with("age_s", 1e10), "age_s: 10000000000 is not within 0 …"),
        (with("seconds", 1), "unknown field"),
    ] {
        let (status, answer) = controller.post(path, body).await;
        assert_eq!((status, &answer["error"]), (400, &"bad_request".into()));
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(word), "{message}");
    }
}
