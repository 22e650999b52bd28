//! Deleting tags, manifests and blobs.

use serde_json::json;

use super::{Outcome, Run, api_tests, manifests::config};
use crate::support::{
    client::{Ask as _, Request},
    content::Manifest,
    mesh::PART,
};

async fn a_deleted_tag_is_gone_and_what_it_named_is_not(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifest = Manifest::image(&config, &[]).build();
    for tag in ["v1", "v2"] {
        run.push_manifest(&repository, tag, &manifest).await?.expect(201);
    }
    let tag = format!("/v2/{repository}/manifests/v1");
    run.delete(tag.clone()).await?.expect(202).with_body(b"");
    run.get(tag.clone()).await?.error(404, "MANIFEST_UNKNOWN");
    run.delete(tag).await?.error(404, "MANIFEST_UNKNOWN");
    for reference in ["v2", &manifest.digest] {
        run.get(format!("/v2/{repository}/manifests/{reference}"))
            .await?
            .expect(200);
    }
    let answer = run.get(format!("/v2/{repository}/tags/list")).await?.expect(200);
    assert_eq!(answer.json(), json!({ "name": repository, "tags": ["v2"] }));
    Ok(())
}

async fn a_deleted_manifest_takes_its_tags_along(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifest = Manifest::image(&config, &[]).build();
    let other = Manifest::image(&config, &[]).annotation("an", "other").build();
    for tag in ["v1", "v2", "moved"] {
        run.push_manifest(&repository, tag, &manifest).await?.expect(201);
    }
    for tag in ["moved", "other"] {
        run.push_manifest(&repository, tag, &other).await?.expect(201);
    }
    let target = format!("/v2/{repository}/manifests/{}", manifest.digest);
    run.delete(target.clone()).await?.expect(202).with_body(b"");
    run.get(target.clone()).await?.error(404, "MANIFEST_UNKNOWN");
    run.delete(target.clone()).await?.error(404, "MANIFEST_UNKNOWN");
    for tag in ["v1", "v2"] {
        run.get(format!("/v2/{repository}/manifests/{tag}"))
            .await?
            .error(404, "MANIFEST_UNKNOWN");
    }
    let answer = run.get(format!("/v2/{repository}/tags/list")).await?.expect(200);
    assert_eq!(
        answer.json(),
        json!({ "name": repository, "tags": ["moved", "other"] })
    );
    // It can be pushed again.
    run.push_manifest(&repository, "v1", &manifest).await?.expect(201);
    run.get(target).await?.expect(200).with_body(&manifest.bytes);
    Ok(())
}

async fn a_manifest_of_many_tags_is_deleted_whole(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifest = Manifest::image(&config, &[]).build();
    // More than fit a transaction.
    for batch in 0..5 {
        let tags: Vec<String> = (0..30).map(|n| format!("tag=t{batch}-{n}")).collect();
        let target = format!(
            "/v2/{repository}/manifests/{}?{}",
            manifest.digest,
            tags.join("&")
        );
        let request = Request::put(target).header("content-type", &manifest.media_type);
        run.ask(request.body(manifest.bytes.clone())).await?.expect(201);
    }
    run.delete(format!("/v2/{repository}/manifests/{}", manifest.digest))
        .await?
        .expect(202);
    run.get(format!("/v2/{repository}/manifests/t0-0"))
        .await?
        .error(404, "MANIFEST_UNKNOWN");
    run.get(format!("/v2/{repository}/manifests/t4-29"))
        .await?
        .error(404, "MANIFEST_UNKNOWN");
    run.get(format!("/v2/{repository}/tags/list"))
        .await?
        .error(404, "NAME_UNKNOWN");
    Ok(())
}

async fn a_repository_ends_with_its_last_manifest_and_begins_anew(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let tags = format!("/v2/{repository}/tags/list");
    for round in 0..3 {
        run.get(tags.clone()).await?.error(404, "NAME_UNKNOWN");
        let manifest = Manifest::image(&config, &[])
            .annotation("round", &round.to_string())
            .build();
        run.push_manifest(&repository, "v1", &manifest).await?.expect(201);
        run.get(tags.clone()).await?.expect(200);
        run.delete(format!("/v2/{repository}/manifests/v1"))
            .await?
            .expect(202);
        assert_eq!(run.get(tags.clone()).await?.expect(200).json()["tags"], json!([]));
        run.delete(format!("/v2/{repository}/manifests/{}", manifest.digest))
            .await?
            .expect(202);
    }
    run.get(tags).await?.error(404, "NAME_UNKNOWN");
    Ok(())
}

async fn what_is_unknown_cannot_be_deleted(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let digest = run.blob("unknown", 10).digest;
    for known in [false, true] {
        if known {
            let config = config(&run, &repository).await?;
            let manifest = Manifest::image(&config, &[]).build();
            run.push_manifest(&repository, "v1", &manifest).await?.expect(201);
        }
        for reference in ["v2", &digest] {
            run.delete(format!("/v2/{repository}/manifests/{reference}"))
                .await?
                .error(404, "MANIFEST_UNKNOWN");
        }
        run.delete(format!("/v2/{repository}/blobs/{digest}"))
            .await?
            .error(404, "BLOB_UNKNOWN");
    }
    Ok(())
}

async fn a_blob_is_deleted_when_no_manifest_needs_it(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let layer = run.blob("layer", 1000);
    run.push_blob(&repository, &layer).await?.expect(201);
    let manifest = Manifest::image(&config, &[&layer]).build();
    run.push_manifest(&repository, "v1", &manifest).await?.expect(201);
    let target = format!("/v2/{repository}/blobs/{}", layer.digest);
    run.delete(target.clone()).await?.error(405, "DENIED");
    run.get(target.clone()).await?.expect(200).with_body(&layer.bytes);
    // Its tag alone isn't what needs it.
    run.delete(format!("/v2/{repository}/manifests/v1"))
        .await?
        .expect(202);
    run.delete(target.clone()).await?.error(405, "DENIED");
    run.delete(format!("/v2/{repository}/manifests/{}", manifest.digest))
        .await?
        .expect(202);
    run.delete(target.clone()).await?.expect(202).with_body(b"");
    run.get(target.clone()).await?.error(404, "BLOB_UNKNOWN");
    run.head(target.clone()).await?.expect(404);
    run.delete(target.clone()).await?.error(404, "BLOB_UNKNOWN");
    // It can be pushed again, and then a manifest may need it.
    run.push_manifest(&repository, "v1", &manifest)
        .await?
        .error(404, "MANIFEST_BLOB_UNKNOWN");
    run.push_blob(&repository, &layer).await?.expect(201);
    run.push_manifest(&repository, "v1", &manifest).await?.expect(201);
    run.get(target).await?.expect(200).with_body(&layer.bytes);
    Ok(())
}

async fn a_manifest_that_a_tagged_index_lists_goes_after_it(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let images = ["amd64", "arm64"].map(|name| Manifest::image(&config, &[]).annotation("for", name).build());
    for image in &images {
        run.push_manifest(&repository, &image.digest, image)
            .await?
            .expect(201);
    }
    run.push_manifest(&repository, "tagged", &images[1])
        .await?
        .expect(201);
    let index = Manifest::index(&images).build();
    let list = Manifest::index([&index]).annotation("of", "indexes").build();
    run.push_manifest(&repository, "multi", &index).await?.expect(201);
    run.push_manifest(&repository, "all", &list).await?.expect(201);
    let target = |manifest: &Manifest| format!("/v2/{repository}/manifests/{}", manifest.digest);
    let kept = async |manifest: &Manifest, index: &Manifest| -> Outcome {
        let answer = run.delete(target(manifest)).await?.error(405, "DENIED");
        assert_eq!(answer.must("allow"), "GET, HEAD, PUT");
        let error = &answer.json()["errors"][0];
        assert_eq!(error["detail"], json!({ "index": index.digest }), "{answer}");
        assert!(
            error["message"].as_str().unwrap().contains(&index.digest),
            "{answer}"
        );
        run.get(target(manifest))
            .await?
            .expect(200)
            .with_body(&manifest.bytes);
        Ok(())
    };
    for image in &images {
        kept(image, &index).await?;
    }
    kept(&index, &list).await?;
    // A tag of what is listed may go, and one of the indexes: it is listed by one that is tagged.
    for tag in ["tagged", "multi"] {
        run.delete(format!("/v2/{repository}/manifests/{tag}"))
            .await?
            .expect(202);
    }
    kept(&images[1], &index).await?;
    // From the top.
    for manifest in [&list, &index, &images[0], &images[1]] {
        run.delete(target(manifest)).await?.expect(202);
    }
    run.get(format!("/v2/{repository}/tags/list"))
        .await?
        .error(404, "NAME_UNKNOWN");
    Ok(())
}

async fn what_only_untagged_indexes_list_is_deleted(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let image = Manifest::image(&config, &[]).build();
    run.push_manifest(&repository, &image.digest, &image)
        .await?
        .expect(201);
    let index = Manifest::index([&image]).build();
    run.push_manifest(&repository, "multi", &index).await?.expect(201);
    run.delete(format!("/v2/{repository}/manifests/multi"))
        .await?
        .expect(202);
    run.delete(format!("/v2/{repository}/manifests/{}", image.digest))
        .await?
        .expect(202);
    // The same index needs it again.
    run.push_manifest(&repository, "multi", &index)
        .await?
        .error(404, "MANIFEST_BLOB_UNKNOWN");
    run.push_manifest(&repository, &image.digest, &image)
        .await?
        .expect(201);
    run.push_manifest(&repository, "multi", &index).await?.expect(201);
    Ok(())
}

async fn a_blob_that_was_only_pushed_is_deleted(run: Run) -> Outcome {
    let repository = run.repository("repo");
    for (label, length) in [("small", 100), ("large", 9 * PART)] {
        let blob = run.blob(label, length);
        run.push_blob(&repository, &blob).await?.expect(201);
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        run.delete(target.clone()).await?.expect(202);
        run.get(target).await?.error(404, "BLOB_UNKNOWN");
    }
    Ok(())
}

api_tests![
    a_deleted_tag_is_gone_and_what_it_named_is_not,
    a_deleted_manifest_takes_its_tags_along,
    a_manifest_of_many_tags_is_deleted_whole,
    a_repository_ends_with_its_last_manifest_and_begins_anew,
    what_is_unknown_cannot_be_deleted,
    a_blob_is_deleted_when_no_manifest_needs_it,
    a_manifest_that_a_tagged_index_lists_goes_after_it,
    what_only_untagged_indexes_list_is_deleted,
    a_blob_that_was_only_pushed_is_deleted,
];
