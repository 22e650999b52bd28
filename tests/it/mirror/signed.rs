//! `onlySigned`: what upstream has no signature of doesn't come.

use std::time::Duration;

use portolan::config::Sync;

use super::{
    Image,
    fake::{Fake, blob_path, linked, manifest_path, pages, status, tags, typed},
    get_manifest, patient, pull,
    referrers::{Referrer, digests, get_referrers, refer, referrers_path},
    sync, sync_from,
};
use crate::support::{
    PATIENCE,
    client::Ask as _,
    content::{Blob, INDEX, Manifest},
    eventually,
    mesh::{MEMBERS, Mesh},
};

const NOTATION: &str = "application/vnd.cncf.notary.signature";

/// A mesh that remembers for a moment only what upstream doesn't have.
async fn forgetful(sync: Sync) -> Mesh {
    let plan = patient(sync).limits(|limits| limits.mirror.absent = Duration::from_millis(1));
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
    // A list without end, and one of which a page is missing.
    let path = referrers_path(&repository, &image);
    for next in [path.clone(), format!("{path}/none")] {
        let list = Manifest::index([]).build();
        upstream.at(path.clone(), move |_| {
            linked(typed(INDEX, list.bytes.clone()), &next)
        });
        for door in 0..MEMBERS {
            let answer = get_manifest(&mesh.client(door), &repository, "v1").await;
            answer.expect(502);
        }
    }
    Signed::Cosign.sign(&upstream, &repository, &image);
    upstream.at(referrers_path(&repository, &image), |_| status(404));
    pull(&mesh.client(1), &repository, "v1", &image).await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_is_found_on_any_page_however_slow_they_come() {
    let upstream = Fake::start().await;
    let plan = patient(sync_from(&upstream.url(), "onlySigned: true")).limits(|limits| {
        // What is here isn't waited for: nothing is.
        limits.upstream.look = Duration::from_millis(10);
    });
    let mesh = plan.start().await;
    let repository = mesh.names().owned_by(0, "signed/pages");
    let image = Image::named("signed pages", &[500]);
    image.serve(&upstream, &repository, "v1");
    let signature = attached(&image, NOTATION);
    signature.serve(&upstream, &repository);
    let others: Vec<_> = (0..150)
        .map(|n| attached(&image, &format!("application/example.{n}")).listed())
        .collect();
    let list = |entries: Vec<_>| Manifest::index([]).with("manifests", entries).build();
    let (first, last) = (list(others), list(vec![signature.listed()]));
    let path = referrers_path(&repository, &image);
    let next = format!("{path}?last=149");
    upstream.slow(path.clone(), Duration::from_millis(200));
    upstream.at(path, move |seen| match seen.target == next {
        true => typed(INDEX, last.bytes.clone()),
        false => linked(typed(INDEX, first.bytes.clone()), &next),
    });
    for door in 0..MEMBERS {
        let client = mesh.client(door);
        pull(&client, &repository, "v1", &image).await;
        // It is here for whoever verifies it, though so many others were listed before it.
        let listed = get_referrers(&client, &repository, &image).await;
        assert!(digests(&listed).contains(&signature.manifest.digest), "{listed}");
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_for_want_of_what_it_belongs_to_comes_when_that_is_here() {
    let upstream = Fake::start().await;
    let plan = patient(sync_from(&upstream.url(), "onlySigned: true"));
    let mesh = plan.limits(|limits| limits.mirror.absent = PATIENCE * 60);
    let mesh = mesh.start().await;
    let repository = mesh.names().owned_by(0, "signed/late");
    let child = Image::named("late child", &[500]);
    child.serve(&upstream, &repository, "child");
    let index = Image {
        manifest: Manifest::index([&child.manifest]).build(),
        ..Image::named("none", &[])
    };
    upstream.manifest(&repository, "v1", &index.manifest);
    let kept = Image::named("late kept", &[500]);
    let tag = format!("{}.other", index.manifest.digest.replace(':', "-"));
    kept.serve(&upstream, &repository, &tag);
    let signature = attached(&index, NOTATION);
    signature.serve(&upstream, &repository);
    refer(&upstream, &repository, &index, &[&signature]);
    for door in 0..MEMBERS {
        for reference in [&*child.manifest.digest, &*tag] {
            let answer = get_manifest(&mesh.client(door), &repository, reference).await;
            answer.error(404, "MANIFEST_UNKNOWN");
        }
    }
    for door in 0..MEMBERS {
        let client = mesh.client(door);
        let answer = get_manifest(&client, &repository, "v1").await.expect(200);
        answer.with_body(&index.manifest.bytes);
        pull(&client, &repository, &child.manifest.digest, &child).await;
        pull(&client, &repository, &tag, &kept).await;
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_come_of_what_is_here_by_their_tags_and_by_lists() {
    let upstream = Fake::start().await;
    let mesh = forgetful(sync_from(&upstream.url(), "onlySigned: true")).await;
    let repository = mesh.names().owned_by(0, "signed/of");
    let image = Image::named("signed of", &[500]);
    image.serve(&upstream, &repository, "v1");
    let child = Image::named("signed of child", &[500]);
    let index = Image {
        manifest: Manifest::index([&child.manifest]).build(),
        ..Image::named("none", &[])
    };
    upstream.manifest(&repository, "v2", &index.manifest);
    // Whatever is kept under such tags.
    let kept = Image::named("kept", &[500]);
    let tag = |of: &Image, end: &str| format!("{}{end}", of.manifest.digest.replace(':', "-"));
    let tags = [&image, &child].map(|of| [tag(of, ""), tag(of, ".att")]);
    for tag in tags.iter().flatten() {
        kept.serve(&upstream, &repository, tag);
    }
    // And what upstream lists.
    let other = attached(&image, "application/spdx+json");
    let strange = attached(&Image::named("elsewhere", &[]), "application/spdx+json");
    for referrer in [&other, &strange] {
        referrer.serve(&upstream, &repository);
    }
    refer(&upstream, &repository, &image, &[&strange, &other]);
    for door in 0..MEMBERS {
        let client = mesh.client(door);
        for tag in tags.iter().flatten() {
            let answer = get_manifest(&client, &repository, tag).await;
            answer.error(404, "MANIFEST_UNKNOWN");
        }
        let listed = get_referrers(&client, &repository, &image).await;
        let listed = listed.lacks("warning");
        assert_eq!(digests(&listed), [""; 0]);
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());

    for signed in [&image, &index] {
        let signature = attached(signed, NOTATION);
        signature.serve(&upstream, &repository);
        let others = match signed.manifest.digest == image.manifest.digest {
            true => vec![&strange, &other, &signature],
            false => vec![&signature],
        };
        refer(&upstream, &repository, signed, &others);
    }
    for door in 0..MEMBERS {
        let client = mesh.client(door);
        pull(&client, &repository, "v1", &image).await;
        let answer = get_manifest(&client, &repository, "v2").await.expect(200);
        answer.with_body(&index.manifest.bytes);
        for tag in tags.iter().flatten() {
            pull(&client, &repository, tag, &kept).await;
        }
        let listed = get_referrers(&client, &repository, &image).await;
        let listed = listed.lacks("warning");
        let mut expected = [
            &*other.manifest.digest,
            &*attached(&image, NOTATION).manifest.digest,
        ];
        expected.sort();
        let mut found = digests(&listed);
        found.sort();
        assert_eq!(found, expected);
        let answer = get_manifest(&client, &repository, &strange.manifest.digest).await;
        answer.error(404, "MANIFEST_UNKNOWN");
    }
    let blob = blob_path(&repository, &strange.blob.digest);
    assert_eq!(upstream.count("GET", &blob), 0);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_a_tag_moved_to_what_is_not_signed_is_remembered() {
    let upstream = Fake::start().await;
    let plan = patient(sync_from(&upstream.url(), "onlySigned: true"));
    let mesh = plan.limits(|limits| limits.mirror.absent = PATIENCE * 60);
    let mesh = mesh.start().await;
    let repository = mesh.names().owned_by(0, "signed/moved");
    let [image, moved] = ["signed", "moved"].map(|name| Image::named(name, &[500]));
    image.serve(&upstream, &repository, "v1");
    Signed::Cosign.sign(&upstream, &repository, &image);
    pull(&mesh.client(0), &repository, "v1", &image).await;
    let looked = || upstream.count("HEAD", &manifest_path(&repository, "v1"));
    let before = looked();
    moved.serve(&upstream, &repository, "v1");
    for _ in 0..3 {
        for door in 0..MEMBERS {
            pull(&mesh.client(door), &repository, "v1", &image).await;
        }
    }
    let by_digest = manifest_path(&repository, &moved.manifest.digest);
    let listed = referrers_path(&repository, &moved);
    let asked = (
        looked() - before,
        upstream.count("GET", &by_digest),
        upstream.count("GET", &listed),
    );
    assert_eq!(asked, (1, 1, 1));
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
    let mesh = patient(sync(&registry, "")).start().await;
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
