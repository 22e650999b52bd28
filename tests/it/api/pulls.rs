//! Reading blobs and manifests.

use super::{Outcome, Run, api_tests};
use crate::support::{
    client::{Ask as _, Request},
    content::Manifest,
    mesh::PART,
};

pub(super) const IMMUTABLE: &str = "public, max-age=31536000, immutable";

async fn the_api_says_that_it_is_there(run: Run) -> Outcome {
    for path in ["/v2/", "/v2"] {
        run.get(path.into())
            .await?
            .expect(200)
            .with("docker-distribution-api-version", "registry/2.0")
            .json();
        run.head(path.into()).await?.expect(200).with_body(b"");
    }
    Ok(())
}

async fn a_blob_is_pulled_whole(run: Run) -> Outcome {
    let repository = run.repository("repo");
    for (label, length) in [("empty", 0), ("byte", 1), ("small", 5_000), ("large", 600_000)] {
        let blob = run.blob(label, length);
        run.push_blob(&repository, &blob).await?.expect(201);
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        let got = run.get(target.clone()).await?.expect(200).with_body(&blob.bytes);
        let seen = run.head(target).await?.expect(200).with_body(b"");
        for answer in [got, seen] {
            answer
                .with("content-length", &length.to_string())
                .with("content-type", "application/octet-stream")
                .with("docker-content-digest", &blob.digest)
                .with("etag", &format!("\"{}\"", blob.digest))
                .with("cache-control", IMMUTABLE)
                .with("accept-ranges", "bytes");
        }
    }
    Ok(())
}

async fn a_blob_of_several_parts_is_pulled_whole_and_across_its_seams(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let length = 10 * PART + 1;
    let blob = run.blob("parts", length);
    run.push_blob(&repository, &blob).await?.expect(201);
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    run.get(target.clone()).await?.expect(200).with_body(&blob.bytes);
    for seam in [PART, 4 * PART, 10 * PART - 1] {
        let (first, last) = (seam - 3, seam + 1);
        let request = Request::get(&target).header("range", format!("bytes={first}-{last}"));
        run.ask(request)
            .await?
            .expect(206)
            .with_body(&blob.bytes[first..=last]);
    }
    Ok(())
}

async fn a_range_of_a_blob_is_pulled(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let length = 100_000;
    let blob = run.blob("blob", length);
    run.push_blob(&repository, &blob).await?.expect(201);
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=0-9", 0, 9),
        ("bytes=1000-69999", 1000, 69_999),
        ("bytes=99999-", 99_999, 99_999),
        ("bytes=5-", 5, 99_999),
        ("bytes=-1", 99_999, 99_999),
        ("bytes=-1000", 99_000, 99_999),
        ("bytes=-100001", 0, 99_999),
        ("bytes=99990-200000", 99_990, 99_999),
        ("bytes=7-99999999999999999999999", 7, 99_999),
    ] {
        run.ask(Request::get(&target).header("range", range))
            .await?
            .expect(206)
            .with("content-range", &format!("bytes {first}-{last}/{length}"))
            .with("content-length", &(last - first + 1).to_string())
            .with("docker-content-digest", &blob.digest)
            .with("etag", &format!("\"{}\"", blob.digest))
            .with_body(&blob.bytes[first..=last]);
    }
    Ok(())
}

async fn a_range_beyond_the_blob_is_not_satisfiable(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 1000);
    let nothing = run.blob("nothing", 0);
    for (blob, ranges) in [
        (
            &blob,
            vec![
                "bytes=1000-",
                "bytes=1000-1001",
                "bytes=-0",
                "bytes=99999999999999999999-",
            ],
        ),
        (&nothing, vec!["bytes=0-", "bytes=0-0", "bytes=-1"]),
    ] {
        run.push_blob(&repository, blob).await?.expect(201);
        for range in ranges {
            let target = format!("/v2/{repository}/blobs/{}", blob.digest);
            run.ask(Request::get(target).header("range", range))
                .await?
                .error(416, "UNSUPPORTED")
                .with("content-range", &format!("bytes */{}", blob.len()));
        }
    }
    Ok(())
}

async fn several_ranges_and_other_units_give_the_whole_blob(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 1000);
    run.push_blob(&repository, &blob).await?.expect(201);
    for range in ["bytes=0-1,5-6", "bytes=-1,0-", "lines=1-2"] {
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        run.ask(Request::get(target).header("range", range))
            .await?
            .expect(200)
            .lacks("content-range")
            .with_body(&blob.bytes);
    }
    Ok(())
}

async fn a_manifest_is_pulled_as_it_was_pushed(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = run.blob("config", 200);
    let layer = run.blob("layer", 3000);
    for blob in [&config, &layer] {
        run.push_blob(&repository, blob).await?.expect(201);
    }
    let manifest = Manifest::image(&config, &[&layer])
        .annotation("an", "annotation")
        .build();
    run.push_manifest(&repository, "v1", &manifest).await?.expect(201);
    for (reference, caching) in [("v1", "no-cache"), (&manifest.digest, IMMUTABLE)] {
        let target = format!("/v2/{repository}/manifests/{reference}");
        let got = run
            .get(target.clone())
            .await?
            .expect(200)
            .with_body(&manifest.bytes);
        let seen = run.head(target).await?.expect(200).with_body(b"");
        for answer in [got, seen] {
            answer
                .with("content-type", &manifest.media_type)
                .with("content-length", &manifest.bytes.len().to_string())
                .with("docker-content-digest", &manifest.digest)
                .with("etag", &format!("\"{}\"", manifest.digest))
                .with("cache-control", caching);
        }
    }
    Ok(())
}

async fn what_is_unknown_is_not_found(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let unknown = run.blob("unknown", 10);
    // Nothing in the repository yet, then a blob, then a manifest.
    for step in 0..3 {
        match step {
            1 => {
                run.push_blob(&repository, &run.blob("config", 10))
                    .await?
                    .expect(201);
            }
            2 => {
                let manifest = Manifest::image(&run.blob("config", 10), &[]).build();
                run.push_manifest(&repository, "v1", &manifest).await?.expect(201);
            }
            _ => {}
        }
        let blob = format!("/v2/{repository}/blobs/{}", unknown.digest);
        run.get(blob.clone()).await?.error(404, "BLOB_UNKNOWN");
        run.head(blob).await?.expect(404).with_body(b"");
        for reference in ["latest", &unknown.digest] {
            let manifest = format!("/v2/{repository}/manifests/{reference}");
            run.get(manifest.clone()).await?.error(404, "MANIFEST_UNKNOWN");
            run.head(manifest).await?.expect(404).with_body(b"");
        }
    }
    // A blob is no manifest, and what one repository has another needn't.
    let config = run.blob("config", 10);
    run.get(format!("/v2/{repository}/manifests/{}", config.digest))
        .await?
        .error(404, "MANIFEST_UNKNOWN");
    let other = run.elsewhere("other");
    run.get(format!("/v2/{other}/blobs/{}", config.digest))
        .await?
        .error(404, "BLOB_UNKNOWN");
    run.get(format!("/v2/{other}/manifests/v1"))
        .await?
        .error(404, "MANIFEST_UNKNOWN");
    Ok(())
}

api_tests![
    the_api_says_that_it_is_there,
    a_blob_is_pulled_whole,
    a_blob_of_several_parts_is_pulled_whole_and_across_its_seams,
    a_range_of_a_blob_is_pulled,
    a_range_beyond_the_blob_is_not_satisfiable,
    several_ranges_and_other_units_give_the_whole_blob,
    a_manifest_is_pulled_as_it_was_pushed,
    what_is_unknown_is_not_found,
];
