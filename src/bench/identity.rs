//! Certificates for a bench's nodes: an authority of the run's own, in memory.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::failure::{Failure, Outcome};

/// Signs for the nodes of one run.
pub struct Authority {
    /// Its certificate.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Outcome<Authority> {
        let key = KeyPair::generate().map_err(Failure::failed)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(Failure::failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).map_err(Failure::failed)?.pem();
        Ok(Authority {
            pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// A certificate for the node of this name, and its key.
    pub fn issue(&self, name: &str) -> Outcome<(String, String)> {
        let key = KeyPair::generate().map_err(Failure::failed)?;
        let params = CertificateParams::new(vec![name.to_owned()]).map_err(Failure::failed)?;
        let cert = params
            .signed_by(&key, &self.issuer)
            .map_err(Failure::failed)?;
        Ok((cert.pem(), key.serialize_pem()))
    }
}
