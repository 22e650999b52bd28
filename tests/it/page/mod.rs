//! The page: what it shows to whom, and what somebody might try with it. tests/page.sh visits it with a browser.

mod attacks;
mod login;
mod mesh;
mod odd;
mod undo;

use serde_json::{Value, json};

use crate::{
    search::world::World,
    support::{
        client::{Answer, Ask, Request, octets},
        content::sha256,
    },
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes a manifest over a configuration of this type and content, with what `more` says of it. Gives its digest.
async fn push(
    admin: &impl Ask,
    repository: &str,
    tag: Option<&str>,
    config: (&str, &[u8]),
    more: Value,
) -> String {
    let digest = sha256(config.1);
    let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    let blob = octets(Request::post(target)).body(config.1.to_vec());
    admin.ask(blob).await.unwrap().expect(201);
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": { "mediaType": config.0, "digest": digest, "size": config.1.len() },
    });
    manifest
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let manifest = manifest.to_string();
    let digest = sha256(manifest.as_bytes());
    let reference = tag.unwrap_or(&digest);
    let request = Request::put(format!("/v2/{repository}/manifests/{reference}"))
        .header("content-type", MANIFEST)
        .body(manifest);
    admin.ask(request).await.unwrap().expect(201);
    digest
}

async fn show(world: &World, user: Option<&str>, member: usize, path: &str) -> Answer {
    world.caller(user, member).get(path.to_owned()).await.unwrap()
}

fn html(answer: &Answer) -> &str {
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8"),
        "{answer}"
    );
    std::str::from_utf8(&answer.body).unwrap()
}
