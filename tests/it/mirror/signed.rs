//! `onlySigned`: what upstream has no signature of doesn't come.

use std::time::Duration;

use portolan::config::Sync;

use super::{
    Image,
    fake::{Fake, manifest_path, pages, status, tags, typed},
    get_manifest, mirror, plan, pull,
    referrers::{Referrer, refer, referrers_path},
    sync, sync_from,
};
use crate::support::{
    client::Ask as _,
    content::{Blob, INDEX, Manifest},
    eventually,
    mesh::{MEMBERS, Mesh, memory},
};

const NOTATION: &str = "application/vnd.cncf.notary.signature";

/// A mesh that remembers for a moment only what upstream doesn't have.
async fn forgetful(sync: Sync) -> Mesh {
    let plan = plan(memory(), sync).limits(|limits| limits.mirror.absent = Duration::from_millis(1));
    plan.start().await
}

/// Something that refers to an image, listed as of this type.
fn attached(image: &Image, artifact_type: &str) -> Referrer {
    let blob = Blob::named(&format!("{artifact_type} of {}", image.manifest.digest), 50);
    let draft = Manifest::image(&blob, &[]).subject(&image.manifest);
    let manifest = draft.artifact_type(artifact_type).build();
    Referrer { blob, manifest }
}

/// How an upstream has a signature.
#[derive(Clone, Copy, Debug)]
enum Signed {
    Api(&'static str),
    Tag(&'static str),
    Cosign,
}

impl Signed {
    fn sign(self, upstream: &Fake, repository: &str, image: &Image) {
        let schema = image.manifest.digest.replace(':', "-");
        match self {
            Self::Api(kind) => {
                let signature = attached(image, kind);
                signature.serve(upstream, repository);
                refer(upstream, repository, image, &[&signature]);
            }
            Self::Tag(kind) => {
                let signature = attached(image, kind);
                signature.serve(upstream, repository);
                let list = vec![signature.listed()];
                let list = Manifest::index([]).with("manifests", list).build();
                upstream.manifest(repository, &schema, &list);
            }
            Self::Cosign => {
                let blob = Blob::named(&schema, 50);
                upstream.blob(repository, &blob);
                let signature = Manifest::image(&blob, &[]).build();
                upstream.manifest(repository, &format!("{schema}.sig"), &signature);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_comes_when_upstream_has_a_signature_of_it_and_moves_only_to_what_is_signed_too() {
    let upstream = Fake::start().await;
    let mesh = forgetful(sync_from(&upstream.url(), "onlySigned: true")).await;
    for (n, how) in [
        Signed::Api(NOTATION),
        Signed::Api("application/vnd.dev.sigstore.bundle.v0.3+json"),
        Signed::Tag("application/vnd.dev.cosign.artifact.sig.v1+json"),
        Signed::Cosign,
    ]
    .into_iter()
    .enumerate()
    {
        let repository = mesh.names().owned_by(0, &format!("signed/{n}"));
        let image = Image::named(&format!("signed {n}"), &[500]);
        image.serve(&upstream, &repository, "v1");
        // What else is attached to it signs nothing.
        let other = attached(&image, "application/spdx+json");
        refer(&upstream, &repository, &image, &[&other]);
        for door in 0..MEMBERS {
            for reference in ["v1", &*image.manifest.digest] {
                get_manifest(&mesh.client(door), &repository, reference)
                    .await
                    .error(404, "MANIFEST_UNKNOWN");
            }
        }
        upstream.at(referrers_path(&repository, &image), |_| status(404));
        how.sign(&upstream, &repository, &image);
        for door in 0..MEMBERS {
            pull(&mesh.client(door), &repository, "v1", &image).await;
        }
        let moved = Image::named(&format!("signed {n} moved"), &[500]);
        moved.serve(&upstream, &repository, "v1");
        for door in 0..MEMBERS {
            let stays = get_manifest(&mesh.client(door), &repository, "v1").await;
            stays.expect(200).with_body(&image.manifest.bytes);
        }
        how.sign(&upstream, &repository, &moved);
        for door in 0..MEMBERS {
            pull(&mesh.client(door), &repository, "v1", &moved).await;
        }
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_signed_index_lists_needs_no_signature_of_its_own_nor_does_the_signature() {
    let upstream = Fake::start().await;
    let mesh = forgetful(sync_from(&upstream.url(), "onlySigned: true")).await;
    let repository = mesh.names().owned_by(0, "signed/index");
    let child = Image::named("signed child", &[500]);
    child.serve(&upstream, &repository, "child");
    let manifest = Manifest::index([&child.manifest]).build();
    upstream.manifest(&repository, "v1", &manifest);
    let index = Image {
        manifest,
        ..Image::named("none", &[])
    };
    for door in 0..MEMBERS {
        let client = mesh.client(door);
        for reference in ["v1", "child", &*child.manifest.digest] {
            let answer = get_manifest(&client, &repository, reference).await;
            answer.error(404, "MANIFEST_UNKNOWN");
        }
    }
    let signature = attached(&index, NOTATION);
    signature.serve(&upstream, &repository);
    refer(&upstream, &repository, &index, &[&signature]);
    for door in 0..MEMBERS {
        let client = mesh.client(door);
        let answer = get_manifest(&client, &repository, "v1").await.expect(200);
        answer.with_body(&index.manifest.bytes);
        pull(&client, &repository, &child.manifest.digest, &child).await;
        let answer = get_manifest(&client, &repository, &signature.manifest.digest).await;
        answer.expect(200).with_body(&signature.manifest.bytes);
        let answer = get_manifest(&client, &repository, "child").await;
        answer.error(404, "MANIFEST_UNKNOWN");
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_it_is_not_known_whether_something_is_signed_is_an_error() {
    let upstream = Fake::start().await;
    let mesh = forgetful(sync_from(&upstream.url(), "onlySigned: true, maxRetries: 0")).await;
    let repository = mesh.names().owned_by(0, "signed/unknown");
    let image = Image::named("signed unknown", &[500]);
    image.serve(&upstream, &repository, "v1");
    upstream.at(referrers_path(&repository, &image), |_| status(503));
    for door in 0..MEMBERS {
        let answer = get_manifest(&mesh.client(door), &repository, "v1").await;
        answer.expect(502);
    }
    upstream.at(referrers_path(&repository, &image), |_| typed(INDEX, "[]"));
    for door in 0..MEMBERS {
        let answer = get_manifest(&mesh.client(door), &repository, "v1").await;
        answer.expect(502);
    }
    Signed::Cosign.sign(&upstream, &repository, &image);
    upstream.at(referrers_path(&repository, &image), |_| status(404));
    pull(&mesh.client(1), &repository, "v1", &image).await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ahead_of_time_unsigned_tags_are_passed_over_and_are_no_trouble() {
    let upstream = Fake::start().await;
    let registry = format!(
        "{{urls: [\"{}\"], onlySigned: true, pollInterval: 1s, content: [{{prefix: 'signed/*'}}]}}",
        upstream.url()
    );
    let (repository, images) = (
        "signed/ahead",
        ["signed ahead", "unsigned ahead"].map(|name| Image::named(name, &[500])),
    );
    for (image, tag) in images.iter().zip(["signed", "unsigned"]) {
        image.serve(&upstream, repository, tag);
    }
    Signed::Api(NOTATION).sign(&upstream, repository, &images[0]);
    tags(&upstream, repository, &["unsigned", "signed"]);
    pages(&upstream, &[repository.to_owned()], 10);
    let mesh = mirror(sync(&registry, "")).await;
    let client = mesh.client(1);
    eventually("the signed one comes", || async {
        get_manifest(&client, repository, "signed").await.status == 200
    })
    .await;
    pull(&client, repository, "signed", &images[0]).await;
    let looked = manifest_path(repository, "unsigned");
    let looks = upstream.count("HEAD", &looked);
    eventually("two further rounds", || async {
        upstream.count("HEAD", &looked) >= looks + 2
    })
    .await;
    let answer = get_manifest(&client, repository, "unsigned").await;
    answer.error(404, "MANIFEST_UNKNOWN");
    let told = client.get("/v2/_portolan/mirror".to_owned()).await.unwrap();
    let rule = &told.expect(200).json()["rules"][0];
    assert_eq!(
        (&rule["failed"], &rule["troubles"]),
        (&0.into(), &serde_json::json!([]))
    );
    Signed::Cosign.sign(&upstream, repository, &images[1]);
    eventually("the other one comes when it is signed", || async {
        get_manifest(&client, repository, "unsigned").await.status == 200
    })
    .await;
    pull(&client, repository, "unsigned", &images[1]).await;
    mesh.stop().await;
}
