//! Certificates on both sides.

use longspan_proto::control::{Role, nodes_client::NodesClient};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use super::{
    Running, Tls,
    node::{self, Node},
    soon,
};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(ca: &Issuer, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    (certificate.pem(), key.serialize_pem())
}

async fn client(
    url: &str,
    ca: &Issuer,
    id: Option<(&Issuer, &str)>,
) -> Option<NodesClient<Channel>> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca.pem()))
        .domain_name("controller-1");
    if let Some((ca, id)) = id {
        let (certificate, key) = issue(ca, id);
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint = Channel::from_shared(url.replace("http://", "https://")).unwrap();
    let endpoint = endpoint.tls_config(tls).unwrap();
    soon(endpoint.connect()).await.ok().map(NodesClient::new)
}

#[tokio::test]
async fn a_node_is_who_its_certificate_says() {
    let (ca, stranger) = (authority(), authority());
    let (cert, key) = issue(&ca, "controller-1");
    let tls = Tls {
        ca: ca.pem().into(),
        cert: cert.into(),
        key: key.into(),
    };
    let controller = Running::embedded_with(|config| config.tls = Some(tls)).await;
    let info = node::info("hk-edge", Role::Edge, 1);

    let own = client(&controller.grpc, &ca, Some((&ca, "hk-edge"))).await;
    let edge = Node::join_by(own.unwrap(), info.clone(), 0, 0, None)
        .await
        .unwrap();
    edge.claim("class", "teacher", "ann").await.unwrap();

    let other = client(&controller.grpc, &ca, Some((&ca, "sg-edge"))).await;
    let mut other = other.unwrap();
    let told = Node::join_by(other.clone(), info.clone(), 0, 0, None).await;
    let told = told.err().expect("refused");
    assert_eq!(told.code(), Code::PermissionDenied);
    assert!(told.message().contains("hk-edge"), "{told}");
    let request = longspan_proto::control::ClaimRequest {
        session: edge.session,
        edge: "hk-edge".into(),
        tenant: "default".into(),
        room: "class".into(),
        stream: "teacher".into(),
        identity: "ann".into(),
    };
    let told = soon(other.claim(request)).await.unwrap_err();
    assert_eq!(told.code(), Code::PermissionDenied, "{told}");

    // Nobody without a certificate of ours comes as far as a call.
    for id in [None, Some((&stranger, "hk-edge"))] {
        if let Some(client) = client(&controller.grpc, &ca, id).await {
            let told = Node::join_by(client, info.clone(), 0, 0, None).await;
            let told = told.err().expect("refused");
            assert_ne!(told.code(), Code::Ok);
        }
    }
}
