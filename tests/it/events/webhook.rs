//! Sinks that are asked over HTTP.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use portolan::config::{Secret, SinkKind, SinkLogin};
use serde_json::Value;

use super::{server::Server, sink, telling, telling_within, told::Told, under_a_workload};
use crate::support::{
    client::{Ask as _, Client},
    content::{Blob, Manifest},
    eventually,
    mesh::Mesh,
};

/// How long the sink is waited for.
const TIMEOUT: Duration = Duration::from_millis(300);

/// What a sink has been told.
#[derive(Clone, Default)]
struct Record {
    told: Arc<Mutex<Vec<Told>>>,
    heads: Arc<Mutex<Vec<BTreeMap<String, String>>>>,
    asked: Arc<AtomicUsize>,
}

impl Record {
    async fn take(&self, request: Request<Incoming>) {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = |name: &str| head.headers[name].to_str().unwrap().to_owned();
        assert_eq!(
            (head.method.as_str(), text("ce-specversion").as_str()),
            ("POST", "1.0")
        );
        assert_eq!(text("content-type"), "application/json");
        let data: Value = serde_json::from_slice(&body).unwrap();
        self.told.lock().push(Told {
            id: text("ce-id"),
            kind: text("ce-type"),
            data,
        });
        let names = head.headers.keys().map(|name| name.as_str().to_owned());
        self.heads
            .lock()
            .push(names.map(|name| (name.clone(), text(&name))).collect());
    }
}

fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_fails_hangs_and_answers_late_is_told_everything_in_order() {
    let record = Record::default();
    let kept = record.clone();
    let server = Server::start(move |request| {
        let record = kept.clone();
        async move {
            match record.asked.fetch_add(1, Ordering::Relaxed) % 23 {
                3 => answer(StatusCode::SERVICE_UNAVAILABLE),
                7 => answer(StatusCode::TOO_MANY_REQUESTS),
                11 => std::future::pending().await,
                // Taken, and said too late: it is told again.
                17 => {
                    record.take(request).await;
                    tokio::time::sleep(TIMEOUT * 2).await;
                    answer(StatusCode::OK)
                }
                _ => {
                    record.take(request).await;
                    answer(StatusCode::ACCEPTED)
                }
            }
        }
    })
    .await;
    let mesh = telling(vec![sink(SinkKind::Http, server.url("/hook"), TIMEOUT)]).await;
    under_a_workload(mesh, async || record.told.lock().clone(), std::future::ready(())).await;
    let told = record.told.lock();
    let ids: std::collections::BTreeSet<_> = told.iter().map(|told| &told.id).collect();
    assert!(ids.len() < told.len(), "what was answered too late is told again");
}

async fn push(door: &Client, repository: &str, tag: &str, text: &str) -> Manifest {
    let config = Blob::named("config", 20);
    door.push_blob(repository, &config).await.unwrap().expect(201);
    let manifest = Manifest::image(&config, &[]).annotation("text", text).build();
    door.push_manifest(repository, tag, &manifest)
        .await
        .unwrap()
        .expect(201);
    manifest
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_says_what_zots_says_and_why() {
    let record = Record::default();
    let kept = record.clone();
    let server = Server::start(move |request| {
        let record = kept.clone();
        async move {
            record.take(request).await;
            answer(StatusCode::NO_CONTENT)
        }
    })
    .await;
    let mut hook = sink(SinkKind::Http, server.url("/a/hook?x=1"), Duration::from_secs(5));
    hook.login = SinkLogin::Password("jane".to_owned(), Secret::new("open sesame"));
    hook.headers = vec![("X-Tenant".to_owned(), Secret::new("blue"))];
    let mesh = telling(vec![hook]).await;
    let manifest = push(&mesh.client(1), "team/app", "v1", "one").await;
    let by_tag = mesh
        .client(0)
        .delete("/v2/team/app/manifests/v1".to_owned())
        .await
        .unwrap();
    by_tag.expect(202);
    let target = format!("/v2/team/app/manifests/{}", manifest.digest);
    mesh.client(2).delete(target).await.unwrap().expect(202);
    eventually("four events are told", || async { record.told.lock().len() >= 4 }).await;
    let told = record.told.lock().clone();
    let kinds: Vec<&str> = told.iter().map(|told| told.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "zotregistry.repository.created",
            "zotregistry.image.updated",
            "zotregistry.image.deleted",
            "zotregistry.image.deleted"
        ]
    );
    let image = |reference: &str| {
        serde_json::json!({
            "name": "team/app",
            "reference": reference,
            "digest": manifest.digest,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
        })
    };
    assert_eq!(told[0].data, serde_json::json!({ "name": "team/app" }));
    // By now the document may be gone.
    let mut updated = told[1].data.clone();
    if let Some(document) = updated.as_object_mut().unwrap().remove("manifest") {
        assert_eq!(document.as_str().unwrap().as_bytes(), &manifest.bytes[..]);
    }
    assert_eq!(updated, image("v1"));
    assert_eq!(told[2].data, image("v1"));
    assert_eq!(told[3].data, image(&manifest.digest));
    for head in record.heads.lock().iter() {
        for (name, expected) in [
            ("authorization", "Basic amFuZTpvcGVuIHNlc2FtZQ=="),
            ("x-tenant", "blue"),
            ("ce-channel", "registry.events"),
            ("ce-source", "zotregistry.dev"),
            ("ce-reason", "client"),
        ] {
            assert_eq!(head[name], expected, "{name}");
        }
        assert!(head["ce-id"].starts_with("team/app@"));
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_refuses_again_and_again_is_given_up_and_counted_and_the_rest_is_told() {
    let record = Record::default();
    let kept = record.clone();
    let server = Server::start(move |request| {
        let record = kept.clone();
        async move {
            let is_poison = request.headers()["ce-type"] == "zotregistry.repository.created";
            record.take(request).await;
            match is_poison {
                true => answer(StatusCode::UNPROCESSABLE_ENTITY),
                false => answer(StatusCode::OK),
            }
        }
    })
    .await;
    let mesh = telling(vec![sink(SinkKind::Http, server.url("/"), TIMEOUT)]).await;
    push(&mesh.client(0), "team/app", "v1", "one").await;
    push(&mesh.client(0), "team/app", "v2", "two").await;
    eventually("the second push is told", || async {
        record
            .told
            .lock()
            .iter()
            .any(|told| told.data["reference"] == "v2")
    })
    .await;
    // The whole change is given up: its repository's creation, and the image.
    assert_eq!(given_up(&mesh).await, 2.0);
    let poison = |told: &&Told| told.kind == "zotregistry.repository.created";
    assert_eq!(record.told.lock().iter().filter(poison).count(), 10);
    mesh.stop().await;
}

async fn given_up(mesh: &Mesh) -> f64 {
    let mut sum = 0.0;
    for member in 0..3 {
        let labels = [("sink", "sinks[0]"), ("outcome", "given_up")];
        sum += mesh.metrics(member).await.sum("portolan_events_total", &labels);
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_given_up_only_when_the_sink_has_failed_for_a_while() {
    for (failing, is_given_up) in [(Duration::from_secs(3600), false), (Duration::ZERO, true)] {
        let record = Record::default();
        let kept = record.clone();
        let server = Server::start(move |request| {
            let record = kept.clone();
            async move {
                if record.asked.fetch_add(1, Ordering::Relaxed) == 0 {
                    return answer(StatusCode::BAD_GATEWAY);
                }
                record.take(request).await;
                answer(StatusCode::OK)
            }
        })
        .await;
        let mesh = telling_within(vec![sink(SinkKind::Http, server.url("/"), TIMEOUT)], |limits| {
            // Everything is old.
            (limits.events.kept, limits.events.failing) = (Duration::ZERO, failing);
        })
        .await;
        push(&mesh.client(0), "team/app", "v1", "one").await;
        push(&mesh.client(0), "team/app", "v2", "two").await;
        match is_given_up {
            true => eventually("it is given up", || async { given_up(&mesh).await > 0.0 }).await,
            false => {
                eventually("all is told", || async { record.told.lock().len() == 3 }).await;
                assert_eq!(given_up(&mesh).await, 0.0);
            }
        }
        mesh.stop().await;
    }
}
