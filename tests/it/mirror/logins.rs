//! Logins: shown to the registry they are for, and to whom it may send them.

use super::{
    Image,
    fake::{Body, Fake, blob_path, manifest_path, of_manifest, redirect, status, typed, whole},
    get_manifest, plan, pull, sync,
};
use crate::support::mesh::{Mesh, memory};

/// `ann:secret`.
const LOGIN: &str = "Basic YW5uOnNlY3JldA==";

/// A mesh that mirrors `upstream` with a login for it.
async fn mesh(upstream: &Fake, more: &str) -> Mesh {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials.json");
    let credentials =
        serde_json::json!({ upstream.address.to_string(): { "username": "ann", "password": "secret" } });
    std::fs::write(&path, credentials.to_string()).unwrap();
    let registry = format!(
        "{{urls: [\"{}\"], onDemand: true, maxRetries: 0, {more}}}",
        upstream.url()
    );
    let sync = sync(&registry, &format!("credentialsFile: \"{}\"", path.display()));
    plan(memory(), sync).start().await
}

fn challenge(challenge: String) -> http::Response<Body> {
    let mut response = status(401);
    response
        .headers_mut()
        .insert("www-authenticate", challenge.parse().unwrap());
    response
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_got_once_and_is_not_shown_to_where_blobs_are() {
    let (upstream, storage) = (Fake::start().await, Fake::start().await);
    let image = Image::named("token", &[40_000]);
    let realm = format!("{}/token", upstream.url());
    for (path, bytes) in image
        .blobs()
        .map(|blob| (blob_path("team/app", &blob.digest), Some(blob.clone())))
        .chain([(manifest_path("team/app", "v1"), None)])
    {
        let (realm, manifest, storage_url) = (realm.clone(), image.manifest.clone(), storage.url());
        if let Some(blob) = &bytes {
            let content = blob.bytes.clone();
            storage.at(format!("/bucket/{}", blob.digest), move |_| {
                http::Response::new(whole(content.clone()))
            });
        }
        upstream.at(path, move |seen| match (seen.authorization.as_deref(), &bytes) {
            (Some("Bearer the-token"), Some(blob)) => {
                redirect(format!("{storage_url}/bucket/{}", blob.digest))
            }
            (Some("Bearer the-token"), None) => of_manifest(&manifest),
            _ => challenge(format!(
                "Bearer realm=\"{realm}\",service=\"the registry\",scope=\"repository:team/app:pull\""
            )),
        });
    }
    upstream.at("/token", |_| {
        // Under both names, as Docker Hub says it; and for longer than there is time.
        let life = u64::MAX;
        typed(
            "application/json",
            format!(r#"{{"token": "the-token", "access_token": "the-token", "expires_in": {life}}}"#),
        )
    });
    let mesh = mesh(&upstream, "").await;
    pull(&mesh.client(1), "team/app", "v1", &image).await;
    let tokens: Vec<_> = upstream
        .seen()
        .into_iter()
        .filter(|seen| seen.target.starts_with("/token"))
        .collect();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    assert_eq!(
        tokens[0].target,
        "/token?scope=repository%3Ateam%2Fapp%3Apull&service=the%20registry"
    );
    assert_eq!(tokens[0].authorization.as_deref(), Some(LOGIN));
    let stored = storage.seen();
    assert_eq!(stored.len(), 2, "{stored:?}");
    assert!(
        stored.iter().all(|seen| seen.authorization.is_none()),
        "{stored:?}"
    );
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_login_goes_to_a_strangers_realm_unless_it_is_named() {
    let (upstream, stranger) = (Fake::start().await, Fake::on("127.0.0.2").await);
    let image = Image::named("realm", &[500]);
    let (realm, manifest) = (format!("{}/token", stranger.url()), image.manifest.clone());
    upstream.at(manifest_path("team/app", "v1"), move |seen| {
        match seen.authorization.as_deref() {
            Some("Bearer theirs") => of_manifest(&manifest),
            _ => challenge(format!("Bearer realm=\"{realm}\"")),
        }
    });
    stranger.at("/token", |_| {
        typed("application/json", r#"{"access_token": "theirs"}"#)
    });
    let mesh_of_strangers = mesh(&upstream, "").await;
    let answer = get_manifest(&mesh_of_strangers.client(1), "team/app", "v1")
        .await
        .expect(502);
    let message = answer.json()["errors"][0]["message"].to_string();
    for part in ["127.0.0.2", "extensions.sync.registries[].realmHosts"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(stranger.seen().is_empty(), "{:?}", stranger.seen());
    mesh_of_strangers.stop().await;

    let mesh = mesh(&upstream, "realmHosts: [127.0.0.2]").await;
    get_manifest(&mesh.client(1), "team/app", "v1").await.expect(200);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_login_any_realm_is_asked_for_a_token() {
    let (upstream, realm) = (Fake::start().await, Fake::on("127.0.0.2").await);
    let image = Image::named("anonymous", &[500]);
    let (address, manifest) = (format!("{}/token", realm.url()), image.manifest.clone());
    upstream.at(manifest_path("team/app", "v1"), move |seen| {
        match seen.authorization.as_deref() {
            Some("Bearer anybody") => of_manifest(&manifest),
            _ => challenge(format!("Bearer realm=\"{address}\"")),
        }
    });
    realm.at("/token", |_| typed("application/json", r#"{"token": "anybody"}"#));
    // The second address is what lets it into a private network, no more.
    let urls = format!("urls: [\"{}\", \"{}\"]", upstream.url(), realm.url());
    let sync = sync(&format!("{{{urls}, onDemand: true, maxRetries: 0}}"), "");
    let mesh = plan(memory(), sync).start().await;
    let answer = get_manifest(&mesh.client(1), "team/app", "v1").await.expect(200);
    answer.with_body(&image.manifest.bytes);
    let asked: Vec<_> = realm.seen().into_iter().map(|seen| seen.authorization).collect();
    assert_eq!(asked, [None]);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_refused_for_ever_is_refused_once() {
    let upstream = Fake::start().await;
    upstream.at(manifest_path("team/app", "v1"), |_| {
        challenge("Basic realm=\"x\"".to_owned())
    });
    let mesh = mesh(&upstream, "").await;
    let answer = get_manifest(&mesh.client(1), "team/app", "v1").await.expect(502);
    let message = answer.json()["errors"][0]["message"].to_string();
    assert!(message.contains("credentialsFile"), "{message}");
    let shown: Vec<_> = upstream
        .seen()
        .into_iter()
        .map(|seen| seen.authorization)
        .collect();
    assert_eq!(shown, [None, Some(LOGIN.to_owned())]);
    mesh.stop().await;
}
