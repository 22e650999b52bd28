//! Who may call what, and what diagnostics answer.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use super::harness::*;
use crate::{
    mesh::pb::{
        self, administration_client::AdministrationClient, budgets_client::BudgetsClient,
        diagnostics_client::DiagnosticsClient, mesh_client::MeshClient,
    },
    net::{ClientSpec, ClientTls, test_certificates::Authority},
};

/// Calls Forward without sending a message: whether it is refused can't depend on one.
async fn forward(channel: &Channel) -> tonic::Status {
    let silent = tokio_stream::pending::<pb::Request>();
    let mut client = MeshClient::new(channel.clone());
    let answer = client.forward(silent);
    match tokio::time::timeout(Duration::from_secs(2), answer)
        .await
        .expect("it waits for a message")
    {
        Ok(_) => tonic::Status::ok(""),
        Err(status) => status,
    }
}

async fn members(channel: &Channel) -> Result<pb::MembersResponse, tonic::Status> {
    let answer = DiagnosticsClient::new(channel.clone())
        .members(pb::MembersRequest {})
        .await;
    answer.map(tonic::Response::into_inner)
}

async fn drain(channel: &Channel, member: &str) -> tonic::Status {
    let request = pb::DrainRequest {
        member: member.to_owned(),
    };
    let answer = AdministrationClient::new(channel.clone()).drain(request).await;
    answer.err().unwrap_or_else(|| tonic::Status::ok(""))
}

/// Asks for a place in a budget that there isn't.
async fn take(channel: &Channel) -> tonic::Status {
    let asked = pb::BudgetRequest {
        kind: Some(pb::budget_request::Kind::Budget("nowhere#0".to_owned())),
    };
    let answer = BudgetsClient::new(channel.clone())
        .take(tokio_stream::once(asked))
        .await;
    answer.err().unwrap_or_else(|| tonic::Status::ok(""))
}

async fn health(channel: &Channel) -> Result<i32, tonic::Status> {
    let answer = HealthClient::new(channel.clone())
        .check(HealthCheckRequest::default())
        .await;
    answer.map(|answer| answer.into_inner().status)
}

#[tokio::test(flavor = "multi_thread")]
async fn members_may_do_everything_administrators_drain_operators_look_and_strangers_nothing() {
    let cluster = cluster(2).await;

    let member = cluster.dial(1, &["127.0.0.2"]).await.unwrap();
    assert_eq!(forward(&member).await.code(), Code::Ok);
    assert!(members(&member).await.is_ok());

    let operator = cluster.dial(1, &["operator"]).await.unwrap();
    assert_eq!(forward(&operator).await.code(), Code::PermissionDenied);
    assert!(members(&operator).await.is_ok());
    assert_eq!(health(&operator).await.unwrap(), 1);

    assert_eq!(
        drain(&operator, "127.0.0.1:5000").await.code(),
        Code::PermissionDenied
    );

    // This mesh has no leases, so nobody could take over: past the door it is another refusal.
    let administrator = cluster.dial(1, &["administrator"]).await.unwrap();
    assert_eq!(forward(&administrator).await.code(), Code::PermissionDenied);
    assert!(members(&administrator).await.is_ok());
    for may in [&administrator, &member] {
        assert_eq!(
            drain(may, "127.0.0.1:5000").await.code(),
            Code::FailedPrecondition
        );
        assert_eq!(drain(may, "127.0.0.2:5000").await.code(), Code::InvalidArgument);
    }

    assert_eq!(take(&member).await.code(), Code::NotFound);
    for may_not in [&operator, &administrator] {
        assert_eq!(take(may_not).await.code(), Code::PermissionDenied);
    }

    let both = cluster.dial(1, &["operator", "127.0.0.2"]).await.unwrap();
    assert_eq!(forward(&both).await.code(), Code::Ok);

    let stranger = cluster.dial(1, &["stranger", "*.operator"]).await.unwrap();
    assert_eq!(forward(&stranger).await.code(), Code::PermissionDenied);
    assert_eq!(take(&stranger).await.code(), Code::PermissionDenied);
    assert_eq!(
        members(&stranger).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_eq!(
        health(&stranger).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_eq!(
        drain(&stranger, "127.0.0.1:5000").await.code(),
        Code::PermissionDenied
    );
    assert_eq!(cluster.at(1).toy.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_of_the_cluster_there_is_no_conversation() {
    let cluster = cluster(1).await;
    let address = cluster.addresses[0].1.clone();

    let elsewhere = Authority::new();
    let files = elsewhere.issue("forged", &["127.0.0.1"]);
    let spec = ClientSpec {
        authority: cluster.authority.file(),
        ..elsewhere.client(files)
    };
    let forged = ClientTls::load(spec).unwrap().config();

    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(cluster.authority.file()).unwrap();
    let authority: rustls::pki_types::CertificateDer<'_> =
        rustls::pki_types::pem::PemObject::from_pem_slice(&pem).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut none = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    none.alpn_protocols = vec![b"h2".to_vec()];

    for tls in [forged, Arc::new(none)] {
        // With TLS 1.3 the dialler may only see the refusal on its first call.
        if let Ok(channel) = dial(address.clone(), tls).await {
            assert!(members(&channel).await.is_err());
            assert!(health(&channel).await.is_err());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_does_not_talk_to_a_member_with_another_members_certificate() {
    let (mut cluster, fake) = Cluster::with_fake(|_| Box::pin(tokio_stream::empty()), settings()).await;
    fake.finish(Duration::ZERO).await;
    // Where member 2 was expected, someone listens who is member 3.
    let tls = cluster.authority.issue("member-3", &["127.0.0.3"]);
    let address: std::net::SocketAddr = cluster.addresses[1].1.parse().unwrap();
    let server = crate::net::ServerTls::load(cluster.authority.server(tls)).unwrap();
    let listener = crate::net::Listener::bind(
        "test",
        address,
        Some(server),
        crate::mesh::listener_settings(&crate::config::Limits::default()),
    )
    .await
    .unwrap();
    let drain = crate::net::Drain::new();
    let accepting = drain.clone();
    drain.spawn(
        "accept",
        async move { listener.serve(&accepting, async |_| {}).await },
    );
    let repository = cluster.repository(&[2]);
    call(cluster.at(1), get(&repository)).await;
    assert_eq!(cluster.at(1).toy.calls(), 1);
    let error = cluster.at(1).mesh.peers.state(&id(2)).last_error.unwrap();
    assert!(error.contains("certificate"), "{error}");
    cluster.members.clear();
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_told_through_the_health_service() {
    let cluster = cluster(1).await;
    let operator = cluster.dial(1, &["operator"]).await.unwrap();
    assert_eq!(health(&operator).await.unwrap(), 1);
    cluster.at(1).readiness.not_ready().await;
    assert_eq!(health(&operator).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_every_service_also_to_an_operator() {
    let cluster = cluster(1).await;
    let operator = cluster.dial(1, &["operator"]).await.unwrap();
    let expected = [
        "grpc.health.v1.Health",
        "portolan.mesh.v1.Diagnostics",
        "portolan.mesh.v1.Mesh",
    ];

    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(operator.clone());
    let answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap();
    let answer = answers
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response;
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(
        expected
            .iter()
            .all(|name| names.iter().any(|found| found == name)),
        "{names:?}"
    );

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                "portolan.mesh.v1.Mesh".to_owned(),
            ),
        ),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(operator);
    let answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap();
    let answer = answers
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response;
    assert!(
        matches!(
            answer,
            Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
        ),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn diagnostics_say_where_a_repository_lives_and_what_is_under_way() {
    let cluster = cluster(3).await;
    let repository = cluster.repository(&[2, 3, 1]);
    let operator = cluster.dial(1, &["operator"]).await.unwrap();
    let mut diagnostics = DiagnosticsClient::new(operator.clone());
    let locate = || pb::LocateRequest {
        repository: repository.to_string(),
    };

    let found = diagnostics.locate(locate()).await.unwrap().into_inner();
    assert_eq!((found.owner, found.holder), (id(2).to_string(), String::new()));
    let ranking: Vec<_> = found.ranking.iter().map(|rank| rank.member.clone()).collect();
    assert_eq!(ranking, [2, 3, 1].map(|n| id(n).to_string()));
    assert!(
        found
            .ranking
            .is_sorted_by_key(|rank| std::cmp::Reverse(rank.score))
    );
    cluster.hold(&repository, 3).await;
    let found = diagnostics.locate(locate()).await.unwrap().into_inner();
    assert_eq!(
        (found.owner, found.holder),
        (id(3).to_string(), id(3).to_string())
    );
    let nonsense = diagnostics
        .locate(pb::LocateRequest {
            repository: "UPPER".to_owned(),
        })
        .await;
    assert_eq!(nonsense.unwrap_err().code(), Code::InvalidArgument);

    cluster.at(2).toy.behaviour.lock().length = 1 << 30;
    let mut body = call(cluster.at(1), get(&repository)).await.into_body();
    body.frame().await.unwrap().unwrap();
    let forwards = diagnostics
        .forwards(pb::ForwardsRequest {})
        .await
        .unwrap()
        .into_inner()
        .forwards;
    assert_eq!(forwards.len(), 1);
    let forward = &forwards[0];
    assert_eq!(
        (forward.route.as_str(), forward.method.as_str()),
        ("blob_get", "GET")
    );
    assert_eq!(
        (forward.peer.clone(), forward.repository.clone()),
        (id(2).to_string(), repository.to_string())
    );
    assert_eq!(forward.direction(), pb::Direction::Forwarded);
    drop(body);

    let answer = members(&operator).await.unwrap();
    assert_eq!(answer.self_, id(1).to_string());
    let connections: Vec<_> = answer.members.iter().map(|member| member.connections).collect();
    assert_eq!(connections, [0, 1, 0]);
    assert!(
        answer
            .members
            .iter()
            .all(|member| member.live && member.last_error.is_empty())
    );

    let counters = diagnostics
        .counters(pb::CountersRequest {})
        .await
        .unwrap()
        .into_inner()
        .counters;
    let name = r#"portolan_forwards_total{peer="127.0.0.2:5000",outcome="answered"}"#;
    assert_eq!(counters.get(name), Some(&1.0), "{counters:?}");
}
