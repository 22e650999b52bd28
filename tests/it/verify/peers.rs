//! The other members.

use std::net::IpAddr;

use portolan::app::{DevCertificates, Pair};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::{Said, Trial};
use crate::support::{
    mesh::{Mesh, certificates},
    ports::{free_port, loopback},
};

/// The first of the members of `mesh`, which runs already, with another certificate perhaps.
fn first_of(mesh: &Mesh, ca: &std::path::Path, pair: &Pair) -> Trial {
    let (public, mesh_port) = (mesh.door(0), mesh.mesh_doors[0].port());
    let mut trial = Trial::alone(public.ip(), public.port(), mesh_port);
    shared(&mut trial);
    trial.config["cluster"]["members"] = json!(
        mesh.members
            .iter()
            .map(|member| member.as_str())
            .collect::<Vec<_>>()
    );
    trial.tls(ca, &pair.cert, &pair.key);
    trial
}

/// Several members share their stores; nothing answers where these are.
fn shared(trial: &mut Trial) {
    trial.config["storage"] = json!({
        "storageDriver": { "name": "s3", "bucket": "verify", "regionendpoint": "http://127.0.0.1:1",
            "accesskey": "a", "secretkey": "b" },
        "cacheDriver": { "name": "dynamodb", "region": "us-east-1", "endpoint": "http://127.0.0.1:1",
            "cacheTablename": "v-1", "repoMetaTablename": "v-2", "imageMetaTablename": "v-3",
            "repoBlobsInfoTablename": "v-4", "userDataTablename": "v-5", "apiKeyTablename": "v-6",
            "versionTablename": "v-7" },
    });
}

/// Of a mesh on `port` that consists of 127.0.0.1 and `other`.
async fn with_other(other: &str, port: u16, mesh_port: u16) -> Said {
    let mut trial = Trial::alone(loopback(1), port, mesh_port);
    shared(&mut trial);
    trial.config["cluster"]["members"] = json!([format!("127.0.0.1:{port}"), format!("{other}:{port}")]);
    let own = certificates();
    trial.tls(&own.ca, &own.members[0].cert, &own.members[0].key);
    trial.verify().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_serve_are_told_from_those_that_refuse_us() {
    let mesh = Mesh::of_three().await;
    let own = certificates();
    let (second, third) = (mesh.members[1].as_str(), mesh.members[2].as_str());
    let said = first_of(&mesh, &own.ca, &own.members[0]).verify().await;
    said.has("ok", &[second, "serves at"])
        .has("ok", &[third, "serves at"]);
    said.has("warn  http.address", &["in use"])
        .has("warn  mesh address", &["in use"]);

    // Of the same authority, and nobody's that the others know.
    let nine: Vec<IpAddr> = (1..=9).map(loopback).collect();
    let folder = own.ca.parent().unwrap();
    let stranger = DevCertificates::mint(folder, &nine).unwrap().members.remove(8);
    let said = first_of(&mesh, &own.ca, &stranger).verify().await;
    said.is_bad()
        .has("FAIL", &[second, "cluster.members", "take this certificate"]);

    // Of another authority, which is ours here: they refuse us, and we refuse them.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = DevCertificates::mint(elsewhere.path(), &nine[..1]).unwrap();
    let said = first_of(&mesh, &other.ca, &other.members[0]).verify().await;
    said.is_bad()
        .has("FAIL", &[second, "isn't of cluster.tls.cacert"]);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_certificate_names_another_host_is_named() {
    let mesh = Mesh::of_three().await;
    let mut trial = first_of(&mesh, &certificates().ca, &certificates().members[0]);
    let port = mesh.door(0).port();
    // By this name, 127.0.0.1 has no certificate.
    trial.config["cluster"]["members"] = json!([format!("localhost:{port}"), format!("127.0.0.2:{port}")]);
    trial.config["http"]["address"] = "127.0.0.2".into();
    let said = trial.verify().await;
    said.is_bad()
        .has("FAIL", &["member localhost", "doesn't name localhost", "SAN"]);
    mesh.stop().await;
}

#[tokio::test]
async fn names_that_do_not_resolve_and_hosts_that_are_one_are_named() {
    let (port, mesh_port) = (free_port(1), free_port(1));
    let said = with_other("nobody.invalid", port, mesh_port).await;
    said.is_bad()
        .has("FAIL", &["nobody.invalid", "doesn't resolve", "cluster.members"]);
    let said = with_other("localhost", port, mesh_port).await;
    said.is_bad()
        .has("FAIL", &["member", "share the mesh address", "127.0.0.1"]);
}

#[tokio::test]
async fn a_mesh_port_that_nobody_listens_at_is_a_warning() {
    let (port, mesh_port) = (free_port(2), free_port(2));
    let said = with_other("127.0.0.2", port, mesh_port).await;
    said.has("warn", &["member 127.0.0.2", "nothing listens", "start it"]);
    // And the stores, at the same time.
    said.is_bad()
        .has("FAIL  bucket verify", &["127.0.0.1:1"])
        .has("FAIL  tables", &["v-1", "cacheTablename", "endpoint"]);
}

#[tokio::test]
async fn a_mesh_port_that_does_not_answer_is_given_up() {
    let (port, mesh_port) = (free_port(2), free_port(2));
    let listener = TcpListener::bind((loopback(2), mesh_port)).await.unwrap();
    let said = with_other("127.0.0.2", port, mesh_port).await;
    said.is_bad()
        .has("FAIL", &["member 127.0.0.2", "no answer within", "mesh port"]);

    let tasks = TaskTracker::new();
    let hanging_up = tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let said = with_other("127.0.0.2", port, mesh_port).await;
    said.is_bad().has("FAIL", &["member 127.0.0.2", "hung up"]);
    hanging_up.abort();
}
