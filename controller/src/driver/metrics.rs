//! What the controller counts.

use metrics::{Unit, describe_counter, describe_gauge};

/// Describes every metric of this crate; once, before the first is set.
pub fn describe() {
    describe_gauge!("longspan_leader", "1 while this controller leads");
    describe_gauge!("longspan_store_up", "1 while the store answers");
    describe_gauge!(
        "longspan_nodes",
        Unit::Count,
        "Nodes with a live lease, by role"
    );
    describe_gauge!("longspan_rooms", Unit::Count, "Rooms in memory");
    describe_gauge!("longspan_streams", Unit::Count, "Streams that are held");
    describe_gauge!(
        "longspan_placement_groups",
        Unit::Count,
        "Placement groups of room logs"
    );
    describe_gauge!(
        "longspan_placement_groups_reduced",
        Unit::Count,
        "Placement groups below their redundancy: fewer than three members that vote are there"
    );
    describe_gauge!(
        "longspan_placement_groups_stopped",
        Unit::Count,
        "Placement groups that nobody leads; rooms placed in them take no message"
    );
    describe_counter!(
        "longspan_room_moves_total",
        Unit::Count,
        "Moves of rooms between placement groups that are over, by result"
    );
    describe_gauge!(
        "longspan_route_epoch",
        "The n of the newest tables' version"
    );
    describe_counter!(
        "longspan_route_switches_total",
        Unit::Count,
        "Primary paths that moved"
    );
    describe_counter!(
        "longspan_config_nacks_total",
        Unit::Count,
        "Tables that nodes refused"
    );
    describe_counter!(
        "longspan_claims_total",
        Unit::Count,
        "Claims of streams, by result"
    );
    describe_counter!(
        "longspan_rejected_total",
        Unit::Count,
        "Refused inputs, by reason"
    );
}
