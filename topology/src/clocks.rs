//! How far the nodes' clocks are apart, as far as round trips tell it.
//!
//! Raw delays hold the difference of two clocks, which may be anything. Over a path all but the
//! ends' cancel, so any estimate of the clocks may be taken off every link without changing which of
//! two paths between the same ends is the better one. Taking off a good one leaves small numbers,
//! with which searches are quick.

use crate::graph::Graph;

/// Each node's clock against its neighbour's on the tree of shortest round trips (Prim's): there half
/// a round trip is wrong by the least. Relays that no links between relays connect are compared over an
/// edge that reaches both. Nodes that are not connected are not comparable.
pub(crate) fn estimate(graph: &Graph) -> Vec<i64> {
    let relays = graph.relays();
    let mut clocks = vec![0; graph.names().len()];
    /// The best link to a node that is not in the tree yet: its length, and the clock by it.
    type Reach = Option<(i64, i64)>;
    let mut reach: Vec<Reach> = vec![None; relays];
    let mut is_in = vec![false; relays];
    // Which tree each relay is in, by its first relay.
    let mut trees: Vec<usize> = (0..relays).collect();
    let mut first = 0;
    for _ in 0..relays {
        let outside = (0..relays).filter(|&node| !is_in[node]);
        // None of them is reached: the least begins a tree of its own.
        let Some(next) = outside.min_by_key(|&node| (reach[node].map_or(i64::MAX, |r| r.0), node))
        else {
            break;
        };
        is_in[next] = true;
        if reach[next].is_none() {
            first = next;
        }
        trees[next] = first;
        clocks[next] = reach[next].map_or(0, |(_, clock)| clock);
        for other in (0..relays).filter(|&node| !is_in[node]) {
            // The offset is the receiver's clock less the sender's, and a step begins at its receiver.
            let pulls = length(graph, next, other)
                .map(|(l, offset)| (l, clocks[next].saturating_sub(offset)));
            let pulled = length(graph, other, next)
                .map(|(l, offset)| (l, clocks[next].saturating_add(offset)));
            for found in [pulls, pulled].into_iter().flatten() {
                if reach[other].is_none_or(|known| found.0 < known.0) {
                    reach[other] = Some(found);
                }
            }
        }
    }
    if first > 0 {
        join(graph, &mut clocks, &mut trees);
    }
    for edge in relays..clocks.len() {
        let nearest = attached(graph, &clocks, edge).min_by_key(|(l, ..)| *l);
        clocks[edge] = nearest.map_or(0, |(_, _, clock)| clock);
    }
    clocks
}

/// Sets trees of relays right against each other where an edge reaches both, the shortest way first.
/// Otherwise an edge would have another clock for each of them.
fn join(graph: &Graph, clocks: &mut [i64], trees: &mut [usize]) {
    loop {
        let mut best: Option<(i64, (usize, usize), i64)> = None;
        for edge in trees.len()..clocks.len() {
            let reached: Vec<_> = attached(graph, clocks, edge).collect();
            for (at, &(near, one, by_one)) in reached.iter().enumerate() {
                for &(far, other, by_other) in &reached[..at] {
                    let length = near.saturating_add(far);
                    if trees[one] != trees[other] && best.is_none_or(|known| length < known.0) {
                        let apart = by_one.saturating_sub(by_other);
                        best = Some((length, (trees[one], trees[other]), apart));
                    }
                }
            }
        }
        let Some((_, (kept, moved), by)) = best else {
            return;
        };
        for relay in (0..trees.len()).filter(|&relay| trees[relay] == moved) {
            clocks[relay] = clocks[relay].saturating_add(by);
        }
        for tree in trees.iter_mut().filter(|tree| **tree == moved) {
            *tree = kept;
        }
    }
}

/// The relays that an edge pulls from: the length, the relay, and the edge's clock by it.
fn attached<'a>(
    graph: &'a Graph,
    clocks: &'a [i64],
    edge: usize,
) -> impl Iterator<Item = (i64, usize, i64)> {
    (0..graph.relays()).filter_map(move |relay| {
        let (length, offset) = length(graph, edge, relay)?;
        Some((length, relay, clocks[relay].saturating_add(offset)))
    })
}

/// Of the shortest step from one to the other: its cost by round trips, and the clocks' offset in it.
fn length(graph: &Graph, from: usize, to: usize) -> Option<(i64, i64)> {
    let weights = graph.weights(from, to).iter();
    weights
        .map(|weight| (weight.cost_us - weight.offset_us, weight.offset_us))
        .min_by_key(|(length, _)| *length)
}

#[cfg(test)]
mod tests {
    use longspan_proto::{
        ids::{Net, NodeId},
        wire::Role,
    };

    use crate::graph::{Graph, Metrics, Node, Weight};

    #[test]
    fn relays_without_a_link_are_compared_over_the_edge_that_reaches_both() {
        let names = ["a", "b", "e"].map(|name| NodeId::new(name).unwrap());
        let [a, b, e] = names.clone();
        let mut graph = Graph::new([
            (a, Node::new(Role::Relay)),
            (b, Node::new(Role::Relay)),
            (e, Node::new(Role::Edge)),
        ]);
        // b's clock is ahead of the edge's by 7 s, a's behind it by 9 s.
        for (relay, ahead_us) in [(0, -9_000_000), (1, 7_000_000)] {
            let metrics = Metrics {
                raw_delay_us: 20_000 - ahead_us,
                rtt_us: 40_000,
                jitter_p95_us: 0,
                loss: 0.0,
            };
            graph.set_link(relay, 2, vec![Weight::new(Net::internet(), &metrics)]);
        }
        graph.settle();
        for relay in [0, 1] {
            let (cost, _) = graph.cost(2, relay, &graph.weights(2, relay)[0]);
            assert!((20_000..21_000).contains(&cost), "{cost} from {relay}");
        }
    }
}
