//! Members among each other: what is forwarded, what survives a broken stream, and who may ask what.

use std::{path::Path, sync::Arc, time::Duration};

use http::Uri;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use portolan::mesh::pb;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::support::{
    client::{Ask as _, Request},
    content::{Blob, Manifest},
    eventually,
    mesh::{MEMBERS, Mesh, certificates},
    process::Dev,
};

/// What a caller shows of itself.
struct Caller<'a> {
    /// Certificate and key.
    pair: Option<(&'a Path, &'a Path)>,
}

/// A channel to a member's mesh port, or why there is none.
async fn channel(mesh: &Mesh, member: usize, caller: &Caller<'_>) -> Result<Channel, String> {
    let address = mesh.mesh_doors[member];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(certificates().ca).unwrap())
        .unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match caller.pair {
        Some((cert, key)) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(cert).unwrap()],
                PrivateKeyDer::from_pem_file(key).unwrap(),
            )
            .unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let connect = move |_: Uri| {
        let config = config.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::from(address.ip());
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    };
    Endpoint::from_static("http://mesh")
        .connect_timeout(Duration::from_secs(10))
        .connect_with_connector(tower::service_fn(connect))
        .await
        .map_err(|error| format!("{error:?}"))
}

async fn operator(mesh: &Mesh, member: usize) -> Channel {
    let pair = certificates().operator;
    channel(
        mesh,
        member,
        &Caller {
            pair: Some((&pair.cert, &pair.key)),
        },
    )
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_is_told_who_is_there_and_where_repositories_live() {
    let mesh = Mesh::of_three().await;
    for member in 0..MEMBERS {
        let mut asked = pb::diagnostics_client::DiagnosticsClient::new(operator(&mesh, member).await);
        let members = asked.members(pb::MembersRequest {}).await.unwrap().into_inner();
        assert_eq!(members.self_, mesh.members[member].as_str());
        let mut names: Vec<&str> = members.members.iter().map(|member| &*member.name).collect();
        names.sort_unstable();
        let mut expected: Vec<&str> = mesh.members.iter().map(|member| member.as_str()).collect();
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert!(members.members.iter().all(|member| member.live));

        for owner in 0..MEMBERS {
            let repository = mesh.names().owned_by(owner, "located");
            let request = pb::LocateRequest {
                repository: repository.clone(),
            };
            let located = asked.locate(request).await.unwrap().into_inner();
            assert_eq!(located.owner, mesh.members[owner].as_str());
            assert_eq!(located.ranking.len(), MEMBERS);
            assert_eq!(located.ranking[0].member, located.owner);
            assert!(!located.why.is_empty());
        }
        let counters = asked.counters(pb::CountersRequest {}).await.unwrap().into_inner();
        assert!(!counters.counters.is_empty());
        asked.forwards(pb::ForwardsRequest {}).await.unwrap();
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holder_of_a_repository_is_located_after_its_first_push() {
    let mesh = Mesh::of_three().await;
    let repository = mesh.names().owned_by(2, "held");
    let config = Blob::new("{}");
    let mut asked = pb::diagnostics_client::DiagnosticsClient::new(operator(&mesh, 0).await);
    let request = pb::LocateRequest {
        repository: repository.clone(),
    };
    assert_eq!(
        asked.locate(request.clone()).await.unwrap().into_inner().holder,
        ""
    );
    mesh.client(1)
        .push_blob(&repository, &config)
        .await
        .unwrap()
        .expect(201);
    let manifest = Manifest::image(&config, &[]).build();
    mesh.client(1)
        .push_manifest(&repository, "v1", &manifest)
        .await
        .unwrap()
        .expect(201);
    assert_eq!(
        asked.locate(request).await.unwrap().into_inner().holder,
        mesh.members[2].as_str()
    );
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_may_not_forward() {
    let mesh = Mesh::of_three().await;
    let mut asked = pb::mesh_client::MeshClient::new(operator(&mesh, 0).await);
    // A stream without any message: the refusal doesn't wait for one.
    let refused = asked
        .forward(tokio_stream::pending::<pb::Request>())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_the_cluster_that_is_nobodys_may_nothing() {
    let mesh = Mesh::of_three().await;
    // Of the same authority, for an address that no member has.
    let folder = tempfile::tempdir().unwrap();
    let tls = certificates().ca.parent().unwrap().to_owned();
    for name in ["ca.crt", "ca.key"] {
        std::fs::copy(tls.join(name), folder.path().join(name)).unwrap();
    }
    let stranger =
        portolan::app::DevCertificates::mint(folder.path(), &["127.0.0.99".parse().unwrap()]).unwrap();
    let pair = &stranger.members[0];
    let channel = channel(
        &mesh,
        0,
        &Caller {
            pair: Some((&pair.cert, &pair.key)),
        },
    )
    .await
    .unwrap();
    let refused = pb::mesh_client::MeshClient::new(channel.clone())
        .forward(tokio_stream::pending::<pb::Request>())
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let mut asked = pb::diagnostics_client::DiagnosticsClient::new(channel);
    let refused = asked.members(pb::MembersRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_of_the_cluster_nothing_is_answered() {
    let mesh = Mesh::of_three().await;
    let folder = tempfile::tempdir().unwrap();
    let foreign =
        portolan::app::DevCertificates::mint(folder.path(), &["127.0.0.1".parse().unwrap()]).unwrap();
    let pair = &foreign.members[0];
    for caller in [
        Caller { pair: None },
        Caller {
            pair: Some((&pair.cert, &pair.key)),
        },
    ] {
        // With TLS 1.3 a client learns of the refusal when it reads.
        if let Ok(channel) = channel(&mesh, 0, &caller).await {
            let mut asked = pb::diagnostics_client::DiagnosticsClient::new(channel);
            let refused = asked.members(pb::MembersRequest {}).await.unwrap_err();
            assert!(
                matches!(
                    refused.code(),
                    Code::Unavailable | Code::Unknown | Code::Cancelled
                ),
                "{refused:?}"
            );
        }
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_front_and_owner_shows_what_was_forwarded() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::new(folder.path());
    let process = dev.start().await;
    let names = process.names();
    let repository = names.owned_by(1, "logged");
    let blob = Blob::new("content");
    for (door, id) in [(0, "through-another"), (1, "through-the-owner")] {
        let target = format!("/v2/{repository}/blobs/uploads/?digest={}", blob.digest);
        let request = Request::post(target)
            .header("x-request-id", id)
            .body(blob.bytes.clone());
        process.client(door).ask(request).await.unwrap().expect(201);
    }
    process.says("through-the-owner").await;
    let lines = |id: &str| -> Vec<serde_json::Value> {
        let log = process.said();
        let lines = log.lines().filter(|line| line.contains(id));
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    };
    let (front, owner) = (process.doors[0].to_string(), process.doors[1].to_string());
    let forwarded = lines("through-another");
    let says = |line: &serde_json::Value, text: &str| line.to_string().contains(text);
    assert!(
        forwarded
            .iter()
            .any(|line| says(line, "\"forwarded\"") && says(line, &owner)),
        "the front says to whom: {forwarded:#?}"
    );
    assert!(forwarded.len() >= 2, "the owner says from whom: {forwarded:#?}");
    assert!(
        forwarded
            .iter()
            .any(|line| !says(line, "\"forwarded\"") && says(line, &front)),
        "{forwarded:#?}"
    );
    let local = lines("through-the-owner");
    assert!(
        local.iter().all(|line| !says(line, "\"forwarded\"")),
        "{local:#?}"
    );
    assert!(local.iter().any(|line| says(line, "\"local\"")), "{local:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_whose_owner_dies_is_finished_by_the_front() {
    let mut mesh = Mesh::of_three().await;
    let repository = mesh.names().owned_by(1, "pulled");
    let blob = Blob::named("pulled", 48 << 20);
    mesh.client(1)
        .push_blob(&repository, &blob)
        .await
        .unwrap()
        .expect(201);
    let request = Request::get(format!("/v2/{repository}/blobs/{}", blob.digest));
    let mut body = mesh.client(0).open(&request).await.unwrap().into_body();
    let mut received = Vec::new();
    while received.len() < 1 << 20 {
        received.extend_from_slice(body.frame().await.unwrap().unwrap().data_ref().unwrap());
    }
    let cut = mesh.crash(1).await;
    assert!(!cut.is_empty(), "the pull was under way");
    received.extend_from_slice(&body.collect().await.unwrap().to_bytes());
    assert!(
        received == blob.bytes,
        "{} bytes, not those that were pushed",
        received.len()
    );
    assert_eq!(
        mesh.metrics(0).await.sum("portolan_resumed_pulls_total", &[]),
        1.0
    );
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_whose_owner_dies_is_not_acknowledged_and_goes_on_elsewhere() {
    let mut mesh = Mesh::of_three().await;
    let repository = mesh.names().owned_by(1, "pushed");
    let blob = Blob::named("pushed", 4 << 20);
    let location = mesh
        .client(0)
        .start(&repository)
        .await
        .unwrap()
        .expect(202)
        .location();
    let half = blob.len() / 2;
    let first = crate::support::client::chunk(&location, 0, blob.bytes.slice(..half));
    mesh.client(0).ask(first).await.unwrap().expect(202);
    // A body that stops in the middle until the owner is gone.
    let (sender, receiver) = tokio::sync::mpsc::channel::<bytes::Bytes>(1);
    let receiver = Arc::new(parking_lot::Mutex::new(Some(receiver)));
    let request = Request::patch(&location)
        .header("content-type", "application/octet-stream")
        .header("content-range", format!("{half}-{}", blob.len() - 1))
        .stream(move || {
            let pieces =
                tokio_stream::wrappers::ReceiverStream::new(receiver.lock().take().expect("sent once"));
            let frames = futures_util::StreamExt::map(pieces, |piece| Ok(hyper::body::Frame::data(piece)));
            http_body_util::StreamBody::new(frames).boxed_unsync()
        });
    let door = mesh.client(0);
    let mut requests = tokio::task::JoinSet::new();
    requests.spawn(async move { door.ask(request).await });
    sender.send(blob.bytes.slice(half..half + 1000)).await.unwrap();
    // The owner has it, so the request is under way.
    let mut asked = pb::diagnostics_client::DiagnosticsClient::new(operator(&mesh, 1).await);
    crate::support::eventually("the upload is replayed", || {
        let mut asked = asked.clone();
        async move {
            !asked
                .forwards(pb::ForwardsRequest {})
                .await
                .unwrap()
                .into_inner()
                .forwards
                .is_empty()
        }
    })
    .await;
    drop(asked.members(pb::MembersRequest {}).await);
    mesh.crash(1).await;
    let _ = sender.send(blob.bytes.slice(half + 1000..)).await;
    drop(sender);
    let answer = requests.join_next().await.unwrap().unwrap();
    assert!(
        answer.as_ref().map_or(true, |answer| answer.status == 503),
        "{answer:?}"
    );
    // As it was at the last 202.
    let status = mesh.client(2).get(location.clone()).await.unwrap().expect(204);
    assert_eq!(status.must("range"), format!("0-{}", half - 1));
    let second = crate::support::client::chunk(&location, half, blob.bytes.slice(half..));
    mesh.client(2).ask(second).await.unwrap().expect(202);
    let finish = crate::support::client::finish(&location, &blob.digest);
    mesh.client(0).ask(finish).await.unwrap().expect(201);
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    mesh.client(2)
        .get(target)
        .await
        .unwrap()
        .expect(200)
        .with_body(&blob.bytes);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_leave_in_the_middle_of_a_blob_harm_nobody() {
    let mesh = Mesh::of_three().await;
    let repository = mesh.names().owned_by(1, "left");
    let blob = Blob::named("left", 2 << 20);
    mesh.client(1)
        .push_blob(&repository, &blob)
        .await
        .unwrap()
        .expect(201);
    let request = Request::get(format!("/v2/{repository}/blobs/{}", blob.digest));
    // More than h2 bears of resets on one connection.
    for round in 0..1200 {
        // A client of its own, so that dropping it closes its connection.
        let mut answer = mesh.client(0).open(&request).await.unwrap();
        assert_eq!(answer.status(), 200, "round {round}");
        answer.body_mut().frame().await.unwrap().unwrap();
    }
    for door in mesh.clients() {
        door.ask(request.clone())
            .await
            .unwrap()
            .expect(200)
            .with_body(&blob.bytes);
    }
    let metrics = mesh.metrics(0).await;
    for outcome in ["unreachable", "unknown"] {
        let failed = metrics.sum("portolan_forwards_total", &[("outcome", outcome)]);
        assert_eq!(failed, 0.0, "forwards that ended as {outcome}");
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_read_nothing_hold_up_nobody() {
    let mesh = Mesh::of_three().await;
    let repository = mesh.names().owned_by(1, "stalled");
    let blob = Blob::named("stalled", 32 << 20);
    mesh.client(1)
        .push_blob(&repository, &blob)
        .await
        .unwrap()
        .expect(201);
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    let mut stalled = Vec::new();
    for _ in 0..100 {
        stalled.push(mesh.client(0).open(&Request::get(&target)).await.unwrap());
    }
    mesh.client(0)
        .get(target.clone())
        .await
        .unwrap()
        .expect(200)
        .with_body(&blob.bytes);
    mesh.client(0).head(target).await.unwrap().expect(200);
    drop(stalled);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_push_to_each_other_in_both_directions_at_once() {
    let mesh = Mesh::of_three().await;
    let mut pushes = tokio::task::JoinSet::new();
    for n in 0..60 {
        let repository = mesh.names().owned_by(n % MEMBERS, "crossing");
        let door = mesh.client((n + 1 + n / MEMBERS % 2) % MEMBERS);
        pushes.spawn(async move {
            let blob = Blob::named(&format!("crossing {n}"), 1 << 20);
            door.push_blob_in_chunks(&repository, &blob, 400_000)
                .await
                .unwrap()
                .expect(201);
            let target = format!("/v2/{repository}/blobs/{}", blob.digest);
            door.get(target).await.unwrap().expect(200).with_body(&blob.bytes);
        });
    }
    pushes.join_all().await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_between_members_are_counted_both_ways() {
    let mesh = Mesh::of_three().await;
    let repository = mesh.names().owned_by(2, "counted");
    let owner = mesh.door(2).to_string();
    let blob = Blob::named("counted", 3 << 20);
    mesh.client(0)
        .push_blob(&repository, &blob)
        .await
        .unwrap()
        .expect(201);
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    let pulled = mesh.client(0).get(target).await.unwrap().expect(200);
    assert!(pulled.body == blob.bytes);
    for direction in ["upload", "download"] {
        let labels = [("peer", owner.as_str()), ("direction", direction)];
        eventually("the bytes are counted", || async {
            let metrics = mesh.metrics(0).await;
            metrics.sum("portolan_forward_body_bytes_total", &labels) == blob.bytes.len() as f64
        })
        .await;
    }
    mesh.stop().await;
}
