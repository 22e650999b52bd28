//! Pushing manifests.

use futures_util::{StreamExt as _, stream};
use http::Method;
use serde_json::json;

use super::{Outcome, Run, api_tests};
use crate::support::{
    client::{Answer, Ask as _, Broken, Request},
    content::{Blob, DOCKER_LIST, DOCKER_MANIFEST, IMAGE, INDEX, Manifest},
};

const MIB: usize = 1 << 20;

/// A config in the repository, for manifests without layers.
pub(super) async fn config(run: &Run, repository: &str) -> Result<Blob, Broken> {
    let config = run.blob("config", 100);
    run.push_blob(repository, &config).await?.expect(201);
    Ok(config)
}

/// Pushes a manifest and asserts that it reads back by `reference` and by digest.
async fn accepted(run: &Run, repository: &str, reference: &str, manifest: &Manifest) -> Outcome {
    run.push_manifest(repository, reference, manifest)
        .await?
        .expect(201)
        .with(
            "location",
            &format!("/v2/{repository}/manifests/{}", manifest.digest),
        )
        .with("docker-content-digest", &manifest.digest)
        .with_body(b"");
    for reference in [reference, &manifest.digest] {
        run.get(format!("/v2/{repository}/manifests/{reference}"))
            .await?
            .expect(200)
            .with("content-type", &manifest.media_type)
            .with_body(&manifest.bytes);
    }
    Ok(())
}

/// Pushes a manifest and asserts that it isn't there after it was refused.
async fn refused(
    run: &Run,
    repository: &str,
    content_type: Option<&str>,
    body: &[u8],
    (status, code): (u16, &str),
) -> Outcome {
    let manifest = Manifest::new("", body.to_vec());
    for reference in ["refused", &manifest.digest] {
        let mut request = Request::put(format!("/v2/{repository}/manifests/{reference}")).body(body.to_vec());
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        run.ask(request).await?.error(status, code);
        run.head(format!("/v2/{repository}/manifests/{reference}"))
            .await?
            .expect(404);
    }
    Ok(())
}

async fn manifests_of_every_kind_are_accepted(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let layer = run.blob("layer", 2000);
    run.push_blob(&repository, &layer).await?.expect(201);
    let empty = Blob::new("{}");
    run.push_blob(&repository, &empty).await?.expect(201);

    let image = Manifest::image(&config, &[&layer]).build();
    let docker = Manifest::docker_image(&config, &[&layer]).build();
    let artifact = Manifest::image(&empty, &[&empty])
        .artifact_type("application/vnd.example")
        .build();
    let index = Manifest::index([&image, &artifact]).build();
    let of_indexes = Manifest::index([&index, &image])
        .annotation("nested", "yes")
        .build();
    let list = Manifest::docker_list([&docker]).build();
    let nothing = Manifest::index([]).build();
    for (tag, manifest, media_type) in [
        ("image", &image, IMAGE),
        ("docker", &docker, DOCKER_MANIFEST),
        ("artifact", &artifact, IMAGE),
        ("index", &index, INDEX),
        ("of-indexes", &of_indexes, INDEX),
        ("list", &list, DOCKER_LIST),
        ("nothing", &nothing, INDEX),
    ] {
        assert_eq!(manifest.media_type, media_type);
        accepted(&run, &repository, tag, manifest).await?;
    }
    Ok(())
}

async fn a_manifest_is_pushed_by_its_digest(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifest = Manifest::image(&config, &[]).build();
    accepted(&run, &repository, &manifest.digest, &manifest).await?;
    let answer = run.get(format!("/v2/{repository}/tags/list")).await?.expect(200);
    assert_eq!(answer.json(), json!({ "name": repository, "tags": [] }));
    Ok(())
}

async fn a_manifest_is_pushed_by_its_sha512(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifest = Manifest::image(&config, &[]).build();
    let digest = manifest.sha512();
    let target = format!("/v2/{repository}/manifests/{digest}");
    run.push_manifest(&repository, &digest, &manifest)
        .await?
        .expect(201)
        .with("location", &target)
        .with("docker-content-digest", &digest);
    run.get(target.clone())
        .await?
        .expect(200)
        .with("docker-content-digest", &digest)
        .with("etag", &format!("\"{digest}\""))
        .with_body(&manifest.bytes);
    let tagged = Request::put(format!("{target}?tag=v1"))
        .header("content-type", IMAGE)
        .body(manifest.bytes.clone());
    run.ask(tagged).await?.expect(201);
    run.get(format!("/v2/{repository}/manifests/v1"))
        .await?
        .expect(200)
        .with("docker-content-digest", &digest);
    run.delete(target.clone()).await?.expect(202);
    run.get(target).await?.error(404, "MANIFEST_UNKNOWN");
    Ok(())
}

async fn a_manifest_under_another_digest_is_refused(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifest = Manifest::image(&config, &[]).build();
    for digest in [run.blob("other", 10).digest, run.blob("other", 10).sha512()] {
        run.push_manifest(&repository, &digest, &manifest)
            .await?
            .error(400, "DIGEST_INVALID");
        run.head(format!("/v2/{repository}/manifests/{digest}"))
            .await?
            .expect(404);
    }
    run.push_manifest(&repository, "sha256:abc", &manifest)
        .await?
        .error(400, "DIGEST_INVALID");
    run.push_manifest(&repository, "md5:0123456789abcdef0123456789abcdef", &manifest)
        .await?
        .error(400, "DIGEST_INVALID");
    Ok(())
}

async fn a_push_names_several_tags(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifest = Manifest::image(&config, &[]).build();
    let put = |tags: &[String]| {
        let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
        Request::put(format!(
            "/v2/{repository}/manifests/{}?{}",
            manifest.digest,
            query.join("&")
        ))
        .header("content-type", IMAGE)
        .body(manifest.bytes.clone())
    };
    let tags: Vec<String> = (0..12).map(|n| format!("v{n}")).collect();
    let answer = run
        .ask(put(&tags))
        .await?
        .expect(201)
        .with("docker-content-digest", &manifest.digest);
    let named: Vec<String> = answer
        .headers
        .get_all("oci-tag")
        .iter()
        .flat_map(|value| value.to_str().unwrap().split(','))
        .map(|tag| tag.trim().to_owned())
        .collect();
    assert_eq!(named, tags);
    for tag in &tags {
        let target = format!("/v2/{repository}/manifests/{tag}");
        run.get(target)
            .await?
            .expect(200)
            .with("docker-content-digest", &manifest.digest);
    }
    // One that is no tag, and nothing happens.
    let wrong = vec!["good".to_owned(), "-bad".to_owned()];
    run.ask(put(&wrong)).await?.error(400, "TAG_INVALID");
    run.head(format!("/v2/{repository}/manifests/good"))
        .await?
        .expect(404);
    // Too many.
    let many: Vec<String> = (0..100).map(|n| format!("w{n}")).collect();
    run.ask(put(&many)).await?.error(414, "TAG_INVALID");
    run.head(format!("/v2/{repository}/manifests/w0"))
        .await?
        .expect(404);
    Ok(())
}

async fn tags_beside_a_tag_are_not_pushed(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifest = Manifest::image(&config, &[]).build();
    let request = Request::put(format!("/v2/{repository}/manifests/v1?tag=v2"))
        .header("content-type", IMAGE)
        .body(manifest.bytes.clone());
    let answer = run.ask(request).await?.expect(201);
    assert!(
        answer
            .headers
            .get_all("oci-tag")
            .iter()
            .all(|tag| !tag.to_str().unwrap().contains("v2"))
    );
    run.head(format!("/v2/{repository}/manifests/v2"))
        .await?
        .expect(404);
    Ok(())
}

async fn a_manifest_whose_content_is_missing_is_refused(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let layer = run.blob("layer", 100);
    let unknown = (404, "MANIFEST_BLOB_UNKNOWN");
    let absent = run.blob("absent", 100);
    // Another repository's doesn't count.
    run.push_blob(&run.elsewhere("other"), &layer).await?.expect(201);
    let child = Manifest::image(&config, &[]).build();
    for manifest in [
        Manifest::image(&absent, &[]).build(),
        Manifest::image(&config, &[&layer]).build(),
        Manifest::docker_image(&config, &[&absent]).build(),
        Manifest::index([&child]).build(),
        Manifest::docker_list([&child]).build(),
    ] {
        refused(
            &run,
            &repository,
            Some(&manifest.media_type),
            &manifest.bytes,
            unknown,
        )
        .await?;
    }
    // The child is there as a blob, which isn't a manifest.
    run.push_blob(&repository, &Blob::new(child.bytes.clone()))
        .await?
        .expect(201);
    let index = Manifest::index([&child]).build();
    refused(&run, &repository, Some(INDEX), &index.bytes, unknown).await?;
    // A layer that is found elsewhere needn't be here.
    let mut foreign = absent.descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    foreign["urls"] = json!(["https://example.org/layer"]);
    let manifest = Manifest::image(&config, &[])
        .with("layers", vec![foreign])
        .build();
    accepted(&run, &repository, "foreign", &manifest).await
}

async fn a_subject_may_be_missing(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let subject = Manifest::image(&config, &[])
        .annotation("never", "pushed")
        .build();
    let manifest = Manifest::image(&config, &[]).subject(&subject).build();
    run.push_manifest(&repository, "v1", &manifest)
        .await?
        .expect(201)
        .with("oci-subject", &subject.digest);
    let plain = Manifest::image(&config, &[]).build();
    run.push_manifest(&repository, "v2", &plain)
        .await?
        .expect(201)
        .lacks("oci-subject");
    Ok(())
}

async fn a_manifest_of_four_mebibytes_is_accepted_and_one_byte_more_is_not(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    // Around what fits a row of the store, and at the limit.
    for length in [32 << 10, (32 << 10) + 1, 400_000, 4 * MIB] {
        let manifest = Manifest::image(&config, &[]).build_with_length(length);
        accepted(&run, &repository, "large", &manifest).await?;
    }
    let larger = Manifest::image(&config, &[]).build_with_length(4 * MIB + 1);
    refused(
        &run,
        &repository,
        Some(IMAGE),
        &larger.bytes,
        (413, "MANIFEST_INVALID"),
    )
    .await?;
    // It doesn't say beforehand how long it is.
    let request = Request::put(format!("/v2/{repository}/manifests/larger"))
        .header("content-type", IMAGE)
        .pieces(
            larger
                .bytes
                .chunks(65_536)
                .map(|piece| larger.bytes.slice_ref(piece))
                .collect(),
        );
    run.ask(request).await?.error(413, "MANIFEST_INVALID");
    Ok(())
}

/// Pushes a manifest by its digest. Doing that twice is nothing new, so this also gets through where requests fail.
async fn push_for_certain(run: Run, repository: String, manifest: Manifest) -> Result<Answer, Broken> {
    let push = || run.push_manifest(&repository, &manifest.digest, &manifest);
    let mut answer = push().await;
    for _ in 0..50 {
        if answer.is_err() {
            answer = push().await;
        }
    }
    answer
}

async fn an_index_of_six_hundred_children_is_accepted(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let children: Vec<Manifest> = (0..600)
        .map(|n| {
            Manifest::image(&config, &[])
                .annotation("number", &n.to_string())
                .build()
        })
        .collect();
    let index = Manifest::index(&children).build();
    // The 600th is missing. Several at once, for one by one they take minutes on real stores.
    let pushed: Vec<_> = stream::iter(children[..599].to_vec())
        .map(|child| push_for_certain(run.quietly(), repository.clone(), child))
        .buffer_unordered(8)
        .collect()
        .await;
    for answer in pushed {
        answer?.expect(201);
    }
    run.push_manifest(&repository, "v1", &index)
        .await?
        .error(404, "MANIFEST_BLOB_UNKNOWN");
    run.push_manifest(&repository, &children[599].digest, &children[599])
        .await?
        .expect(201);
    accepted(&run, &repository, "v1", &index).await
}

async fn what_is_no_manifest_is_refused(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let good = Manifest::image(&config, &[]);
    let invalid = (400, "MANIFEST_INVALID");
    let digest = json!({ "mediaType": "a/b", "digest": "sha256:abc", "size": 1 });
    let no_size = json!({ "mediaType": "a/b", "digest": config.digest });
    let bytes = |draft: &crate::support::content::Draft| draft.build().bytes;
    for body in [
        b"".to_vec().into(),
        b"nonsense".to_vec().into(),
        b"\xff\xfe".to_vec().into(),
        b"[]".to_vec().into(),
        b"null".to_vec().into(),
        "[".repeat(100_000).into(),
        format!("{{\"a\":{}", "[".repeat(100_000)).into(),
        bytes(&good.clone().without("schemaVersion")),
        bytes(&good.clone().with("schemaVersion", 1)),
        bytes(&good.clone().with("schemaVersion", "2")),
        bytes(&good.clone().without("config")),
        bytes(&good.clone().without("layers")),
        bytes(&good.clone().with("config", digest.clone())),
        bytes(&good.clone().with("config", no_size)),
        bytes(&good.clone().with("layers", vec![digest])),
        bytes(&good.clone().with("layers", "none")),
        bytes(&good.clone().with("manifests", json!([]))),
        bytes(&good.clone().with("mediaType", INDEX)),
        bytes(&good.clone().with("mediaType", "nonsense")),
        bytes(&good.clone().with("subject", json!({}))),
    ] {
        refused(&run, &repository, Some(IMAGE), &body, invalid).await?;
    }
    let good = bytes(&good);
    refused(&run, &repository, Some(INDEX), &good, invalid).await?;
    refused(&run, &repository, Some("nonsense"), &good, invalid).await?;
    for foreign in [
        "application/json",
        "application/octet-stream",
        "application/vnd.docker.distribution.manifest.v1+json",
    ] {
        refused(&run, &repository, Some(foreign), &good, (415, "MANIFEST_INVALID")).await?;
    }
    Ok(())
}

async fn what_is_null_or_empty_is_absent(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let image = Manifest::image(&config, &[]);
    let mut index = Manifest::index([&image.build()]);
    run.push_manifest(&repository, "image", &image.build())
        .await?
        .expect(201);
    for field in [
        "manifests",
        "subject",
        "annotations",
        "artifactType",
        "mediaType",
        "layers",
    ] {
        accepted(
            &run,
            &repository,
            "null",
            &image.clone().with(field, json!(null)).build(),
        )
        .await?;
    }
    for field in [
        "config",
        "layers",
        "subject",
        "annotations",
        "artifactType",
        "mediaType",
    ] {
        index = index.with(field, json!(null));
        accepted(&run, &repository, "null", &index.build()).await?;
    }
    for field in ["mediaType", "artifactType"] {
        accepted(&run, &repository, "empty", &image.clone().with(field, "").build()).await?;
    }
    Ok(())
}

async fn what_clients_would_read_otherwise_is_refused_in_the_documents_words(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let good = Manifest::image(&config, &[]);
    let descriptor = config.descriptor("a/b");
    let with = |field: &str, value: serde_json::Value| {
        let mut descriptor = descriptor.clone();
        descriptor[field] = value;
        vec![descriptor]
    };
    let cases = [
        (
            good.clone().with("layers", json!([["a/b", config.digest, 100]])),
            "layers[0]: an object is expected, not a list",
        ),
        (
            good.clone().with("Layers", json!([])),
            "the document: the field 'layers' is expected in this spelling, not as 'Layers'",
        ),
        (
            good.clone().with("layers", with("Digest", json!(config.digest))),
            "layers[0]: the field 'digest' is expected in this spelling, not as 'Digest'",
        ),
        (
            good.clone().with("annotations", json!(["a"])),
            "annotations: an object is expected, not a list",
        ),
        (
            good.clone().with("layers", with("data", json!(7))),
            "layers[0].data: base64 with padding is expected, not 7",
        ),
        (
            good.clone()
                .with("layers", with("platform", json!({ "os.features": "win32k" }))),
            "layers[0].platform.os.features: a list is expected, not a string",
        ),
        (
            good.clone().with("layers", with("size", json!("100"))),
            "layers[0].size: a whole number from 0 to 9223372036854775807 is expected, not a string",
        ),
        (
            good.clone().with("artifactType", json!({})),
            "artifactType: a string is expected, not an object",
        ),
        (
            good.clone().with("subject", json!({})),
            "subject.mediaType is expected",
        ),
    ];
    for (draft, expected) in cases {
        let manifest = draft.build();
        let answer = run.push_manifest(&repository, "refused", &manifest).await?;
        let answer = answer.error(400, "MANIFEST_INVALID");
        let said = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        assert!(said.starts_with(expected), "{said}");
        for rust in ["struct", "sequence", "map", "u64", "i64", "Raw", "invalid type"] {
            assert!(!said.contains(rust), "{said}");
        }
        run.head(format!("/v2/{repository}/manifests/{}", manifest.digest))
            .await?
            .expect(404);
    }
    Ok(())
}

async fn a_manifests_type_may_be_said_in_several_ways(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifest = Manifest::image(&config, &[]).build();
    let put = |tag: &str| Request::put(format!("/v2/{repository}/manifests/{tag}"));
    let plain = Manifest::image(&config, &[]).without("mediaType").build();
    for (tag, request) in [
        (
            "parameters",
            put("parameters")
                .header("content-type", format!("{IMAGE}; charset=utf-8"))
                .body(manifest.bytes.clone()),
        ),
        ("document", put("document").body(manifest.bytes.clone())),
        (
            "header",
            put("header")
                .header("content-type", IMAGE)
                .body(plain.bytes.clone()),
        ),
        ("neither", put("neither").body(plain.bytes.clone())),
    ] {
        run.ask(request).await?.expect(201);
        run.get(format!("/v2/{repository}/manifests/{tag}"))
            .await?
            .expect(200)
            .with("content-type", IMAGE);
    }
    Ok(())
}

async fn a_tag_moves(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifests: Vec<Manifest> = (0..3)
        .map(|n| {
            Manifest::image(&config, &[])
                .annotation("n", &n.to_string())
                .build()
        })
        .collect();
    for manifest in manifests.iter().chain(&manifests[..1]) {
        accepted(&run, &repository, "latest", manifest).await?;
    }
    // What it no longer names is still there.
    for manifest in &manifests {
        run.get(format!("/v2/{repository}/manifests/{}", manifest.digest))
            .await?
            .expect(200);
    }
    Ok(())
}

async fn tags_are_spelled_as_the_specification_has_it(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifest = Manifest::image(&config, &[]).build();
    let longest = "x".repeat(128);
    for tag in ["a", "_", "A.b-c_d", "1", "_..--", &longest] {
        accepted(&run, &repository, tag, &manifest).await?;
    }
    let longer = "x".repeat(129);
    for tag in [".a", "-a", "a+b", "a%20b", "%2561", "a%C3%A4", &longer] {
        let target = format!("/v2/{repository}/manifests/{tag}");
        let put = Request::put(&target)
            .header("content-type", IMAGE)
            .body(manifest.bytes.clone());
        run.ask(put).await?.error(400, "TAG_INVALID");
        for method in [Method::GET, Method::DELETE] {
            run.ask(Request::new(method, &target))
                .await?
                .error(404, "MANIFEST_UNKNOWN");
        }
        run.head(target).await?.expect(404);
    }
    Ok(())
}

api_tests![
    manifests_of_every_kind_are_accepted,
    a_manifest_is_pushed_by_its_digest,
    a_manifest_is_pushed_by_its_sha512,
    a_manifest_under_another_digest_is_refused,
    a_push_names_several_tags,
    tags_beside_a_tag_are_not_pushed,
    a_manifest_whose_content_is_missing_is_refused,
    a_subject_may_be_missing,
    a_manifest_of_four_mebibytes_is_accepted_and_one_byte_more_is_not,
    an_index_of_six_hundred_children_is_accepted,
    what_is_no_manifest_is_refused,
    what_is_null_or_empty_is_absent,
    what_clients_would_read_otherwise_is_refused_in_the_documents_words,
    a_manifests_type_may_be_said_in_several_ways,
    a_tag_moves,
    tags_are_spelled_as_the_specification_has_it,
];
