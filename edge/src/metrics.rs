//! What an edge counts. The names are INTERFACES'; no room or stream is ever a label.

use std::time::Duration;

use metrics::{
    Counter, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// Describes the edge's metrics to the recorder. Once, at start.
pub(crate) fn describe() {
    describe_gauge!(
        "longspan_sessions",
        "User sessions open now, by protocol (flv, mp4, rtmp, rtmp_publish, sample, ws)"
    );
    describe_counter!(
        "longspan_rejected_total",
        "What was refused, by the error's slug"
    );
    describe_histogram!(
        "longspan_join_first_frame_seconds",
        Unit::Seconds,
        "From a viewer's request to its first frame, by protocol"
    );
    describe_counter!(
        "longspan_edge_bytes_total",
        Unit::Bytes,
        "Bytes sent to users, by protocol"
    );
    describe_counter!(
        "longspan_frames_dropped_total",
        "Frames not delivered, by reason (viewer_lag: a viewer fell behind; payload: unreadable)"
    );
    describe_gauge!(
        "longspan_live_streams",
        "Streams that are watched at this edge now"
    );
}

/// Something was refused; `reason` is the error's slug.
pub(crate) fn rejected(reason: &'static str) {
    counter!("longspan_rejected_total", "reason" => reason).increment(1);
}

/// Bytes sent to users by other than a [`Session`].
pub(crate) fn sent(protocol: &'static str, bytes: usize) {
    counter!("longspan_edge_bytes_total", "protocol" => protocol).increment(bytes as u64);
}

/// A user session, counted until dropped.
pub(crate) struct Session {
    protocol: &'static str,
    bytes: Counter,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Session").field(&self.protocol).finish()
    }
}

impl Session {
    pub(crate) fn new(protocol: &'static str) -> Session {
        gauge!("longspan_sessions", "protocol" => protocol).increment(1);
        Session {
            protocol,
            bytes: counter!("longspan_edge_bytes_total", "protocol" => protocol),
        }
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes.increment(bytes as u64);
    }

    pub(crate) fn skipped(&self, frames: u64) {
        if frames > 0 {
            counter!("longspan_frames_dropped_total", "reason" => "viewer_lag").increment(frames);
        }
    }

    pub(crate) fn first_frame(&self, after: Duration) {
        histogram!("longspan_join_first_frame_seconds", "protocol" => self.protocol).record(after);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        gauge!("longspan_sessions", "protocol" => self.protocol).decrement(1);
    }
}
