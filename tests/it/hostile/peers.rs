//! Who comes to the mesh port with the wrong certificate, or with the right one and wrong intentions; and clients that
//! leave in the middle.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use portolan::mesh::pb::{self, mesh_client::MeshClient, request::Kind};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{FRONT, OWNER, Reply, Target, reply};
use crate::support::{
    client::{Ask as _, Http, Request},
    content::{Blob, sha256},
    mesh::certificates,
    raw::Raw,
};

/// A key and a certificate for it.
type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// A certificate for `names` that is good from `from` to `to`, in days from now. It is signed by the authority of the
/// tests' meshes, or by one that only looks like it.
fn identity(names: &[&str], (from, to): (i64, i64), is_genuine: bool) -> Identity {
    let key_file = certificates().ca.with_extension("key");
    let authority = match is_genuine {
        true => rcgen::KeyPair::from_pem(&std::fs::read_to_string(key_file).unwrap()).unwrap(),
        false => rcgen::KeyPair::generate().unwrap(),
    };
    let pem = std::fs::read(&certificates().ca).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let subject = pem.parse_x509().unwrap();
    let name = subject
        .subject()
        .iter_common_name()
        .next()
        .unwrap()
        .as_str()
        .unwrap();
    let mut issuer = rcgen::CertificateParams::new(vec![]).unwrap();
    issuer.distinguished_name.push(rcgen::DnType::CommonName, name);
    issuer.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let issuer = rcgen::Issuer::new(issuer, authority);

    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_before = time::OffsetDateTime::now_utc() + time::Duration::days(from);
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(to);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    (certificate.der().clone(), key)
}

/// One that is good for a while, for `names`.
fn genuine(names: &[&str]) -> Option<Identity> {
    Some(identity(names, (-1, 30), true))
}

/// How the dialler speaks TLS.
fn tls(identity: Option<Identity>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&certificates().ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

impl Target {
    async fn secure(
        &self,
        identity: Option<Identity>,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let address = self.mesh.mesh_doors[OWNER];
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(tls(identity))
            .connect(ServerName::IpAddress(address.ip().into()), stream)
            .await
    }

    /// A connection to the owner's mesh port.
    async fn dial(&self, identity: Option<Identity>) -> Option<Channel> {
        let stream = self.secure(identity).await.ok()?;
        let mut stream = Some(hyper_util::rt::TokioIo::new(stream));
        let connector = tower::service_fn(move |_: http::Uri| {
            let stream = stream
                .take()
                .ok_or_else(|| std::io::Error::other("one is enough"));
            async move { stream }
        });
        Endpoint::from_static("https://mesh")
            .connect_with_connector(connector)
            .await
            .ok()
    }

    /// Asserts that with this identity there is no conversation at all.
    async fn does_not_talk_to(&self, identity: Option<Identity>) {
        // With TLS 1.3 the dialler may only see the refusal on its first call.
        if let Some(channel) = self.dial(identity).await {
            let asked = HealthClient::new(channel.clone())
                .check(HealthCheckRequest::default())
                .await;
            assert!(asked.is_err(), "{asked:?}");
            let asked = forward(&channel, vec![sent(Kind::Head(self.delete()))]).await;
            assert!(asked.is_err(), "{asked:?}");
        }
    }

    fn head(&self, method: &str, target: String, actions: &[pb::Action]) -> pb::RequestHead {
        pb::RequestHead {
            protocol_min: 1,
            protocol_max: 1,
            sender: self.mesh.members[FRONT].to_string(),
            recipient: self.mesh.members[OWNER].to_string(),
            method: method.to_owned(),
            target,
            identity: Some(pb::Identity::default()),
            grants: vec![pb::Grant {
                repository: self.repository.clone(),
                actions: actions.iter().map(|action| i32::from(*action)).collect(),
            }],
            client_address: "192.0.2.1:1".to_owned(),
            request_id: "hostile".to_owned(),
            deadline_ms: 10_000,
            scheme: "http".to_owned(),
            ..Default::default()
        }
    }

    /// Would do harm if it were carried out.
    fn delete(&self) -> pb::RequestHead {
        self.head(
            "DELETE",
            self.path("manifests/good"),
            &[pb::Action::Read, pb::Action::Delete],
        )
    }

    fn upload(&self, digest: &str) -> pb::RequestHead {
        let target = self.path(&format!("blobs/uploads/?digest={digest}"));
        self.head("POST", target, &[pb::Action::Read, pb::Action::Create])
    }
}

fn sent(kind: Kind) -> pb::Request {
    pb::Request { kind: Some(kind) }
}

fn end(bytes: u64) -> pb::Request {
    sent(Kind::End(pb::End { bytes }))
}

/// Sends `requests`, ends the stream, and gives the status that was answered, if one was.
async fn forward(channel: &Channel, requests: Vec<pb::Request>) -> Result<Option<u32>, Status> {
    let stream = futures_util::stream::iter(requests);
    let mut answers = MeshClient::new(channel.clone())
        .forward(stream)
        .await?
        .into_inner();
    let mut status = None;
    while let Some(answer) = answers.message().await? {
        if let Some(pb::response::Kind::Head(head)) = answer.kind {
            status = Some(head.status);
        }
    }
    Ok(status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_certificate() {
    let target = Target::start().await;
    target.does_not_talk_to(None).await;
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_certificate() {
    let target = Target::start().await;
    target
        .does_not_talk_to(Some(identity(&["127.0.0.1"], (-1, 30), false)))
        .await;
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_and_one_of_tomorrow() {
    let target = Target::start().await;
    target
        .does_not_talk_to(Some(identity(&["127.0.0.1"], (-30, -1), true)))
        .await;
    target
        .does_not_talk_to(Some(identity(&["127.0.0.1"], (1, 30), true)))
        .await;
    // It is the time that is wrong with them.
    let channel = target.dial(genuine(&["127.0.0.1"])).await.unwrap();
    let status = forward(
        &channel,
        vec![
            sent(Kind::Head(target.upload(&sha256(b"other")))),
            sent(Kind::Data("x".into())),
            end(1),
        ],
    )
    .await;
    assert_eq!(status.unwrap(), Some(400));
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_a_clients_and_the_operators_certificate_on_forward() {
    let target = Target::start().await;
    for names in [
        &["stranger.example"][..],
        &["a-client", "client@example.org"],
        &["127.0.0.9", "*.0.0.1", "localhost"],
        &["operator"],
    ] {
        let channel = target.dial(genuine(names)).await.unwrap();
        let refused = forward(&channel, vec![sent(Kind::Head(target.delete())), end(0)]).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied, "{names:?}");
        let health = HealthClient::new(channel)
            .check(HealthCheckRequest::default())
            .await;
        assert_eq!(health.is_ok(), names == ["operator"], "{names:?}: {health:?}");
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_and_oversized_messages() {
    let target = Target::start().await;
    let frame = |flag: u8, length: u32, bytes: &[u8]| {
        let mut frame = BytesMut::new();
        frame.put_u8(flag);
        frame.put_u32(length);
        frame.extend_from_slice(bytes);
        frame.freeze()
    };
    let message = |message: &pb::Request| {
        let bytes = prost::Message::encode_to_vec(message);
        frame(0, bytes.len() as u32, &bytes)
    };
    let head = message(&sent(Kind::Head(target.upload(&sha256(b"x")))));
    let mut large = target.upload(&sha256(b"x"));
    large.headers = (0..5000)
        .map(|n| pb::Header {
            name: format!("x-{n}"),
            value: vec![b'y'; 100].into(),
        })
        .collect();
    let large = message(&sent(Kind::Head(large)));
    let piece = vec![7; 300 << 10];
    let piece = message(&sent(Kind::Data(piece.into())));
    for (bytes, what) in [
        (vec![frame(0, 5, b"\xff\xff\xff\xff\xff")], "no message"),
        (vec![frame(0, 0, b"")], "an empty one"),
        (vec![frame(1, 3, b"abc")], "a compressed one"),
        (vec![frame(0, u32::MAX, b"abc")], "4 GiB"),
        (vec![frame(0, 100, b"abc")], "cut short"),
        (
            vec![Bytes::from_static(b"GET /v2/ HTTP/1.1\r\n\r\n")],
            "something else",
        ),
        (vec![large], "a head of 500 KB"),
        (
            vec![head.clone(), frame(0, 5, b"\xff\xff\xff\xff\xff")],
            "no message after the head",
        ),
        (
            vec![head.clone(), frame(0, u32::MAX, b"abc")],
            "4 GiB after the head",
        ),
        (vec![head.clone(), piece], "a piece of 300 KiB after the head"),
        (vec![head.clone(), head], "a head after the head"),
    ] {
        let stream = target.secure(genuine(&["127.0.0.1"])).await.unwrap();
        let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
        let exchange = async {
            let request = http::Request::post("https://mesh/portolan.mesh.v1.Mesh/Forward")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .unwrap();
            let (answer, mut sending) = requests.send_request(request, false).unwrap();
            for bytes in bytes {
                // It may be refused in the middle.
                let _ = sending.send_data(bytes, false);
            }
            let _ = sending.send_data(Bytes::new(), true);
            let answer = answer.await?;
            let status = answer.headers().get("grpc-status").cloned();
            let mut body = answer.into_body();
            while let Some(piece) = body.data().await {
                let length = piece?.len();
                body.flow_control().release_capacity(length)?;
            }
            let trailers = body.trailers().await?;
            Ok::<_, h2::Error>(status.or_else(|| trailers?.get("grpc-status").cloned()))
        };
        let answered = tokio::select! {
            answered = exchange => answered,
            ended = connection => ended.map(|()| None),
        };
        // An error of gRPC, or of the stream; once it is accepted, the answer is within it.
        if let Ok(Some(status)) = answered {
            assert!(status != "0" || what.contains("after the head"), "{what}");
        }
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_end() {
    let target = Target::start().await;
    let content = Blob::named("without end", 1000);
    let channel = target.dial(genuine(&["127.0.0.1"])).await.unwrap();
    let piece = || sent(Kind::Data(content.bytes.clone()));
    for last in [
        vec![],
        vec![end(999)],
        vec![end(1001)],
        vec![pb::Request::default()],
    ] {
        // What came has the digest that was announced, and still isn't all.
        let mut requests = vec![sent(Kind::Head(target.upload(&content.digest))), piece()];
        requests.extend(last);
        let answered = forward(&channel, requests).await;
        assert!(!matches!(answered, Ok(Some(200..300))), "{answered:?}");
    }
    // Nor is anything done whose `go` never came.
    let answered = forward(&channel, vec![sent(Kind::Head(target.delete()))]).await;
    assert!(!matches!(answered, Ok(Some(_))), "{answered:?}");
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_sender() {
    let target = Target::start().await;
    let channel = target.dial(genuine(&["127.0.0.1"])).await.unwrap();
    let owner = target.mesh.members[OWNER].to_string();
    let third = target.mesh.members[2].to_string();
    for sender in [&owner, &third, "127.0.0.1:1", "nobody", ""] {
        let mut head = target.delete();
        head.sender = sender.to_owned();
        let refused = forward(&channel, vec![sent(Kind::Head(head)), end(0)])
            .await
            .unwrap_err();
        let codes = [Code::PermissionDenied, Code::InvalidArgument];
        assert!(codes.contains(&refused.code()), "{sender}: {refused}");
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overreaching_grants() {
    let target = Target::start().await;
    let channel = target.dial(genuine(&["127.0.0.1"])).await.unwrap();
    let elsewhere = target.mesh.names().owned_by(OWNER, "elsewhere");
    let mut nothing = target.delete();
    nothing.grants.clear();
    let mut other = target.delete();
    other.grants[0].repository = elsewhere.clone();
    let less = target.head(
        "DELETE",
        target.path("manifests/good"),
        &[pb::Action::Read, pb::Action::Create],
    );
    let read = target.head("POST", target.path("blobs/uploads/"), &[pb::Action::Read]);
    // A mount needs to read its source, too.
    let digest = &target.layer.digest;
    let mut mount = target.head(
        "POST",
        format!(
            "/v2/{elsewhere}/blobs/uploads/?mount={digest}&from={}",
            target.repository
        ),
        &[],
    );
    mount.grants[0] = pb::Grant {
        repository: elsewhere.clone(),
        actions: vec![pb::Action::Read.into(), pb::Action::Create.into()],
    };
    for head in [nothing, other, less, read] {
        let refused = forward(&channel, vec![sent(Kind::Head(head.clone())), end(0)])
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{head:?}");
    }
    let mounted = forward(&channel, vec![sent(Kind::Head(mount)), end(0)]).await;
    assert!(!matches!(mounted, Ok(Some(201))), "{mounted:?}");
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_disconnect_mid_blob_by_the_thousand() {
    const CLIENTS: usize = 1000;
    let mut target = Target::start().await;
    // More than the sockets on the way take in.
    let large = Blob::named("large", 16 << 20);
    let owner = target.mesh.client(OWNER);
    owner
        .push_blob(&target.repository, &large)
        .await
        .unwrap()
        .expect(201);
    target.before = target.traces();
    let get = format!("GET {} HTTP/1.1", target.path(&format!("blobs/{}", large.digest)));
    let lost = Blob::named("lost", 16 << 20);
    let push = format!(
        "POST {} HTTP/1.1",
        target.path(&format!("blobs/uploads/?digest={}", lost.digest))
    );
    let doors = target.doors();
    let disconnects = async |worker: usize| {
        for n in 0..CLIENTS / 20 {
            let mut raw = Raw::open(doors[n % 2]).await;
            if (n + worker).is_multiple_of(4) {
                raw.head(&[&push, "content-length: 16777216"]).await;
                let _ = raw.write(&lost.bytes[..100_000]).await;
            } else {
                raw.head(&[&get]).await;
                assert_eq!(raw.answer().await.expect("an answer").status, 200);
                assert_eq!(raw.body(1000).await, large.bytes[..1000]);
            }
        }
    };
    let others = async {
        for http in [Http::One, Http::Two] {
            let client = crate::support::client::Client::new(doors[0], http);
            for _ in 0..5 {
                let answer = client
                    .ask(Request::get(
                        target.path(&format!("blobs/{}", target.layer.digest)),
                    ))
                    .await;
                answer.unwrap().expect(200).with_body(&target.layer.bytes);
            }
        }
    };
    let workers = futures_util::future::join_all((0..20).map(disconnects));
    tokio::join!(workers, others);
    // Nobody's stream broke on the way but theirs.
    let resumed = target
        .mesh
        .metrics(FRONT)
        .await
        .sum("portolan_resumed_pulls_total", &[]);
    assert_eq!(resumed, 0.0);
    let mut raw = Raw::open(doors[0]).await;
    raw.head(&["GET /livez HTTP/1.1"]).await;
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(20), reply(&mut raw))
            .await
            .unwrap(),
        Reply::Status(200)
    );
    target.stays_unharmed().await;
}
