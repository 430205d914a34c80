//! Why a way is taken: the candidates with their cost terms, and the moves there were.

use longspan_proto::ids::{Net, NodeId};
use longspan_topology::routes::Path;
use serde::Serialize;

use super::{HOLD, Router, Switch};

/// Moves that are told with an explanation.
const MOVES: usize = 16;

/// One link of a candidate. All terms in ms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leg {
    /// Where it leads.
    pub node: NodeId,
    /// Over which net.
    pub net: Net,
    /// Half the round trip.
    pub delay_ms: f64,
    /// Receiver's clock minus sender's: one-way delay plus the clocks' offset. What paths are
    /// chosen by: over all candidates of a pair the offset is the same.
    pub raw_delay_ms: f64,
    /// 95th percentile of the jitter.
    pub jitter_ms: f64,
    /// What repairing lost packets adds on average.
    pub repair_ms: f64,
    /// Forwarding.
    pub hop_ms: f64,
}

/// One way from the place asked about to the origin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// The nodes crossed, the origin last.
    pub nodes: Vec<NodeId>,
    /// `primary`, `backup`, or `local`.
    pub rank: &'static str,
    /// Expected delivery latency as told to the node, in ms.
    pub cost_ms: f64,
    /// Its links, but for the last one from a relay to the edge the stream enters at.
    pub legs: Vec<Leg>,
    /// Why it is not the one taken; none for the one that is.
    pub not_taken: Option<String>,
}

/// The answer to `routes/explain`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explained {
    /// The place asked about.
    pub from: NodeId,
    /// Where the stream enters.
    pub origin: NodeId,
    /// The relays the origin is attached to.
    pub attached: Vec<NodeId>,
    /// Best first; empty: there is no way now.
    pub candidates: Vec<Candidate>,
    /// Recent moves between the same ends, the newest first.
    pub moves: Vec<Switch>,
    /// No other path is moved to for a gain below 3 % or 3 ms (the larger), nor within this many ms
    /// of the last move.
    pub hold_ms: u64,
}

pub(super) fn explain(
    router: &Router,
    at: &NodeId,
    origin: &NodeId,
    attached: &[NodeId],
) -> Explained {
    let mut candidates: Vec<Candidate> = Vec::new();
    if at == origin {
        candidates.push(Candidate {
            nodes: vec![origin.clone()],
            rank: "local",
            cost_ms: 0.0,
            legs: Vec::new(),
            not_taken: None,
        });
    }
    let targets: Vec<&NodeId> = if attached.is_empty() {
        vec![origin]
    } else {
        attached.iter().collect()
    };
    for relay in targets {
        if relay == at {
            candidates.push(Candidate {
                nodes: vec![origin.clone()],
                rank: "local",
                cost_ms: 0.0,
                legs: Vec::new(),
                not_taken: None,
            });
        }
        let paths = router.table(at).and_then(|table| table.paths.get(relay));
        for (place, path) in paths.into_iter().flatten().enumerate() {
            let mut nodes: Vec<NodeId> = path.hops.iter().map(|h| h.node.clone()).collect();
            if relay != origin {
                nodes.push(origin.clone());
            }
            candidates.push(Candidate {
                nodes,
                rank: if place == 0 { "primary" } else { "backup" },
                cost_ms: path.cost_us as f64 / 1_000.0,
                legs: legs(router, at, path),
                not_taken: None,
            });
        }
    }
    candidates.sort_by(|a, b| a.cost_ms.total_cmp(&b.cost_ms));
    let best = candidates.first().map_or(0.0, |c| c.cost_ms);
    for candidate in candidates.iter_mut().skip(1) {
        candidate.not_taken = Some(format!("{:.1} ms more", candidate.cost_ms - best));
    }
    let ends = |s: &&Switch| s.from == *at && (s.to == *origin || attached.contains(&s.to));
    Explained {
        from: at.clone(),
        origin: origin.clone(),
        attached: attached.to_vec(),
        candidates,
        moves: router
            .switches()
            .rev()
            .filter(ends)
            .take(MOVES)
            .cloned()
            .collect(),
        hold_ms: HOLD.as_millis() as u64,
    }
}

fn legs(router: &Router, at: &NodeId, path: &Path) -> Vec<Leg> {
    let metrics = router.links.along(at, &path.hops);
    let terms = router.links.terms(at, &path.hops);
    let ms = |us: i64| us as f64 / 1_000.0;
    path.hops
        .iter()
        .zip(metrics.zip(terms))
        .filter_map(|(hop, (metrics, terms))| {
            let (metrics, terms) = (metrics?, terms?);
            Some(Leg {
                node: hop.node.clone(),
                net: hop.net.clone(),
                delay_ms: ms(metrics.rtt_us as i64 / 2),
                raw_delay_ms: ms(terms.raw_delay),
                jitter_ms: ms(terms.jitter),
                repair_ms: ms(terms.repair),
                hop_ms: ms(terms.hop),
            })
        })
        .collect()
}
