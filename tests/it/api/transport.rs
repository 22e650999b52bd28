//! What a client's library does below requests: bodies held back, cut short, or not read.

use std::time::Duration;

use super::{Mode, Outcome, Run, api_tests};
use crate::support::{client::Ask as _, mesh::PART, raw::Raw};

/// These look at single exchanges by hand, which a failing store may refuse at any moment.
fn skipped(run: &Run) -> bool {
    run.mode() == Mode::Faulty
}

async fn a_client_that_waits_is_told_to_continue_when_its_upload_is_accepted(run: Run) -> Outcome {
    if skipped(&run) {
        return Ok(());
    }
    let repository = run.repository("repo");
    let blob = run.blob("blob", 1000);
    let mut raw = Raw::open(run.door()).await;
    let line = format!(
        "POST /v2/{repository}/blobs/uploads/?digest={} HTTP/1.1",
        blob.digest
    );
    raw.head(&[&line, "content-length: 1000", "expect: 100-continue"])
        .await;
    assert_eq!(raw.answer().await.expect("an answer").status, 100);
    raw.write(&blob.bytes).await.unwrap();
    assert_eq!(raw.answer().await.expect("an answer").status, 201);
    run.get(format!("/v2/{repository}/blobs/{}", blob.digest))
        .await?
        .expect(200)
        .with_body(&blob.bytes);
    Ok(())
}

async fn a_client_that_waits_is_refused_before_it_sends_its_body(run: Run) -> Outcome {
    if skipped(&run) {
        return Ok(());
    }
    let repository = run.repository("repo");
    let digest = run.blob("blob", 1000).digest;
    let location = run.start(&repository).await?.expect(202).location();
    let unknown = format!("/v2/{repository}/blobs/uploads/00000000000000000000000000000000");
    // What only the owner can refuse, it refuses when it gets the first bytes: a front waits for no more than that the owner
    // takes the request.
    let is_forwarded = run.is_forwarded();
    for (line, header, status, by_owner) in [
        (
            format!("POST /v2/{repository}/blobs/uploads/?digest=nonsense"),
            "",
            400,
            false,
        ),
        (
            format!("POST /v2/BAD/blobs/uploads/?digest={digest}"),
            "",
            400,
            false,
        ),
        (format!("PUT {unknown}?digest={digest}"), "", 404, true),
        (format!("PATCH {unknown}"), "", 404, true),
        (format!("PATCH {location}"), "content-range: 5000-5999", 416, true),
        (format!("PUT /v2/{repository}/manifests/+"), "", 400, false),
        (format!("POST /v2/{repository}/tags/list"), "", 405, false),
    ] {
        let mut raw = Raw::open(run.door()).await;
        let line = format!("{line} HTTP/1.1");
        let mut lines = vec![line.as_str(), "content-length: 1000", "expect: 100-continue"];
        lines.extend([header].into_iter().filter(|header| !header.is_empty()));
        raw.head(&lines).await;
        let mut answer = raw.answer().await.expect("an answer");
        if answer.status == 100 && is_forwarded && by_owner {
            let _ = raw.write(&[0; 1000]).await;
            answer = raw.answer().await.expect("an answer");
        }
        assert_eq!(answer.status, status, "{line}");
    }
    Ok(())
}

async fn a_refusal_is_read_although_most_of_the_body_was_not(run: Run) -> Outcome {
    if skipped(&run) {
        return Ok(());
    }
    let repository = run.repository("repo");
    for length in [500_000_usize, 64 << 20] {
        let mut raw = Raw::open(run.door()).await;
        let line = format!("POST /v2/{repository}/blobs/uploads/?digest=nonsense HTTP/1.1");
        raw.head(&[&line, &format!("content-length: {length}")]).await;
        // What a client has on its way before it looks for an answer.
        raw.write(&vec![0; 500_000]).await.unwrap();
        let answer = raw.answer().await.expect("an answer, not a reset");
        assert_eq!(answer.status, 400);
        assert!(
            answer.header("connection") == Some("close") || !run.is_at_a_member(),
            "the next request would meet the rest of the body"
        );
        let body: usize = answer
            .header("content-length")
            .expect("a length")
            .parse()
            .unwrap();
        assert_eq!(raw.body(body).await.len(), body);
        assert!(
            !run.is_at_a_member() || raw.ends_cleanly().await || length > 1_000_000,
            "not reset while all that was sent could be read"
        );
    }
    Ok(())
}

async fn a_body_cut_short_leaves_nothing(run: Run) -> Outcome {
    if skipped(&run) {
        return Ok(());
    }
    let repository = run.repository("repo");
    for length in [1000, 12 * PART] {
        let blob = run.blob(&format!("blob {length}"), length);
        let half = crate::support::content::Blob::new(blob.bytes.slice(..length / 2));
        let location = run.start(&repository).await?.expect(202).location();
        for (line, says) in [
            (
                format!("POST /v2/{repository}/blobs/uploads/?digest={}", blob.digest),
                true,
            ),
            (
                format!("POST /v2/{repository}/blobs/uploads/?digest={}", half.digest),
                true,
            ),
            (
                format!("POST /v2/{repository}/blobs/uploads/?digest={}", half.digest),
                false,
            ),
            (format!("PATCH {location}"), true),
            (format!("PUT {location}?digest={}", half.digest), true),
        ] {
            let mut raw = Raw::open(run.door()).await;
            let announced = format!("content-length: {length}");
            let framing = if says {
                &announced
            } else {
                "transfer-encoding: chunked"
            };
            raw.head(&[&format!("{line} HTTP/1.1"), framing]).await;
            if !says {
                raw.write(format!("{:x}\r\n", length / 2).as_bytes())
                    .await
                    .unwrap();
            }
            raw.write(&half.bytes).await.unwrap();
            raw.shut_down().await;
            // An error or nothing, but no success.
            assert!(
                raw.answer().await.is_none_or(|answer| answer.status >= 400),
                "{line}"
            );
        }
        for digest in [&blob.digest, &half.digest] {
            run.head(format!("/v2/{repository}/blobs/{digest}"))
                .await?
                .expect(404);
        }
        run.get(location).await?.expect(204).with("range", "0-0");
    }
    Ok(())
}

async fn a_connection_is_kept_for_the_next_request(run: Run) -> Outcome {
    if skipped(&run) {
        return Ok(());
    }
    let repository = run.repository("repo");
    let blob = run.blob("blob", 100_000);
    run.push_blob(&repository, &blob).await?.expect(201);
    let mut raw = Raw::open(run.door()).await;
    for _ in 0..3 {
        raw.head(&[&format!("GET /v2/{repository}/blobs/{} HTTP/1.1", blob.digest)])
            .await;
        assert_eq!(raw.answer().await.expect("an answer").status, 200);
        assert_eq!(raw.body(blob.len()).await, blob.bytes);
        raw.head(&[&format!("GET /v2/{repository}/tags/list HTTP/1.1")])
            .await;
        let answer = raw.answer().await.expect("an answer");
        assert_eq!(answer.status, 404);
        raw.body(
            answer
                .header("content-length")
                .expect("a length")
                .parse()
                .unwrap(),
        )
        .await;
        // Nothing comes unasked: a HEAD has no body, whatever its status.
        raw.head(&[&format!("HEAD /v2/{repository}/manifests/none HTTP/1.1")])
            .await;
        assert_eq!(raw.answer().await.expect("an answer").status, 404);
        assert!(raw.is_silent(Duration::from_millis(50)).await);
    }
    Ok(())
}

api_tests![
    a_client_that_waits_is_told_to_continue_when_its_upload_is_accepted,
    a_client_that_waits_is_refused_before_it_sends_its_body,
    a_refusal_is_read_although_most_of_the_body_was_not,
    a_body_cut_short_leaves_nothing,
    a_connection_is_kept_for_the_next_request,
];
