//! Why a peer is refused: each reason is logged with the peer's address and counted.

use std::net::SocketAddr;

use quinn::ConnectionError;

use super::limits::close;

/// A TLS alert inside a QUIC error code: 0x100 + alert (RFC 9001 §4.8).
const CRYPTO: u64 = 0x100;
/// RFC 8446 §6, `no_application_protocol`.
const ALERT_ALPN: u64 = 120;

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// TLS found no common application protocol.
    #[error("it does not speak longspan/1 (ALPN): {0}")]
    Alpn(String),
    /// TLS refused a certificate, ours or theirs.
    #[error("TLS refuses: {0}")]
    Certificate(String),
    /// Not this QUIC.
    #[error("it speaks no QUIC version of ours: {0}")]
    Quic(String),
    /// The certificate does not name who the hello says it is.
    #[error("it says it is {node}, but its certificate is not: {why}")]
    Name {
        /// Who it says it is.
        node: longspan_proto::ids::NodeId,
        /// What the certificate says.
        why: String,
    },
    /// Someone else answers at the address, or a combination that makes no sense.
    #[error("{0}")]
    Identity(String),
    /// No common wire version.
    #[error("it speaks wire versions {theirs_min} to {theirs}, we speak {ours_min} to {ours}")]
    Version {
        /// The newest it speaks.
        theirs: u16,
        /// The oldest it speaks.
        theirs_min: u16,
        /// The newest we speak.
        ours: u16,
        /// The oldest we speak.
        ours_min: u16,
    },
    /// What it said first is no hello.
    #[error("{0}")]
    Protocol(String),
    /// The pair has a better connection.
    #[error("the pair is connected already")]
    Duplicate,
    /// A limit of ours.
    #[error("{0}")]
    Limit(String),
    /// Nothing came in time.
    #[error("no hello within {0:?}")]
    Timeout(std::time::Duration),
    /// The connection broke, or the peer closed it.
    #[error("{0}")]
    Lost(String),
}

impl Refusal {
    /// The label of `longspan_rejected_total`.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::Alpn(_) => "alpn",
            Refusal::Certificate(_) => "certificate",
            Refusal::Quic(_) => "quic_version",
            Refusal::Name { .. } => "name",
            Refusal::Identity(_) => "identity",
            Refusal::Version { .. } => "version",
            Refusal::Protocol(_) => "protocol",
            Refusal::Duplicate => "duplicate",
            Refusal::Limit(_) => "limit",
            Refusal::Timeout(_) => "timeout",
            Refusal::Lost(_) => "lost",
        }
    }

    /// The code the peer is told.
    pub fn code(&self) -> u32 {
        match self {
            Refusal::Name { .. } | Refusal::Certificate(_) => close::IDENTITY,
            Refusal::Identity(_) => close::REFUSED,
            Refusal::Version { .. } => close::VERSION,
            Refusal::Duplicate => close::DUPLICATE,
            Refusal::Limit(_) | Refusal::Timeout(_) => close::REFUSED,
            _ => close::PROTOCOL,
        }
    }

    /// Logs and counts it, where this end refuses.
    pub fn tell(&self, address: SocketAddr) {
        if !matches!(self, Refusal::Lost(_) | Refusal::Duplicate) {
            tracing::warn!(peer = %address, reason = self.reason(), "refused: {self}");
        } else {
            tracing::debug!(peer = %address, "no connection: {self}");
        }
        metrics::counter!("longspan_rejected_total", "reason" => self.reason()).increment(1);
    }
}

impl From<ConnectionError> for Refusal {
    fn from(error: ConnectionError) -> Refusal {
        let text = error.to_string();
        let code = match &error {
            ConnectionError::VersionMismatch => return Refusal::Quic(text),
            ConnectionError::TransportError(e) => u64::from(e.code),
            ConnectionError::ConnectionClosed(e) => u64::from(e.error_code),
            _ => return Refusal::Lost(text),
        };
        match code.checked_sub(CRYPTO) {
            Some(ALERT_ALPN) => Refusal::Alpn(text),
            Some(alert) if alert < 0x100 => Refusal::Certificate(text),
            _ => Refusal::Lost(text),
        }
    }
}
