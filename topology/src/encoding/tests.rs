use proptest::prelude::*;
use prost::Message;

use super::*;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn at(n: u64) -> Version {
    Version {
        era: 1,
        election: 40,
        n,
    }
}

/// `c: b c 40, d/leased c 55`: the paths to c, with their cost in ms and the nets that are not the
/// internet.
fn table(n: u64, neighbours: &str, paths: &[&str]) -> Routes {
    let hop = |text: &str| {
        let (name, net) = text.split_once('/').unwrap_or((text, "internet"));
        Hop {
            node: node(name),
            net: Net::new(net).unwrap(),
        }
    };
    let path = |text: &str| {
        let (hops, cost) = text.trim().rsplit_once(' ').unwrap();
        Path {
            hops: hops.split(' ').map(hop).collect(),
            cost_us: cost.parse::<u64>().unwrap() * 1_000,
        }
    };
    let route = |text: &&str| {
        let (to, paths) = text.split_once(": ").unwrap();
        (node(to), paths.split(',').map(path).collect())
    };
    Routes {
        version: at(n),
        neighbours: neighbours.split_whitespace().map(node).collect(),
        paths: paths.iter().map(route).collect(),
        ..Routes::default()
    }
}

#[test]
fn a_whole_table_reads_back_whatever_is_held() {
    let routes = table(2, "b d", &["b: b 20", "c: b c 40, d/leased c 55"]);
    let held = table(9, "x", &["x: x 1"]);
    assert_eq!(read(&whole(&routes), &held), Ok(routes));
}

#[test]
fn a_change_holds_what_changed_and_nothing_else() {
    let before = table(2, "b d", &["b: b 20", "c: b c 40", "d: d 9"]);
    let after = table(3, "b d", &["b: b 20", "c: d c 30, b c 40", "e: d e 12"]);
    let told = change(&before, &after);
    assert_eq!(told.neighbours, None);
    let named: Vec<&str> = told.classes[0]
        .routes
        .iter()
        .map(|r| &*told.nodes[r.destination as usize])
        .collect();
    assert_eq!(named, ["c", "e"]);
    assert_eq!(told.classes[0].gone.len(), 1);
    assert_eq!(read(&told, &before), Ok(after.clone()));
    let lonely = table(4, "", &["c: c 1"]);
    assert_eq!(read(&change(&after, &lonely), &after), Ok(lonely));
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    let before = table(2, "b", &["c: b c 40"]);
    let after = table(3, "b", &["c: c 30"]);
    let refused = |told: &control::Table, held: &Routes| read(told, held).unwrap_err().to_string();
    let told = change(&before, &after);
    assert!(refused(&told, &after).contains("send it whole"));
    let bad = |spoil: fn(&mut control::Table)| {
        let mut told = whole(&before);
        spoil(&mut told);
        refused(&told, &before)
    };
    assert_eq!(bad(|t| t.version = None), "it carries no version");
    assert_eq!(
        bad(|t| t.classes[0].routes[0].paths[0].nodes[0] = 7),
        "node 7 is not named; 2 are"
    );
    assert_eq!(bad(|t| t.nets.clear()), "net 0 is not named; 0 are");
    assert_eq!(
        bad(|t| t.classes[0].routes[0].paths[0].nets = vec![0]),
        "a path to c has 2 nodes and 1 nets"
    );
    assert_eq!(
        bad(|t| {
            let again = t.classes[0].routes[0].clone();
            t.classes[0].routes.push(again);
        }),
        "c is a destination twice"
    );
    assert!(bad(|t| t.nodes[0] = "B b".into()).contains("B b"));
    assert_eq!(
        bad(|t| t.classes[0].class = 64),
        "it has paths of policy class 64; the limit is 64"
    );
}

fn any_node() -> impl Strategy<Value = NodeId> {
    (0..6u8).prop_map(|number| node(&format!("n-{number}")))
}

fn any_paths() -> impl Strategy<Value = Ways> {
    let hop = (any_node(), 0..3u8).prop_map(|(node, net_at)| Hop {
        node,
        net: Net::new(["internet", "leased", "backup"][usize::from(net_at)]).unwrap(),
    });
    let path = (prop::collection::vec(hop, 1..5), any::<u64>())
        .prop_map(|(hops, cost_us)| Path { hops, cost_us });
    prop::collection::btree_map(any_node(), prop::collection::vec(path, 0..3), 0..6)
}

fn any_table(n: u64) -> impl Strategy<Value = Routes> {
    let neighbours = prop::collection::vec(any_node(), 0..4);
    let classes = prop::collection::btree_map(1..64u8, any_paths(), 0..3);
    let full = prop::collection::btree_set((any_node(), any_node()), 0..3);
    (neighbours, any_paths(), classes, full).prop_map(move |(neighbours, paths, classes, full)| {
        Routes {
            version: at(n),
            neighbours,
            paths,
            classes,
            full,
            ..Routes::default()
        }
    })
}

proptest! {
    #[test]
    fn changes_lead_from_any_table_to_any_other(before in any_table(1), after in any_table(2)) {
        prop_assert_eq!(read(&change(&before, &after), &before), Ok(after.clone()));
        let bytes = change(&before, &after).encode_to_vec();
        let told = control::Table::decode(&*bytes).unwrap();
        prop_assert_eq!(read(&told, &before), Ok(after));
    }
}

/// 256 relays, two paths to each of the 255 others, of two and of three hops. The bytes stand in
/// the test's output; that they stay far below the message limits is asserted.
#[test]
fn the_table_of_a_large_backbone_stays_small() {
    let name = |n: usize| format!("region-{:03}-relay-{}", n / 4, n % 4);
    let path = |hops: &[usize], cost_us| Path {
        hops: hops
            .iter()
            .map(|at| Hop {
                node: node(&name(*at)),
                net: Net::internet(),
            })
            .collect(),
        cost_us,
    };
    let paths = |to: usize| {
        let (a, b, c) = ((to * 7) % 255 + 1, (to * 13) % 255 + 1, (to * 29) % 255 + 1);
        vec![
            path(&[a, to], 40_000 + to as u64 * 311),
            path(&[b, c, to], 70_000 + to as u64 * 311),
        ]
    };
    let routes = Routes {
        version: at(1),
        neighbours: (1..256).map(|n| node(&name(n))).collect(),
        paths: (1..256).map(|to| (node(&name(to)), paths(to))).collect(),
        ..Routes::default()
    };
    let mut moved = routes.clone();
    moved.version = at(2);
    for to in 1..13 {
        moved.paths.get_mut(&*name(to)).unwrap().swap(0, 1);
    }
    // Without numbers every hop would spell its node and its net.
    let hops = routes.paths.values().flatten().flat_map(|path| &path.hops);
    let spelled: usize = hops.map(|hop| hop.node.len() + hop.net.len() + 6).sum();
    let (snapshot, delta) = (
        whole(&routes).encoded_len(),
        change(&routes, &moved).encoded_len(),
    );
    println!(
        "snapshot {snapshot} B (hops alone spelled out: {spelled} B); 12 moved paths {delta} B"
    );
    assert!(snapshot < 32 << 10, "{snapshot}");
    assert!(delta < 2 << 10, "{delta}");
    assert_eq!(read(&change(&routes, &moved), &routes), Ok(moved));
}
