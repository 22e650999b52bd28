//! Pushing blobs in one piece.

use bytes::Bytes;

use super::{Outcome, Run, api_tests};
use crate::support::{
    client::{Ask as _, Request, octets, with_digest},
    content::Blob,
    mesh::PART,
};

/// The blob must read back as it is, and its push must have said where.
async fn is_there(run: &Run, repository: &str, blob: &Blob, digest: &str) -> Outcome {
    let target = format!("/v2/{repository}/blobs/{digest}");
    let answer = run
        .get(target)
        .await?
        .expect(200)
        .with("docker-content-digest", digest);
    answer.with_body(&blob.bytes);
    Ok(())
}

async fn is_not_there(run: &Run, repository: &str, digest: &str) -> Outcome {
    run.head(format!("/v2/{repository}/blobs/{digest}"))
        .await?
        .expect(404);
    Ok(())
}

async fn a_blob_is_pushed_by_one_post(run: Run) -> Outcome {
    let repository = run.repository("repo");
    for (label, length) in [("empty", 0), ("small", 1000), ("large", 300_000)] {
        let blob = run.blob(label, length);
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        run.push_blob(&repository, &blob)
            .await?
            .expect(201)
            .with("location", &target)
            .with("docker-content-digest", &blob.digest)
            .with_body(b"");
        is_there(&run, &repository, &blob, &blob.digest).await?;
    }
    Ok(())
}

async fn a_blob_is_pushed_by_post_and_put(run: Run) -> Outcome {
    let repository = run.repository("repo");
    for (label, length) in [("empty", 0), ("small", 1000), ("large", 300_000)] {
        let blob = run.blob(label, length);
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        run.push_blob_in_two(&repository, &blob)
            .await?
            .expect(201)
            .with("location", &target)
            .with("docker-content-digest", &blob.digest)
            .with_body(b"");
        is_there(&run, &repository, &blob, &blob.digest).await?;
    }
    Ok(())
}

async fn a_blob_is_pushed_without_saying_its_length(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let pieces = |blob: &Blob| -> Vec<Bytes> {
        let step = blob.len() / 7 + 1;
        (0..blob.len())
            .step_by(step)
            .map(|at| blob.bytes.slice(at..blob.len().min(at + step)))
            .collect()
    };
    let blob = run.blob("by post", 100_000);
    let target = format!("/v2/{repository}/blobs/uploads/?digest={}", blob.digest);
    run.ask(octets(Request::post(target)).pieces(pieces(&blob)))
        .await?
        .expect(201);
    is_there(&run, &repository, &blob, &blob.digest).await?;

    let blob = run.blob("by put", 100_000);
    let location = run.start(&repository).await?.expect(202).location();
    let request = octets(Request::put(with_digest(&location, &blob.digest))).pieces(pieces(&blob));
    run.ask(request).await?.expect(201);
    is_there(&run, &repository, &blob, &blob.digest).await
}

async fn a_blob_larger_than_a_part_is_pushed_every_way(run: Run) -> Outcome {
    let repository = run.repository("repo");
    for (label, way) in [("post", 0), ("put", 1), ("patches", 2), ("small patches", 3)] {
        let blob = run.blob(label, 17 * PART + 12_345);
        let answer = match way {
            0 => run.push_blob(&repository, &blob).await?,
            1 => run.push_blob_in_two(&repository, &blob).await?,
            2 => run.push_blob_in_chunks(&repository, &blob, 3 * PART + 7).await?,
            _ => run.push_blob_in_chunks(&repository, &blob, PART / 3).await?,
        };
        answer.expect(201);
        is_there(&run, &repository, &blob, &blob.digest).await?;
    }
    Ok(())
}

async fn a_blob_is_pushed_again_and_again(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let other = run.elsewhere("other");
    let blob = run.blob("blob", 1000);
    for _ in 0..2 {
        run.push_blob(&repository, &blob).await?.expect(201);
        run.push_blob_in_two(&other, &blob).await?.expect(201);
        run.push_blob_in_chunks(&repository, &blob, 300)
            .await?
            .expect(201);
    }
    is_there(&run, &repository, &blob, &blob.digest).await?;
    is_there(&run, &other, &blob, &blob.digest).await
}

async fn content_that_is_not_its_digests_is_refused(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 1000);
    let other = run.blob("other", 1000);
    let target = format!("/v2/{repository}/blobs/uploads/?digest={}", other.digest);
    run.ask(octets(Request::post(target)).body(blob.bytes.clone()))
        .await?
        .error(400, "DIGEST_INVALID");

    let location = run.start(&repository).await?.expect(202).location();
    let target = with_digest(&location, &other.digest);
    run.ask(octets(Request::put(target)).body(blob.bytes.clone()))
        .await?
        .error(400, "DIGEST_INVALID");

    let location = run.start(&repository).await?.expect(202).location();
    let request = crate::support::client::chunk(&location, 0, blob.bytes.clone());
    let location = run.ask(request).await?.expect(202).location();
    run.ask(crate::support::client::finish(&location, &other.digest))
        .await?
        .error(400, "DIGEST_INVALID");

    is_not_there(&run, &repository, &other.digest).await?;
    is_not_there(&run, &repository, &blob.digest).await
}

async fn a_digest_that_is_none_is_refused(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let hex = &run.shared_blob("blob", 10).digest[7..];
    let location = run.start(&repository).await?.expect(202).location();
    for digest in [
        "sha256:abc".to_owned(),
        format!(
            "sha256:{}",
            hex.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A")
        ),
        format!("sha256:{hex}0"),
        format!("sha512:{hex}"),
        format!("md5:{}", &hex[..32]),
        format!("sha384:{hex}{}", &hex[..32]),
        hex.to_owned(),
        "sha256:".to_owned(),
        String::new(),
    ] {
        let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        run.ask(octets(Request::post(target)).body("content"))
            .await?
            .error(400, "DIGEST_INVALID");
        let target = with_digest(&location, &digest);
        run.ask(octets(Request::put(target)).body("content"))
            .await?
            .error(400, "DIGEST_INVALID");
        if !digest.is_empty() {
            let target = format!("/v2/{repository}/blobs/{digest}");
            run.get(target.clone()).await?.error(400, "DIGEST_INVALID");
            run.head(target.clone()).await?.expect(400);
            run.delete(target).await?.error(400, "DIGEST_INVALID");
        }
    }
    // No digest at all.
    run.ask(octets(Request::put(&location)).body("content"))
        .await?
        .error(400, "DIGEST_INVALID");
    // The session doesn't mind.
    let blob = run.blob("blob", 10);
    let request = octets(Request::put(with_digest(&location, &blob.digest))).body(blob.bytes.clone());
    run.ask(request).await?.expect(201);
    Ok(())
}

async fn a_digest_may_be_escaped(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 10);
    let escaped = blob.digest.replace(':', "%3A");
    let target = format!("/v2/{repository}/blobs/uploads/?digest={escaped}");
    run.ask(octets(Request::post(target)).body(blob.bytes.clone()))
        .await?
        .expect(201);
    is_there(&run, &repository, &blob, &blob.digest).await
}

async fn a_blob_is_pushed_under_its_sha512(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let post = run.blob("post", 5000);
    let target = format!("/v2/{repository}/blobs/uploads/?digest={}", post.sha512());
    run.ask(octets(Request::post(target)).body(post.bytes.clone()))
        .await?
        .expect(201)
        .with("docker-content-digest", &post.sha512());
    is_there(&run, &repository, &post, &post.sha512()).await?;
    // Nobody said that it has this digest, too.
    is_not_there(&run, &repository, &post.digest).await?;

    // Said beforehand.
    let chunked = run.blob("chunked", 5000);
    let target = format!("/v2/{repository}/blobs/uploads/?digest-algorithm=sha512");
    let answer = run
        .ask(Request::post(target).header("content-length", "0"))
        .await?
        .expect(202);
    let first = crate::support::client::chunk(&answer.location(), 0, chunked.bytes.slice(..2000));
    let location = run.ask(first).await?.expect(202).location();
    let second = crate::support::client::chunk(&location, 2000, chunked.bytes.slice(2000..));
    let location = run.ask(second).await?.expect(202).location();
    run.ask(crate::support::client::finish(&location, &chunked.sha512()))
        .await?
        .expect(201);
    is_there(&run, &repository, &chunked, &chunked.sha512()).await?;

    // Said with the bytes.
    let put = run.blob("put", 5000);
    let location = run.start(&repository).await?.expect(202).location();
    let request = octets(Request::put(with_digest(&location, &put.sha512()))).body(put.bytes.clone());
    run.ask(request).await?.expect(201);
    is_there(&run, &repository, &put, &put.sha512()).await?;

    // Wrong.
    let target = format!("/v2/{repository}/blobs/uploads/?digest={}", put.sha512());
    run.ask(octets(Request::post(target)).body("else"))
        .await?
        .error(400, "DIGEST_INVALID");
    Ok(())
}

async fn one_content_has_two_digests(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 5000);
    run.push_blob(&repository, &blob).await?.expect(201);
    is_not_there(&run, &repository, &blob.sha512()).await?;
    let target = format!("/v2/{repository}/blobs/uploads/?digest={}", blob.sha512());
    run.ask(octets(Request::post(target)).body(blob.bytes.clone()))
        .await?
        .expect(201);
    is_there(&run, &repository, &blob, &blob.digest).await?;
    is_there(&run, &repository, &blob, &blob.sha512()).await
}

async fn an_algorithm_that_nobody_registered_is_refused(run: Run) -> Outcome {
    let repository = run.repository("repo");
    for algorithm in ["md5", "SHA256", "sha384", "", "sha256:"] {
        let target = format!("/v2/{repository}/blobs/uploads/?digest-algorithm={algorithm}");
        run.ask(Request::post(target).header("content-length", "0"))
            .await?
            .error(400, "DIGEST_INVALID");
    }
    for algorithm in ["sha256", "sha512"] {
        let target = format!("/v2/{repository}/blobs/uploads/?digest-algorithm={algorithm}");
        run.ask(Request::post(target).header("content-length", "0"))
            .await?
            .expect(202);
    }
    Ok(())
}

api_tests![
    a_blob_is_pushed_by_one_post,
    a_blob_is_pushed_by_post_and_put,
    a_blob_is_pushed_without_saying_its_length,
    a_blob_larger_than_a_part_is_pushed_every_way,
    a_blob_is_pushed_again_and_again,
    content_that_is_not_its_digests_is_refused,
    a_digest_that_is_none_is_refused,
    a_digest_may_be_escaped,
    a_blob_is_pushed_under_its_sha512,
    one_content_has_two_digests,
    an_algorithm_that_nobody_registered_is_refused,
];
