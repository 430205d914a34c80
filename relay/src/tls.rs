//! Who this node is to others: the operator's CA, its own certificate and its key.

use std::{fmt, fs, io, path::PathBuf, sync::Arc};

use longspan_proto::ids::NodeId;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use webpki::EndEntityCert;

/// What nodes speak to each other inside TLS (WIRE.md, "Connections").
pub const ALPN: &[u8] = b"longspan/1";

/// Where the PEM of the operator's CA, this node's certificate chain and its key are.
#[derive(Clone, PartialEq, Eq)]
pub enum Identity {
    /// In files.
    Files {
        /// The CA's certificates.
        ca: PathBuf,
        /// This node's chain, its own certificate first; valid for its node id.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// In memory.
    Pem {
        /// The CA's certificates.
        ca: String,
        /// This node's chain, its own certificate first; valid for its node id.
        cert: String,
        /// Its private key.
        key: String,
    },
}

/// Shows no key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Files { ca, cert, key } => f
                .debug_struct("Files")
                .field("ca", ca)
                .field("cert", cert)
                .field("key", key)
                .finish(),
            Identity::Pem { .. } => f.write_str("Pem"),
        }
    }
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read the {what} {}: {source}", path.display())]
    Read {
        /// What it should hold.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not hold what it should.
    #[error("the {what} is not usable: {why}")]
    Parse {
        /// What it should hold.
        what: &'static str,
        /// Why it does not.
        why: String,
    },
    /// The certificate is for someone else.
    #[error("the certificate is not valid for node {node}: {why}")]
    Name {
        /// This node.
        node: NodeId,
        /// What the certificate says.
        why: String,
    },
}

/// An identity, read.
pub(crate) struct Loaded {
    pub ca: Vec<u8>,
    pub cert: Vec<u8>,
    pub key: Vec<u8>,
}

impl Identity {
    pub(crate) fn load(&self) -> Result<Loaded, Error> {
        let read = |what, path: &PathBuf| {
            fs::read(path).map_err(|source| Error::Read {
                what,
                path: path.clone(),
                source,
            })
        };
        Ok(match self {
            Identity::Files { ca, cert, key } => Loaded {
                ca: read("CA certificate", ca)?,
                cert: read("certificate", cert)?,
                key: read("private key", key)?,
            },
            Identity::Pem { ca, cert, key } => Loaded {
                ca: ca.clone().into(),
                cert: cert.clone().into(),
                key: key.clone().into(),
            },
        })
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Error::Parse {
            what,
            why: format!("{e:?}"),
        })?;
    if found.is_empty() {
        return Err(Error::Parse {
            what,
            why: "it holds no certificate".into(),
        });
    }
    Ok(found)
}

/// TLS 1.3 in both roles, the peer's certificate demanded in both.
pub(crate) struct Configs {
    pub server: rustls::ServerConfig,
    pub client: rustls::ClientConfig,
}

/// Builds both configurations and checks that the certificate is `node`'s own.
pub(crate) fn configs(identity: &Identity, node: &NodeId) -> Result<Configs, Error> {
    let loaded = identity.load()?;
    let chain = certificates("certificate", &loaded.cert)?;
    verify_name(&chain[0], node).map_err(|why| Error::Name {
        node: node.clone(),
        why,
    })?;
    let key = || {
        PrivateKeyDer::from_pem_slice(&loaded.key).map_err(|e| Error::Parse {
            what: "private key",
            why: format!("{e:?}"),
        })
    };
    let mut roots = RootCertStore::empty();
    for ca in certificates("CA certificate", &loaded.ca)? {
        roots.add(ca).map_err(|e| Error::Parse {
            what: "CA certificate",
            why: e.to_string(),
        })?;
    }
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let unusable = |e: rustls::Error| Error::Parse {
        what: "certificate and key",
        why: e.to_string(),
    };
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|e| Error::Parse {
            what: "CA certificate",
            why: e.to_string(),
        })?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key()?)
        .map_err(unusable)?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    // No tickets: every connection proves the certificate anew (and 0-RTT stays off).
    server.send_tls13_tickets = 0;
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key()?)
        .map_err(unusable)?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = rustls::client::Resumption::disabled();
    Ok(Configs { server, client })
}

/// Whether a certificate (whose chain is verified already) names `node`; the reason if not.
pub(crate) fn verify_name(certificate: &CertificateDer<'_>, node: &NodeId) -> Result<(), String> {
    let name = ServerName::try_from(node.as_str()).map_err(|e| e.to_string())?;
    let certificate = EndEntityCert::try_from(certificate).map_err(|e| e.to_string())?;
    certificate
        .verify_is_valid_for_subject_name(&name)
        .map_err(|e| e.to_string())
}
