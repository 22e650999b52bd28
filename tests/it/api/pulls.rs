//! Reading blobs and manifests.

use super::{Outcome, Run, api_tests};
use crate::support::{
    client::{Ask as _, Request},
    content::{Blob, Manifest},
    mesh::PART,
};

/// What everybody may read, by digest.
pub(super) const CONTENT: &str = "public, max-age=300";

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
        let seen = run.head(target.clone()).await?.expect(200).with_body(b"");
        for answer in [got, seen] {
            answer
                .with("content-length", &length.to_string())
                .with("content-type", "application/octet-stream")
                .with("docker-content-digest", &blob.digest)
                .with("etag", &format!("\"{}\"", blob.digest))
                .with("cache-control", CONTENT)
                .with("location", &target)
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
            .with("cache-control", CONTENT)
            .with_body(&blob.bytes[first..=last]);
    }
    Ok(())
}

async fn a_range_beyond_the_blob_is_not_satisfiable(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 1000);
    run.push_blob(&repository, &blob).await?.expect(201);
    for range in [
        "bytes=1000-",
        "bytes=1000-1001",
        "bytes=-0",
        "bytes=99999999999999999999-",
        "bytes=1000-,-0,2000-3000",
        "bytes=0-1,x",
    ] {
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        run.ask(Request::get(target).header("range", range))
            .await?
            .error(416, "UNSUPPORTED")
            .with("cache-control", "no-cache")
            .with("content-range", "bytes */1000");
    }
    Ok(())
}

/// Clients that fetch in pieces begin with such a range whatever the length.
async fn any_range_of_an_empty_blob_is_all_of_it(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let nothing = run.blob("nothing", 0);
    run.push_blob(&repository, &nothing).await?.expect(201);
    let target = format!("/v2/{repository}/blobs/{}", nothing.digest);
    for range in [
        "bytes=0-",
        "bytes=0-0",
        "bytes=0-1048575",
        "bytes=-1",
        "bytes=-1024",
        "bytes=0-,-5",
    ] {
        run.ask(Request::get(&target).header("range", range))
            .await?
            .expect(200)
            .with("content-length", "0")
            .lacks("content-range")
            .with_body(b"");
    }
    run.ask(Request::get(&target).header("range", "bytes=x"))
        .await?
        .error(416, "UNSUPPORTED")
        .with("content-range", "bytes */0");
    Ok(())
}

/// What several ranges of `blob` are answered with (RFC 9110, 14.6). Its digest is the boundary.
fn multipart(blob: &Blob, parts: &[(usize, usize)]) -> Vec<u8> {
    let boundary = &blob.digest["sha256:".len()..];
    let mut body = Vec::new();
    for (n, (first, last)) in parts.iter().enumerate() {
        let before = if n == 0 { "" } else { "\r\n" };
        let head = format!(
            "{before}--{boundary}\r\nContent-Type: application/octet-stream\r\n\
             Content-Range: bytes {first}-{last}/{}\r\n\r\n",
            blob.len()
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&blob.bytes[*first..=*last]);
    }
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

async fn several_ranges_of_a_blob_are_pulled_in_one_answer(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let length = 10 * PART + 1;
    // The boundary is the digest, so runs are compared by the same blob.
    let blob = run.shared_blob("blob", length);
    run.push_blob(&repository, &blob).await?.expect(201);
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    let boundary = &blob.digest["sha256:".len()..];
    let many: Vec<(usize, usize)> = (0..100).map(|n| (n * 6000, n * 6000 + 99)).collect();
    let spelled = many.iter().map(|(first, last)| format!("{first}-{last}"));
    let spelled = format!("bytes={}", spelled.collect::<Vec<_>>().join(","));
    for (range, parts) in [
        ("bytes=0-1,300000-300009", vec![(0, 1), (300_000, 300_009)]),
        ("bytes=0-1, -7", vec![(0, 1), (length - 7, length - 1)]),
        // In the order in which they were asked for, those that touch apart, those that overlap together.
        ("bytes=9000-9001,0-1,2-3", vec![(9000, 9001), (0, 1), (2, 3)]),
        ("bytes=500-600,0-1,550-700,1-1", vec![(500, 700), (0, 1)]),
        // Long ones, across the seams of the blob's parts.
        ("bytes=65530-400000,0-300", vec![(65_530, 400_000), (0, 300)]),
        (
            "bytes=0-299999,310000-",
            vec![(0, 299_999), (310_000, length - 1)],
        ),
        (&spelled, many.clone()),
    ] {
        let body = multipart(&blob, &parts);
        run.ask(Request::get(&target).header("range", range))
            .await?
            .expect(206)
            .with(
                "content-type",
                &format!("multipart/byteranges; boundary={boundary}"),
            )
            .with("content-length", &body.len().to_string())
            .with("docker-content-digest", &blob.digest)
            .with("etag", &format!("\"{}\"", blob.digest))
            .with("cache-control", CONTENT)
            .lacks("content-range")
            .with_body(&body);
    }
    Ok(())
}

async fn one_range_that_remains_of_several_is_answered_as_one(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 1000);
    run.push_blob(&repository, &blob).await?.expect(201);
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    for (range, first, last) in [
        ("bytes=10-19,1000-1009", 10, 19),
        ("bytes=2000-, -10 ,-0", 990, 999),
        ("bytes=10-19,15-29,20-20", 10, 29),
        ("bytes=,5-6,", 5, 6),
        (&format!("bytes={}", ["0-"; 200].join(",")), 0, 999),
    ] {
        run.ask(Request::get(&target).header("range", range))
            .await?
            .expect(206)
            .with("content-type", "application/octet-stream")
            .with("content-range", &format!("bytes {first}-{last}/1000"))
            .with_body(&blob.bytes[first..=last]);
    }
    Ok(())
}

/// What would be longer in parts, has too many of them, or isn't in bytes.
async fn ranges_that_save_nothing_and_other_units_give_the_whole_blob(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 10_000);
    run.push_blob(&repository, &blob).await?.expect(201);
    let pairs: Vec<String> = (0..100)
        .map(|n| format!("{}-{}", n * 100, n * 100 + 98))
        .collect();
    let too_many = format!("bytes={}", ["0-0"; 1025].join(","));
    for range in [
        &format!("bytes={}", pairs.join(",")),
        &too_many,
        "bytes=0-4999,5000-",
        "lines=1-2",
    ] {
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
    for (reference, caching) in [("v1", "no-cache"), (&manifest.digest, CONTENT)] {
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

/// As the libraries of some languages spell a URL.
async fn what_is_escaped_without_need_is_found(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = run.blob("config", 200);
    run.push_blob(&repository, &config).await?.expect(201);
    let manifest = Manifest::image(&config, &[]).build();
    run.push_manifest(&repository, "v1.0", &manifest)
        .await?
        .expect(201);
    let escaped = |digest: &str| digest.replace(':', "%3A");
    let name = run.named(repository.replace('-', "%2D").replace('0', "%30"), "escaped");
    for (target, body) in [
        (format!("blobs/{}", escaped(&config.digest)), &config.bytes),
        (
            format!("blobs/{}", config.digest.replace(':', "%3a")),
            &config.bytes,
        ),
        (
            format!("manifests/{}", escaped(&manifest.digest)),
            &manifest.bytes,
        ),
        ("manifests/v1%2E0".to_owned(), &manifest.bytes),
    ] {
        for name in [&repository, &name] {
            let target = format!("/v2/{name}/{target}");
            run.get(target.clone()).await?.expect(200).with_body(body);
            run.head(target).await?.expect(200);
        }
    }
    for target in ["tags/list", &format!("referrers/{}", escaped(&manifest.digest))] {
        run.get(format!("/v2/{name}/{target}")).await?.expect(200);
    }
    let slash = repository.replace('/', "%2F");
    run.get(format!("/v2/{slash}/tags/list"))
        .await?
        .error(400, "NAME_INVALID");
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
    any_range_of_an_empty_blob_is_all_of_it,
    several_ranges_of_a_blob_are_pulled_in_one_answer,
    one_range_that_remains_of_several_is_answered_as_one,
    ranges_that_save_nothing_and_other_units_give_the_whole_blob,
    what_is_escaped_without_need_is_found,
    a_manifest_is_pulled_as_it_was_pushed,
    what_is_unknown_is_not_found,
];
