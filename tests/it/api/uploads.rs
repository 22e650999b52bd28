//! Upload sessions: chunks, their order, status, cancelling.

use bytes::Bytes;

use super::{Outcome, Run, api_tests};
use crate::support::client::{Answer, Ask as _, Broken, Request, chunk, finish, octets, with_digest};

/// Asserts where a session stands: its status, and what it says of itself.
async fn stands_at(run: &Run, location: &str, range: &str) -> Result<Answer, Broken> {
    let answer = run
        .get(location.to_owned())
        .await?
        .expect(204)
        .with("range", range)
        .with_body(b"");
    assert_eq!(answer.location(), location);
    answer.must("docker-upload-uuid");
    Ok(answer)
}

async fn a_session_begins_empty(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let answer = run
        .start(&repository)
        .await?
        .expect(202)
        .with("range", "0-0")
        .with_body(b"");
    let location = answer.location();
    let id = answer.must("docker-upload-uuid");
    assert_eq!(
        location.split('?').next(),
        Some(&*format!("/v2/{repository}/blobs/uploads/{id}"))
    );
    stands_at(&run, &location, "0-0").await?;
    // With and without the slash, with and without saying that there is no body.
    for target in [
        format!("/v2/{repository}/blobs/uploads/"),
        format!("/v2/{repository}/blobs/uploads"),
    ] {
        let again = run.ask(Request::post(target)).await?.expect(202);
        assert_ne!(again.must("docker-upload-uuid"), id, "two sessions are two");
    }
    Ok(())
}

async fn a_blob_is_pushed_in_chunks(run: Run) -> Outcome {
    let repository = run.repository("repo");
    for (label, length, size) in [("bytes", 5, 1), ("small", 1000, 300), ("large", 400_000, 70_001)] {
        let blob = run.blob(label, length);
        let mut location = run.start(&repository).await?.expect(202).location();
        for first in (0..length).step_by(size) {
            let end = length.min(first + size);
            let answer = run
                .ask(chunk(&location, first, blob.bytes.slice(first..end)))
                .await?
                .expect(202);
            let range = format!("0-{}", end - 1);
            location = answer.with("range", &range).with_body(b"").location();
            stands_at(&run, &location, &range).await?;
        }
        run.head(format!("/v2/{repository}/blobs/{}", blob.digest))
            .await?
            .expect(404);
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        run.ask(finish(&location, &blob.digest))
            .await?
            .expect(201)
            .with("location", &target)
            .with("docker-content-digest", &blob.digest);
        run.get(target).await?.expect(200).with_body(&blob.bytes);
    }
    Ok(())
}

async fn the_last_chunk_comes_with_the_put(run: Run) -> Outcome {
    let repository = run.repository("repo");
    for (label, said) in [("said", true), ("unsaid", false)] {
        let blob = run.blob(label, 1000);
        let location = run.start(&repository).await?.expect(202).location();
        let location = run
            .ask(chunk(&location, 0, blob.bytes.slice(..600)))
            .await?
            .expect(202)
            .location();
        let mut request = octets(Request::put(with_digest(&location, &blob.digest)));
        if said {
            request = request.header("content-range", "600-999");
        }
        run.ask(request.body(blob.bytes.slice(600..))).await?.expect(201);
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        run.get(target).await?.expect(200).with_body(&blob.bytes);
    }
    Ok(())
}

async fn a_stream_of_unknown_length_is_appended(run: Run) -> Outcome {
    // As docker does it: one PATCH without a range, then an empty PUT.
    let repository = run.repository("repo");
    let blob = run.blob("blob", 200_000);
    let location = run.start(&repository).await?.expect(202).location();
    let pieces = [0..1, 1..150_000, 150_000..200_000].map(|range| blob.bytes.slice(range));
    let request = octets(Request::patch(&location)).pieces(pieces.to_vec());
    let answer = run.ask(request).await?.expect(202).with("range", "0-199999");
    run.ask(finish(&answer.location(), &blob.digest))
        .await?
        .expect(201);
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    run.get(target).await?.expect(200).with_body(&blob.bytes);
    Ok(())
}

async fn a_chunk_out_of_order_is_refused_with_the_current_range(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 1000);
    let location = run.start(&repository).await?.expect(202).location();
    let refused = async |first: usize, end: usize, range: &str| -> Outcome {
        let request = chunk(&location, first, blob.bytes.slice(first..end));
        let answer = run
            .ask(request)
            .await?
            .error(416, "BLOB_UPLOAD_INVALID")
            .with("range", range);
        assert_eq!(answer.location(), location);
        stands_at(&run, &location, range).await?;
        Ok(())
    };
    // The first one doesn't begin at 0.
    refused(1, 500, "0-0").await?;
    run.ask(chunk(&location, 0, blob.bytes.slice(..500)))
        .await?
        .expect(202);
    // Again, overlapping, leaving a gap.
    refused(0, 500, "0-499").await?;
    refused(499, 600, "0-499").await?;
    refused(501, 600, "0-499").await?;
    run.ask(chunk(&location, 500, blob.bytes.slice(500..900)))
        .await?
        .expect(202);
    // With the PUT, too.
    for first in [899, 901] {
        let request = octets(Request::put(with_digest(&location, &blob.digest)))
            .header("content-range", format!("{first}-999"))
            .body(blob.bytes.slice(first..));
        run.ask(request)
            .await?
            .error(416, "BLOB_UPLOAD_INVALID")
            .with("range", "0-899");
    }
    // And none of it has spoiled anything.
    let request = octets(Request::put(with_digest(&location, &blob.digest)))
        .header("content-range", "900-999")
        .body(blob.bytes.slice(900..));
    run.ask(request).await?.expect(201);
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    run.get(target).await?.expect(200).with_body(&blob.bytes);
    Ok(())
}

async fn a_chunks_range_is_understood_in_both_forms(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 300);
    let location = run.start(&repository).await?.expect(202).location();
    for (first, range) in [(0, "0-99"), (100, "bytes 100-199/*"), (200, "bytes 200-299/300")] {
        let request = octets(Request::patch(&location))
            .header("content-range", range)
            .body(blob.bytes.slice(first..first + 100));
        run.ask(request)
            .await?
            .expect(202)
            .with("range", &format!("0-{}", first + 99));
    }
    run.ask(finish(&location, &blob.digest)).await?.expect(201);
    Ok(())
}

async fn a_chunks_range_that_is_none_is_refused(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let location = run.start(&repository).await?.expect(202).location();
    for range in [
        "",
        "0",
        "0-",
        "-9",
        "9-0",
        "bytes=0-9",
        "bytes 0-9",
        "a-b",
        "0-9-",
        "0x0-0x9",
        "+0-9",
    ] {
        let request = octets(Request::patch(&location))
            .header("content-range", range)
            .body("0123456789");
        run.ask(request).await?.error(400, "BLOB_UPLOAD_INVALID");
    }
    stands_at(&run, &location, "0-0").await?;
    Ok(())
}

async fn a_chunk_of_another_length_than_its_range_is_refused(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let location = run.start(&repository).await?.expect(202).location();
    for (range, body) in [
        ("0-9", "012345678"),
        ("0-9", "0123456789a"),
        ("0-0", "01"),
        ("0-99999999999999999", "0"),
    ] {
        let whole = octets(Request::patch(&location))
            .header("content-range", range)
            .body(body);
        run.ask(whole).await?.error(400, "SIZE_INVALID");
        // It only shows while the bytes come.
        let pieces = body.as_bytes().chunks(4).map(Bytes::copy_from_slice).collect();
        let streamed = octets(Request::patch(&location))
            .header("content-range", range)
            .pieces(pieces);
        run.ask(streamed).await?.error(400, "SIZE_INVALID");
    }
    stands_at(&run, &location, "0-0").await?;
    Ok(())
}

async fn a_cancelled_session_is_gone(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 1000);
    for chunks in [0, 1] {
        let location = run.start(&repository).await?.expect(202).location();
        for _ in 0..chunks {
            run.ask(chunk(&location, 0, blob.bytes.slice(..500)))
                .await?
                .expect(202);
        }
        run.delete(location.clone()).await?.expect(204).with_body(b"");
        is_gone(&run, &location, &blob.digest).await?;
    }
    Ok(())
}

/// Whatever is asked of a session, there is none.
async fn is_gone(run: &Run, location: &str, digest: &str) -> Outcome {
    const UNKNOWN: &str = "BLOB_UPLOAD_UNKNOWN";
    run.get(location.to_owned()).await?.error(404, UNKNOWN);
    run.ask(chunk(location, 0, Bytes::from_static(b"0123456789")))
        .await?
        .error(404, UNKNOWN);
    run.ask(octets(Request::put(with_digest(location, digest))).body("0"))
        .await?
        .error(404, UNKNOWN);
    run.ask(finish(location, digest)).await?.error(404, UNKNOWN);
    run.delete(location.to_owned()).await?.error(404, UNKNOWN);
    Ok(())
}

async fn a_session_that_never_was_is_unknown(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let digest = run.blob("blob", 10).digest;
    let location = run.start(&repository).await?.expect(202).location();
    let (path, id) = location.split_once("/uploads/").unwrap();
    // Of the right form, but for one character.
    let flipped = if id.starts_with('0') { '1' } else { '0' };
    is_gone(&run, &format!("{path}/uploads/{flipped}{}", &id[1..]), &digest).await?;
    for id in [
        "1",
        "nonsense",
        "00000000-0000-0000-0000-000000000000",
        "..",
        "a.b",
        "%2e%2e",
    ] {
        is_gone(&run, &format!("{path}/uploads/{id}"), &digest).await?;
    }
    Ok(())
}

async fn a_session_belongs_to_its_repository(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 1000);
    let location = run.start(&repository).await?.expect(202).location();
    run.ask(chunk(&location, 0, blob.bytes.slice(..500)))
        .await?
        .expect(202);
    for other in [run.repository("other"), run.elsewhere("third")] {
        is_gone(&run, &location.replace(&repository, &other), &blob.digest).await?;
    }
    run.ask(chunk(&location, 500, blob.bytes.slice(500..)))
        .await?
        .expect(202);
    run.ask(finish(&location, &blob.digest)).await?.expect(201);
    Ok(())
}

async fn a_finished_session_is_gone(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 1000);
    let location = run.start(&repository).await?.expect(202).location();
    run.ask(octets(Request::put(with_digest(&location, &blob.digest))).body(blob.bytes.clone()))
        .await?
        .expect(201);
    is_gone(&run, &location, &run.blob("another", 10).digest).await?;
    run.get(format!("/v2/{repository}/blobs/{}", blob.digest))
        .await?
        .expect(200)
        .with_body(&blob.bytes);
    Ok(())
}

async fn an_end_that_comes_again_is_answered_again(run: Run) -> Outcome {
    let repository = run.repository("repo");
    for (label, length, before) in [
        ("whole", 1000, 0),
        ("chunked", 1000, 600),
        ("large", 400_000, 400_000),
    ] {
        let blob = run.blob(label, length);
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        let location = run.start(&repository).await?.expect(202).location();
        if before > 0 {
            run.ask(chunk(&location, 0, blob.bytes.slice(..before)))
                .await?
                .expect(202);
        }
        let end = octets(Request::put(with_digest(&location, &blob.digest))).body(blob.bytes.slice(before..));
        // Its answer was lost; or the client has forgotten that it sent the bytes.
        for request in [&end, &end, &finish(&location, &blob.digest), &end] {
            run.ask(request.clone())
                .await?
                .expect(201)
                .with("location", &target)
                .with("docker-content-digest", &blob.digest)
                .with_body(b"");
        }
        run.get(target.clone()).await?.expect(200).with_body(&blob.bytes);
        // Under another digest it ended nothing, and nowhere else.
        let other = run.blob("other", 10).digest;
        run.ask(finish(&location, &other))
            .await?
            .error(404, "BLOB_UPLOAD_UNKNOWN");
        let elsewhere = location.replace(&repository, &run.elsewhere("other"));
        run.ask(finish(&elsewhere, &blob.digest))
            .await?
            .error(404, "BLOB_UPLOAD_UNKNOWN");
        // What is deleted has to be pushed.
        run.delete(target).await?.expect(202);
        run.ask(end).await?.error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    Ok(())
}

async fn an_upload_alone_makes_no_repository(run: Run) -> Outcome {
    let repository = run.repository("repo");
    run.start(&repository).await?.expect(202);
    run.push_blob(&repository, &run.blob("blob", 10))
        .await?
        .expect(201);
    run.get(format!("/v2/{repository}/tags/list"))
        .await?
        .error(404, "NAME_UNKNOWN");
    Ok(())
}

api_tests![
    a_session_begins_empty,
    a_blob_is_pushed_in_chunks,
    the_last_chunk_comes_with_the_put,
    a_stream_of_unknown_length_is_appended,
    a_chunk_out_of_order_is_refused_with_the_current_range,
    a_chunks_range_is_understood_in_both_forms,
    a_chunks_range_that_is_none_is_refused,
    a_chunk_of_another_length_than_its_range_is_refused,
    a_cancelled_session_is_gone,
    a_session_that_never_was_is_unknown,
    a_session_belongs_to_its_repository,
    a_finished_session_is_gone,
    an_end_that_comes_again_is_answered_again,
    an_upload_alone_makes_no_repository,
];
