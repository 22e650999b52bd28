//! TLS on the public port: clients are known by their certificates, and the listener's own may change while it runs.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use portolan::{
    app::{App, MemberSpec, Running},
    auth::GateSpec,
    config,
    net::{CertificateFiles, ClientCertificates, ServerSpec, TlsVersions},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{
    PATIENCE,
    client::{Ask as _, Client, Http},
    door::Door,
    eventually,
    mesh::memory,
    ports::free_port,
};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn issue(
        &self,
        name: &str,
        sans: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
    ) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = sans;
        params.extended_key_usages = vec![usage];
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes what the listener shows.
    fn write_server(&self, folder: &Path) {
        let address = SanType::IpAddress("127.0.0.1".parse().unwrap());
        let (certificate, key) = self.issue("server", vec![address], ExtendedKeyUsagePurpose::ServerAuth);
        // The key first: until both are new, the former pair stays in use.
        fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
        fs::write(folder.join("server.crt"), certificate.pem()).unwrap();
    }

    fn client(&self, name: &str, sans: Vec<SanType>) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let (certificate, key) = self.issue(name, sans, ExtendedKeyUsagePurpose::ClientAuth);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (certificate.der().clone(), key)
    }
}

struct Member {
    running: Running,
    address: SocketAddr,
    folder: TempDir,
    servers: Authority,
    clients: Authority,
}

impl Member {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (servers, clients) = (Authority::new(), Authority::new());
        servers.write_server(folder.path());
        fs::write(folder.path().join("servers.crt"), &servers.pem).unwrap();
        fs::write(folder.path().join("clients.crt"), &clients.pem).unwrap();
        let text = "
storage: {rootDirectory: /unused}
http:
  tls: {cert: server.crt, key: server.key, cacert: clients.crt}
  auth: {mtls: {identityAttributes: [URI, Email, CommonName], uriSanPattern: 'spiffe://tests/sa/(.*)'}}
  accessControl: {repositories: {'**': {policies: [{users: [ann, builder, ann@example.org], actions: [read]}]}}}
";
        let config = config::parse(Path::new("c.yaml"), text).unwrap();
        let at = |name: &str| folder.path().join(name);
        let address = SocketAddr::new("127.0.0.1".parse().unwrap(), free_port(1));
        let spec = MemberSpec {
            public_tls: Some(ServerSpec {
                files: CertificateFiles {
                    certificate: at("server.crt"),
                    key: at("server.key"),
                },
                clients: ClientCertificates::Optional(at("clients.crt")),
                versions: TlsVersions::From12,
                alpn: &[b"h2", b"http/1.1"],
            }),
            gate: GateSpec {
                source: None,
                ..GateSpec::from(&config)
            },
            ..MemberSpec::alone(address.to_string().parse().unwrap(), address)
        };
        let running = App::bind(spec, memory()).await.unwrap().serve().await;
        Self {
            running,
            address,
            folder,
            servers,
            clients,
        }
    }

    fn door(&self) -> Door {
        Door::secure(self.address, &self.folder.path().join("servers.crt"))
    }

    async fn stop(self) {
        assert!(self.running.drain(PATIENCE).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_who_its_certificate_names() {
    let member = Member::start().await;
    let uri = |text: &str| vec![SanType::URI(text.try_into().unwrap())];
    let email = vec![SanType::Rfc822Name("ann@example.org".try_into().unwrap())];
    for (name, sans, status) in [
        ("ann", vec![], 404),
        ("nobody", uri("spiffe://tests/sa/builder"), 404),
        ("nobody", email, 404),
        ("eve", vec![], 403),
        // The first source that is there counts, and this one says nothing that the pattern knows.
        ("ann", uri("spiffe://tests/sa/eve"), 403),
        ("", vec![], 401),
    ] {
        for http in [Http::One, Http::Two] {
            let (certificate, key) = member.clients.client(name, sans.clone());
            let client = Client::new(member.door().showing(certificate, key), http);
            let answer = client.get("/v2/a/tags/list".to_owned()).await.unwrap();
            assert_eq!(answer.status, status, "{name} {sans:?}: {answer}");
        }
    }
    // Without one there are still the probes, and an answer.
    let client = Client::new(member.door(), Http::Two);
    client.get("/readyz".to_owned()).await.unwrap().expect(200);
    client
        .get("/v2/".to_owned())
        .await
        .unwrap()
        .error(401, "UNAUTHORIZED");
    // One of another authority is no certificate.
    let (certificate, key) = Authority::new().client("ann", vec![]);
    let stranger = Client::new(member.door().showing(certificate, key), Http::One);
    assert!(stranger.get("/v2/".to_owned()).await.is_err());
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_12_and_13_are_spoken_and_a_renewed_certificate_is_shown_without_a_restart() {
    let member = Member::start().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        assert!(shown(&member, &[version]).await.is_some(), "{version:?}");
    }
    let former = shown(&member, rustls::ALL_VERSIONS).await;
    member.servers.write_server(member.folder.path());
    eventually("the new certificate is shown", || async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        shown(&member, rustls::ALL_VERSIONS).await != former
    })
    .await;
    Client::new(member.door(), Http::One)
        .get("/readyz".to_owned())
        .await
        .unwrap()
        .expect(200);
    member.stop().await;
}

/// The certificate that a new connection is shown.
async fn shown(
    member: &Member,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Option<CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(member.servers.pem.as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_protocol_versions(versions)
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(member.address).await.ok()?;
    let connector = TlsConnector::from(std::sync::Arc::new(config));
    let stream = connector.connect(member.address.ip().into(), stream).await.ok()?;
    stream.get_ref().1.peer_certificates()?.first().cloned()
}
