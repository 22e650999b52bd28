//! Conditional requests.

use super::{Outcome, Run, api_tests};
use crate::support::{
    client::{Ask as _, Request},
    content::Manifest,
};

async fn what_a_client_has_is_not_sent_again(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 1000);
    run.push_blob(&repository, &blob).await?.expect(201);
    let manifest = Manifest::image(&blob, &[]).build();
    run.push_manifest(&repository, "v1", &manifest).await?.expect(201);
    for (target, digest, caching) in [
        (
            format!("/v2/{repository}/blobs/{}", blob.digest),
            &blob.digest,
            super::pulls::CONTENT,
        ),
        (
            format!("/v2/{repository}/manifests/{}", manifest.digest),
            &manifest.digest,
            super::pulls::CONTENT,
        ),
        (
            format!("/v2/{repository}/manifests/v1"),
            &manifest.digest,
            "no-cache",
        ),
    ] {
        let etag = run.head(target.clone()).await?.expect(200).must("etag");
        for known in [
            etag.clone(),
            format!("W/{etag}"),
            format!("\"other\", {etag}"),
            "*".to_owned(),
        ] {
            for method in [http::Method::GET, http::Method::HEAD] {
                run.ask(Request::new(method, &target).header("if-none-match", &known))
                    .await?
                    .expect(304)
                    .with_body(b"")
                    .with("etag", &etag)
                    .with("docker-content-digest", digest)
                    .with("cache-control", caching);
            }
        }
        for other in ["\"other\"", "W/\"other\"", "nonsense"] {
            for method in [http::Method::GET, http::Method::HEAD] {
                run.ask(Request::new(method, &target).header("if-none-match", other))
                    .await?
                    .expect(200);
            }
        }
    }
    Ok(())
}

async fn what_is_read_is_what_the_client_wants_to_read_if_it_says_so(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 1000);
    run.push_blob(&repository, &blob).await?.expect(201);
    let manifest = Manifest::image(&blob, &[]).build();
    run.push_manifest(&repository, "v1", &manifest).await?.expect(201);
    for target in [
        format!("/v2/{repository}/blobs/{}", blob.digest),
        format!("/v2/{repository}/manifests/{}", manifest.digest),
        format!("/v2/{repository}/manifests/v1"),
    ] {
        let etag = run.head(target.clone()).await?.expect(200).must("etag");
        for method in [http::Method::GET, http::Method::HEAD] {
            let request = Request::new(method, &target);
            for wanted in [
                etag.clone(),
                format!("\"other\", {etag}"),
                "*".to_owned(),
                "nonsense".to_owned(),
            ] {
                run.ask(request.clone().header("if-match", wanted))
                    .await?
                    .expect(200);
            }
            // A weak tag is none of those that have to match; and what is refused isn't known either.
            for other in ["\"other\"".to_owned(), format!("W/{etag}")] {
                let other = request.clone().header("if-match", other);
                run.ask(other.clone()).await?.expect(412).with("etag", &etag);
                run.ask(other.clone().header("if-none-match", &etag))
                    .await?
                    .expect(412);
                run.ask(other.header("range", "bytes=0-9")).await?.expect(412);
            }
            let both = request.header("if-match", &etag).header("if-none-match", &etag);
            run.ask(both).await?.expect(304);
        }
    }
    Ok(())
}

async fn what_is_unknown_stays_unknown_under_any_condition(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let digest = run.blob("blob", 10).digest;
    for target in [
        format!("/v2/{repository}/blobs/{digest}"),
        format!("/v2/{repository}/manifests/{digest}"),
    ] {
        for condition in ["if-none-match", "if-match"] {
            let request = Request::get(&target).header(condition, "*");
            run.ask(request).await?.expect(404);
        }
    }
    Ok(())
}

async fn a_tag_that_moved_is_sent_although_the_client_has_what_it_named(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = run.blob("config", 100);
    run.push_blob(&repository, &config).await?.expect(201);
    let before = Manifest::image(&config, &[]).annotation("it", "was").build();
    let after = Manifest::image(&config, &[]).annotation("it", "is").build();
    run.push_manifest(&repository, "v1", &before).await?.expect(201);
    let target = format!("/v2/{repository}/manifests/v1");
    let etag = run.get(target.clone()).await?.expect(200).must("etag");
    run.push_manifest(&repository, "v1", &after).await?.expect(201);
    run.ask(Request::get(target).header("if-none-match", etag))
        .await?
        .expect(200)
        .with_body(&after.bytes);
    Ok(())
}

async fn a_range_holds_only_for_the_content_it_was_meant_for(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 1000);
    run.push_blob(&repository, &blob).await?.expect(201);
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    let request = Request::get(&target).header("range", "bytes=10-19");
    let same = request.clone().header("if-range", format!("\"{}\"", blob.digest));
    run.ask(same).await?.expect(206).with_body(&blob.bytes[10..20]);
    let other = request.header("if-range", "\"other\"");
    run.ask(other).await?.expect(200).with_body(&blob.bytes);
    Ok(())
}

api_tests![
    what_a_client_has_is_not_sent_again,
    what_is_read_is_what_the_client_wants_to_read_if_it_says_so,
    what_is_unknown_stays_unknown_under_any_condition,
    a_tag_that_moved_is_sent_although_the_client_has_what_it_named,
    a_range_holds_only_for_the_content_it_was_meant_for,
];
