//! A node, as far as routing cares.

use longspan_proto::{
    ids::{NodeId, Region},
    wire::Role,
};
use longspan_topology::graph::Country;

use crate::state::record;

/// A node that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub id: NodeId,
    /// What it is.
    pub role: Role,
    /// It has a session, so what it reports is new.
    pub has_session: bool,
    /// Where it stands; none: it did not say, or in no way that is known.
    pub country: Option<Country>,
    /// Of an edge: the relay it is attached to first; others are its standbys.
    pub best: Option<NodeId>,
    /// Its region.
    pub region: Region,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
}

impl Member {
    /// A node as it told of itself.
    pub fn new(info: &record::Node, has_session: bool) -> Member {
        let country = Country::try_from(info.country.as_bytes()).ok();
        Member {
            id: info.id.clone(),
            role: info.role,
            has_session,
            country: country.filter(|c| c.iter().all(u8::is_ascii_uppercase)),
            best: info.attached.first().cloned(),
            region: info.region.clone(),
            lat: info.lat,
            lon: info.lon,
        }
    }

    /// Whether paths are the same with it as with the other.
    pub(super) fn is_same_place(&self, other: &Member) -> bool {
        *self
            == Member {
                has_session: self.has_session,
                best: self.best.clone(),
                ..other.clone()
            }
    }
}
