//! What the last failovers and moves did, step by step, for `/debug`: a long pause then tells where
//! it went.

use std::collections::VecDeque;

use longspan_proto::{
    ids::{NodeId, TrackId},
    time::Time,
    wire::EndReason,
};

use super::{Trouble, track::Leg};

/// So many are kept; of more the oldest are forgotten. One relay's death concerns all of its
/// tracks: this is a sample of them then.
const KEPT: usize = 64;
/// So many askings and refusals are kept of one track; later ones are left out.
const TRIES: usize = 8;

/// One track that left its upstream for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    /// Which.
    pub track: TrackId,
    /// Why it left; none: a table led it elsewhere.
    pub trouble: Option<Trouble>,
    /// Since when its upstream was in trouble, or it was to move.
    pub since: Time,
    /// The ways that were asked for, oldest first: each begins with the neighbour that was asked. At
    /// most `TRIES`.
    pub asked: Vec<Vec<NodeId>>,
    /// The neighbours that refused, oldest first, and why; none: no answer in time. At most `TRIES`.
    pub refused: Vec<(NodeId, Option<EndReason>)>,
    /// Where it comes from now.
    pub to: NodeId,
    /// When that one was asked …
    pub asked_at: Time,
    /// … when it confirmed …
    pub confirmed_at: Option<Time>,
    /// … and when it was taken: at its first frame, or at the confirmation if nothing was left to
    /// be replaced.
    pub taken_at: Time,
}

/// What was tried since a track's upstream is in trouble.
#[derive(Debug, Default)]
pub(super) struct Tries {
    asked: Vec<Vec<NodeId>>,
    /// When there was no other neighbour that could be asked beside one that does not answer.
    pub no_hedge: Option<Time>,
    refused: Vec<(NodeId, Option<EndReason>)>,
}

impl Tries {
    pub fn asked(&mut self, way: Vec<NodeId>) {
        if self.asked.len() < TRIES {
            self.asked.push(way);
        }
    }

    pub fn refused(&mut self, node: &NodeId, reason: Option<EndReason>) {
        if self.refused.len() < TRIES {
            self.refused.push((node.clone(), reason));
        }
    }
}

/// The last ones, oldest first.
#[derive(Debug, Default)]
pub(super) struct Failovers(VecDeque<Failover>);

impl Failovers {
    pub fn add(&mut self, failover: Failover) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(failover);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Failover> {
        self.0.iter()
    }
}

impl Failover {
    pub(super) fn new(
        now: Time,
        track: &TrackId,
        trouble: Option<(Trouble, Time)>,
        tries: Tries,
        leg: &Leg,
    ) -> Failover {
        Failover {
            track: track.clone(),
            trouble: trouble.map(|(trouble, _)| trouble),
            since: trouble.map_or(leg.asked_at, |(_, since)| since),
            asked: tries.asked,
            refused: tries.refused,
            to: leg.node.clone(),
            asked_at: leg.asked_at,
            confirmed_at: leg.confirmed_at,
            taken_at: now,
        }
    }
}
