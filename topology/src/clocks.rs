//! How far the nodes' clocks are apart, as far as round trips tell it.
//!
//! Raw delays hold the difference of two clocks, which may be anything. Over a path all but the
//! ends' cancel, so any estimate of the clocks may be taken off every link without changing which of
//! two paths between the same ends is the better one. Taking off a good one leaves small numbers,
//! with which searches are quick.

use crate::graph::Graph;

/// Each node's clock against its neighbour's on the tree of shortest round trips (Prim's): there half
/// a round trip is wrong by the least. Nodes that are not connected are not comparable.
pub(crate) fn estimate(graph: &Graph) -> Vec<i64> {
    let relays = graph.relays();
    let mut clocks = vec![0; graph.names().len()];
    /// The best link to a node that is not in the tree yet: its length, and the clock by it.
    type Reach = Option<(i64, i64)>;
    let mut reach: Vec<Reach> = vec![None; relays];
    let mut is_in = vec![false; relays];
    for _ in 0..relays {
        let outside = (0..relays).filter(|&node| !is_in[node]);
        // None of them is reached: the least begins a tree of its own.
        let Some(next) = outside.min_by_key(|&node| (reach[node].map_or(i64::MAX, |r| r.0), node))
        else {
            break;
        };
        is_in[next] = true;
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
    for edge in relays..clocks.len() {
        let attached = (0..relays).filter_map(|relay| {
            let (length, offset) = length(graph, edge, relay)?;
            Some((length, clocks[relay].saturating_add(offset)))
        });
        clocks[edge] = attached
            .min_by_key(|(l, _)| *l)
            .map_or(0, |(_, clock)| clock);
    }
    clocks
}

/// Of the shortest step from one to the other: its cost by round trips, and the clocks' offset in it.
fn length(graph: &Graph, from: usize, to: usize) -> Option<(i64, i64)> {
    let weights = graph.weights(from, to).iter();
    weights
        .map(|weight| (weight.cost_us - weight.offset_us, weight.offset_us))
        .min_by_key(|(length, _)| *length)
}
