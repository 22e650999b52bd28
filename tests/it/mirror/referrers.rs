//! What refers to what is mirrored: signatures and the like.

use std::time::Duration;

use super::{
    Image,
    fake::{Body, Fake, blob_path, part, redirect, status, tags, typed, whole},
    get_blob, get_manifest, mirror, patient, plan, pull, sync, sync_from,
};
use crate::support::{
    PATIENCE,
    client::{Answer, Ask as _, Client},
    content::{Blob, INDEX, Manifest},
    eventually,
    mesh::{MEMBERS, memory},
};

/// Something that refers to an image.
pub(super) struct Referrer {
    pub(super) blob: Blob,
    pub(super) manifest: Manifest,
}

impl Referrer {
    fn of(image: &Image, name: &str) -> Self {
        let blob = Blob::named(name, 50);
        let manifest = Manifest::image(&blob, &[]).subject(&image.manifest).build();
        Self { blob, manifest }
    }

    pub(super) fn serve(&self, upstream: &Fake, repository: &str) {
        upstream.blob(repository, &self.blob);
        upstream.manifest(repository, &self.manifest.digest, &self.manifest);
    }

    /// As lists of referrers have it.
    pub(super) fn listed(&self) -> serde_json::Value {
        let mut entry = self.manifest.descriptor();
        let manifest: serde_json::Value = serde_json::from_slice(&self.manifest.bytes).unwrap();
        if let Some(artifact_type) = manifest.get("artifactType") {
            entry["artifactType"] = artifact_type.clone();
        }
        entry
    }

    /// How often upstream was asked for its blob.
    fn times(&self, upstream: &Fake, repository: &str) -> usize {
        upstream.count("GET", &blob_path(repository, &self.blob.digest))
    }
}

pub(super) fn referrers_path(repository: &str, image: &Image) -> String {
    format!("/v2/{repository}/referrers/{}", image.manifest.digest)
}

/// Upstream says that these refer to the image.
pub(super) fn refer(upstream: &Fake, repository: &str, image: &Image, referrers: &[&Referrer]) {
    let list: Vec<_> = referrers.iter().map(|referrer| referrer.listed()).collect();
    let list = Manifest::index([]).with("manifests", list).build();
    upstream.at(referrers_path(repository, image), move |_| {
        typed(INDEX, list.bytes.clone())
    });
}

pub(super) async fn get_referrers(client: &Client, repository: &str, image: &Image) -> Answer {
    let listed = client.get(referrers_path(repository, image)).await;
    listed.unwrap().expect(200)
}

pub(super) fn digests(listed: &Answer) -> Vec<String> {
    let listed = listed.json();
    let listed = listed["manifests"].as_array().unwrap().iter();
    listed
        .map(|one| one["digest"].as_str().unwrap().to_owned())
        .collect()
}

/// How an upstream tells what refers to a manifest.
#[derive(Clone, Copy, Debug)]
enum Told {
    Api,
    Tag,
    Cosign,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_refers_to_the_entries_of_an_index_comes_along_ahead_and_when_asked_for() {
    for how in ["onDemand: true", "pollInterval: 1s"] {
        let upstream = Fake::start().await;
        let registry = format!(
            "{{urls: [\"{}\"], {how}, manifestCheckInterval: 1h, content: [{{prefix: children}}]}}",
            upstream.url()
        );
        let (repository, image) = ("children", Image::named("child", &[500]));
        image.serve(&upstream, repository, "none");
        let index = Manifest::index([&image.manifest]).build();
        upstream.manifest(repository, "v1", &index);
        let signature = Referrer::of(&image, "child signature");
        signature.serve(&upstream, repository);
        refer(&upstream, repository, &image, &[&signature]);
        tags(&upstream, repository, &["v1"]);
        let mesh = mirror(sync(&registry, "")).await;
        let client = mesh.client(1);
        eventually("the index comes", || async {
            get_manifest(&client, repository, "v1").await.status == 200
        })
        .await;
        pull(&client, repository, &image.manifest.digest, &image).await;
        eventually("what refers to its entry comes", || async {
            signature.times(&upstream, repository) == 1
        })
        .await;
        let listed = get_referrers(&client, repository, &image).await;
        assert_eq!(digests(&listed), [&*signature.manifest.digest], "{how}");
        let blob = get_blob(&client, repository, &signature.blob).await;
        blob.expect(200).with_body(&signature.blob.bytes);
        assert_eq!(signature.times(&upstream, repository), 1, "{how}");
        mesh.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_come_along_however_upstream_tells_of_them() {
    for told in [Told::Api, Told::Tag, Told::Cosign] {
        let upstream = Fake::start().await;
        let mesh = mirror(sync_from(&upstream.url(), "manifestCheckInterval: 1h")).await;
        let repository = mesh.names().owned_by(0, "signed");
        let client = mesh.client(1);
        let image = Image::named(&format!("signed {told:?}"), &[500]);
        image.serve(&upstream, &repository, "v1");
        let blob = Blob::named(&format!("signature {told:?}"), 50);
        let signature = Manifest::image(&blob, &[]).artifact_type("application/example");
        let manifest = match told {
            Told::Cosign => signature.build(),
            Told::Api | Told::Tag => signature.subject(&image.manifest).build(),
        };
        let signature = Referrer { blob, manifest };
        signature.serve(&upstream, &repository);
        let schema = image.manifest.digest.replace(':', "-");
        let tag = format!("{schema}.sig");
        match told {
            Told::Api => refer(&upstream, &repository, &image, &[&signature]),
            Told::Tag => {
                let list = Manifest::index([&signature.manifest]).build();
                upstream.manifest(&repository, &schema, &list);
            }
            Told::Cosign => upstream.manifest(&repository, &tag, &signature.manifest),
        }
        pull(&client, &repository, "v1", &image).await;
        eventually("it comes along", || async {
            signature.times(&upstream, &repository) == 1
        })
        .await;
        // A repetition shares the answer of what is still under way.
        let listed = get_referrers(&client, &repository, &image).await;
        let reference = match told {
            Told::Cosign => &tag,
            Told::Api | Told::Tag => {
                assert_eq!(digests(&listed), [&*signature.manifest.digest]);
                &signature.manifest.digest
            }
        };
        let manifest = get_manifest(&client, &repository, reference).await;
        manifest.expect(200).with_body(&signature.manifest.bytes);
        let blob = get_blob(&client, &repository, &signature.blob).await;
        blob.expect(200).with_body(&signature.blob.bytes);
        assert_eq!(signature.times(&upstream, &repository), 1);
        mesh.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_referrers_is_what_upstream_says_or_says_that_it_may_not_be() {
    let upstream = Fake::start().await;
    let mesh = patient(sync_from(&upstream.url(), "maxRetries: 0")).start().await;
    let repository = mesh.names().owned_by(0, "asked");
    let image = Image::named("asked", &[500]);
    image.serve(&upstream, &repository, "v1");
    for door in 0..MEMBERS {
        pull(&mesh.client(door), &repository, "v1", &image).await;
        let none = get_referrers(&mesh.client(door), &repository, &image).await;
        none.lacks("warning");
    }
    // As Go writes a list of none.
    upstream.at(referrers_path(&repository, &image), |_| {
        typed(INDEX, r#"{"schemaVersion": 2, "manifests": null}"#)
    });
    for door in 0..MEMBERS {
        let none = get_referrers(&mesh.client(door), &repository, &image).await;
        let none = none.lacks("warning");
        assert_eq!(digests(&none), [""; 0]);
    }
    // It is signed later; what the list has beside it refers to something else.
    let signature = Referrer::of(&image, "asked signature");
    let other = Referrer::of(&Image::named("other", &[]), "other signature");
    for referrer in [&signature, &other] {
        referrer.serve(&upstream, &repository);
    }
    refer(&upstream, &repository, &image, &[&other, &signature]);
    for door in 0..MEMBERS {
        let listed = get_referrers(&mesh.client(door), &repository, &image).await;
        let listed = listed.lacks("warning");
        assert_eq!(digests(&listed), [&*signature.manifest.digest]);
    }
    assert_eq!(other.times(&upstream, &repository), 0);
    type Lie = fn() -> http::Response<Body>;
    let lies: [(&str, Lie); 4] = [
        ("no answer", || status(503)),
        ("HTML", || typed("text/html", "<html>")),
        ("another document", || typed(INDEX, "[]")),
        ("a private network", || redirect("http://10.0.0.1/")),
    ];
    for (what, lie) in lies {
        upstream.at(referrers_path(&repository, &image), move |_| lie());
        for door in 0..MEMBERS {
            let listed = get_referrers(&mesh.client(door), &repository, &image).await;
            assert!(listed.must("warning").starts_with("111 "), "{what}: {listed}");
            assert_eq!(digests(&listed), [&*signature.manifest.digest], "{what}");
        }
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_referrers_is_told_what_is_here_while_the_others_come() {
    let upstream = Fake::start().await;
    let plan = plan(memory(), sync_from(&upstream.url(), "")).limits(|limits| {
        limits.mirror.referrers_time = Duration::from_millis(200);
        // Nothing but the gate ends it.
        limits.upstream.stall = 10 * PATIENCE;
    });
    let mesh = plan.start().await;
    for door in 0..MEMBERS {
        let repository = mesh.names().owned_by(0, &format!("slow/{door}"));
        let image = Image::named(&format!("slow {door}"), &[500]);
        image.serve(&upstream, &repository, "v1");
        let [first, slow] = ["first", "slow"].map(|name| Referrer::of(&image, &format!("{name} {door}")));
        first.serve(&upstream, &repository);
        slow.serve(&upstream, &repository);
        let gate = upstream.gated_blob(&repository, &slow.blob, 10);
        refer(&upstream, &repository, &image, &[&first, &slow]);
        let client = mesh.client(door);
        pull(&client, &repository, "v1", &image).await;
        eventually("the first is told of", || async {
            let listed = get_referrers(&client, &repository, &image).await;
            assert!(listed.must("warning").starts_with("111 "), "{listed}");
            digests(&listed) == [&*first.manifest.digest]
        })
        .await;
        gate.send_replace(true);
        let mut both = vec![first.manifest.digest.clone(), slow.manifest.digest.clone()];
        both.sort();
        eventually("both are", || async {
            let listed = get_referrers(&client, &repository, &image).await;
            let mut told = digests(&listed);
            told.sort();
            listed.header("warning").is_none() && told == both
        })
        .await;
        assert_eq!(slow.times(&upstream, &repository), 1, "it went on coming");
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_signature_keeps_neither_its_image_nor_another_signature_from_coming_ahead() {
    let upstream = Fake::start().await;
    let (repository, image) = ("broken/signature", Image::named("broken signature", &[500]));
    image.serve(&upstream, repository, "v1");
    tags(&upstream, repository, &["v1"]);
    let [absent, wrong, good] = ["absent", "wrong", "good"].map(|name| Referrer::of(&image, name));
    for referrer in [&absent, &wrong, &good] {
        referrer.serve(&upstream, repository);
    }
    upstream.at(blob_path(repository, &absent.blob.digest), |_| status(404));
    let other = Blob::named("another", wrong.blob.len()).bytes;
    upstream.at(blob_path(repository, &wrong.blob.digest), move |_| {
        part(0, other.len(), whole(other.clone()))
    });
    refer(&upstream, repository, &image, &[&absent, &wrong, &good]);
    let registry = format!(
        "{{urls: [\"{}\"], pollInterval: 1h, maxRetries: 0, content: [{{prefix: {repository}}}]}}",
        upstream.url()
    );
    let mesh = mirror(sync(&registry, "")).await;
    let client = mesh.client(1);
    eventually("the image comes", || async {
        get_manifest(&client, repository, "v1").await.status == 200
    })
    .await;
    pull(&client, repository, "v1", &image).await;
    for door in 0..MEMBERS {
        let listed = get_referrers(&mesh.client(door), repository, &image).await;
        assert_eq!(digests(&listed), [&*good.manifest.digest]);
    }
    mesh.stop().await;
}
