//! The certificates of a backbone on one machine: a CA of its own, and one for each node.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::failure::{Failure, Outcome};

/// Signs nodes' certificates. Its key lives in this process only: every `up` makes a new one.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The private key.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Outcome<Authority> {
        let mut params = params(Vec::new(), "Longspan CA of this machine")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        CertifiedIssuer::self_signed(params, key)
            .map(Authority)
            .map_err(failed)
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for one node, valid for its name, as client and as server.
    pub fn issue(&self, node: &str) -> Outcome<Pair> {
        self.issue_all(&[node])
    }

    /// The same for a node with further names or IP addresses; the first one is its own.
    pub fn issue_all(&self, names: &[&str]) -> Outcome<Pair> {
        let all = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = params(all, names.first().copied().unwrap_or_default())?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let cert = params.signed_by(&key, &self.0).map_err(failed)?;
        Ok(Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// From before any clock that may run here to long after: they live as long as the process.
fn params(names: Vec<String>, common_name: &str) -> Outcome<CertificateParams> {
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2099, 1, 1);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    Ok(params)
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::failed(format!("cannot make certificates: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_a_certificate_and_a_key() {
        let authority = Authority::new().expect("a CA");
        let pair = authority.issue("hk-relay-1").expect("a certificate");
        assert!(authority.pem().starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(pair.cert.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(pair.key.starts_with("-----BEGIN PRIVATE KEY-----"));
        let other = authority.issue("hk-relay-1").expect("a certificate");
        assert_ne!(pair.key, other.key);
    }
}
