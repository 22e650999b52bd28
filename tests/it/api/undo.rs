//! What was deleted or overwritten is seen and comes back, through any member.

use serde_json::{Value, json};

use super::{Outcome, Run, api_tests, discovery::next};
use crate::support::{
    client::{Answer, Ask as _, Broken, Request},
    content::{Blob, Manifest},
};

/// A repository, and images that differ, with a layer of their own each.
async fn images(run: &Run) -> Result<(String, [Manifest; 3]), Broken> {
    let repository = run.repository("repo");
    let config: Blob = run.shared_blob("config", 100);
    run.push_blob(&repository, &config).await?.expect(201);
    let mut images = Vec::new();
    for note in ["1", "2", "3"] {
        let layer = run.shared_blob(note, 1000);
        run.push_blob(&repository, &layer).await?.expect(201);
        images.push(Manifest::image(&config, &[&layer]).build());
    }
    let images: Result<[Manifest; 3], _> = images.try_into();
    Ok((repository, images.unwrap_or_else(|_| unreachable!("three"))))
}

fn by(repository: &str, reference: &str) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

fn history(repository: &str) -> String {
    format!("/v2/{repository}/_portolan/history")
}

async fn restore(run: &Run, repository: &str, query: &str) -> Result<Answer, Broken> {
    let target = format!("/v2/{repository}/_portolan/restore?{query}");
    run.ask(Request::post(target).body("")).await
}

/// The repository's changes, the newest first.
async fn changes(run: &Run, repository: &str) -> Result<Vec<Value>, Broken> {
    let answer = run.get(history(repository)).await?.expect(200);
    Ok(answer.json()["changes"].as_array().expect("a list").clone())
}

/// When the newest change was.
async fn now(run: &Run, repository: &str) -> Result<String, Broken> {
    let changes = changes(run, repository).await?;
    Ok(changes[0]["at"].as_str().expect("a time").to_owned())
}

async fn a_tag_is_read_as_of_a_time(run: Run) -> Outcome {
    let (repository, [one, two, _]) = images(&run).await?;
    let mut named: Vec<(String, Option<&Manifest>)> = Vec::new();
    for image in [Some(&one), Some(&two), None, Some(&one)] {
        match image {
            Some(image) => run.push_manifest(&repository, "v1", image).await?.expect(201),
            None => run.delete(by(&repository, "v1")).await?.expect(202),
        };
        named.push((now(&run, &repository).await?, image));
    }
    for (time, image) in &named {
        let target = format!("{}?at={}", by(&repository, "v1"), time.replace(':', "%3A"));
        match image {
            Some(image) => {
                let get = run.get(target.clone()).await?.expect(200);
                get.with_body(&image.bytes)
                    .with("content-type", &image.media_type)
                    .with("docker-content-digest", &image.digest);
                let head = run.ask(Request::head(target.clone())).await?.expect(200);
                head.with("docker-content-digest", &image.digest)
                    .with("content-length", &image.bytes.len().to_string());
                let same = Request::get(target).header("if-none-match", format!("\"{}\"", image.digest));
                run.ask(same).await?.expect(304);
            }
            None => {
                run.get(target).await?.error(404, "MANIFEST_UNKNOWN");
            }
        }
    }
    let before = format!("{}?at=1999-12-31T23:59:59Z", by(&repository, "v1"));
    run.get(before).await?.error(404, "MANIFEST_UNKNOWN");
    let later = format!("{}?at=2999-12-31T23:59:59Z", by(&repository, "v1"));
    run.get(later).await?.expect(200).with_body(&one.bytes);
    let wrong = format!("{}?at=yesterday", by(&repository, "v1"));
    run.get(wrong).await?.error(400, "UNSUPPORTED");
    // A digest means the same at any time.
    let digest = format!("{}?at=1999-12-31T23:59:59Z", by(&repository, &one.digest));
    run.get(digest).await?.expect(200).with_body(&one.bytes);
    Ok(())
}

async fn a_tag_is_put_back(run: Run) -> Outcome {
    let (repository, [one, two, _]) = images(&run).await?;
    run.push_manifest(&repository, "v1", &one).await?.expect(201);
    let then = now(&run, &repository).await?;
    run.push_manifest(&repository, "v1", &two).await?.expect(201);
    run.delete(by(&repository, &one.digest)).await?.expect(202);
    // Who may restore it sees what was deleted.
    let target = format!("{}?at={then}", by(&repository, "v1"));
    run.get(target).await?.expect(200).with_body(&one.bytes);
    let restored = restore(&run, &repository, &format!("tag=v1&at={then}"))
        .await?
        .expect(200);
    let expected = json!({
        "repository": repository,
        "manifests": [one.digest],
        "tags": [{ "tag": "v1", "digest": one.digest }],
        "left": [],
    });
    assert_eq!(restored.json(), expected);
    run.get(by(&repository, "v1"))
        .await?
        .expect(200)
        .with_body(&one.bytes);
    let last = &changes(&run, &repository).await?[0];
    assert_eq!(last["why"], "restore");
    assert_eq!(
        last["tags"],
        json!([{ "tag": "v1", "from": two.digest, "to": one.digest }])
    );
    let again = restore(&run, &repository, &format!("tag=v1&at={then}"))
        .await?
        .expect(200);
    assert_eq!(again.json()["tags"], json!([]));
    Ok(())
}

async fn a_manifest_and_a_repository_come_back(run: Run) -> Outcome {
    let (repository, [one, two, _]) = images(&run).await?;
    run.push_manifest(&repository, "v1", &one).await?.expect(201);
    run.push_manifest(&repository, "also", &one).await?.expect(201);
    run.push_manifest(&repository, "v2", &two).await?.expect(201);
    let then = now(&run, &repository).await?;
    run.delete(by(&repository, &one.digest)).await?.expect(202);
    let query = format!("digest={}", one.digest);
    restore(&run, &repository, &query).await?.expect(200);
    for tag in ["v1", "also", &one.digest] {
        run.get(by(&repository, tag))
            .await?
            .expect(200)
            .with_body(&one.bytes);
    }
    for image in [&one, &two] {
        run.delete(by(&repository, &image.digest)).await?.expect(202);
    }
    run.get(format!("/v2/{repository}/tags/list"))
        .await?
        .error(404, "NAME_UNKNOWN");
    let restored = restore(&run, &repository, &format!("at={then}"))
        .await?
        .expect(200);
    assert_eq!(restored.json()["left"], json!([]));
    let tags = run.get(format!("/v2/{repository}/tags/list")).await?.expect(200);
    assert_eq!(tags.json()["tags"], json!(["also", "v1", "v2"]));
    for (tag, image) in [("v1", &one), ("also", &one), ("v2", &two)] {
        run.get(by(&repository, tag))
            .await?
            .expect(200)
            .with_body(&image.bytes);
    }
    Ok(())
}

async fn what_is_to_be_restored_is_one_thing_that_was(run: Run) -> Outcome {
    let (repository, [one, two, _]) = images(&run).await?;
    run.push_manifest(&repository, "v1", &one).await?.expect(201);
    for query in [
        "",
        "tag=v1",
        "tag=v1&run=x",
        "run=",
        "run=x",
        "at=1999-01-31T12:00:00Z",
        &format!("digest={}&at=2026-01-31T12:00:00Z", one.digest),
    ] {
        restore(&run, &repository, query).await?.error(400, "UNSUPPORTED");
    }
    restore(&run, &repository, "digest=x")
        .await?
        .error(400, "DIGEST_INVALID");
    for query in [
        "tag=v1&at=1999-01-31T12:00:00Z",
        "tag=v2&at=2999-01-31T12:00:00Z",
        "run=0123",
        &format!("digest={}", two.digest),
    ] {
        restore(&run, &repository, query)
            .await?
            .error(404, "MANIFEST_UNKNOWN");
    }
    let target = format!("/v2/{repository}/_portolan/restore?run=x");
    run.get(target).await?.error(405, "UNSUPPORTED");
    Ok(())
}

async fn a_repositorys_history_comes_in_pages(run: Run) -> Outcome {
    let (repository, images) = images(&run).await?;
    for n in 0..7 {
        let tag = if n % 2 == 0 { "even" } else { "odd" };
        run.push_manifest(&repository, tag, &images[n % 3])
            .await?
            .expect(201);
    }
    let all = changes(&run, &repository).await?;
    assert_eq!(all.len(), 7);
    assert!(all.is_sorted_by(|later, earlier| later["at"].as_str() > earlier["at"].as_str()));
    let odd: Vec<&Value> = all
        .iter()
        .filter(|change| change["tags"][0]["tag"] == "odd")
        .collect();
    for n in [1, 2, 3, 7] {
        for (query, expected) in [("", all.iter().collect::<Vec<_>>()), ("&tag=odd", odd.clone())] {
            let mut found = Vec::new();
            let mut at = Some(format!("{}?n={n}{query}", history(&repository)));
            while let Some(target) = at {
                let answer = run.get(target).await?.expect(200);
                at = next(&answer);
                found.extend(answer.json()["changes"].as_array().expect("a list").clone());
            }
            let tags = |changes: &[Value]| changes.iter().map(|one| one["tags"].clone()).collect::<Vec<_>>();
            let expected: Vec<Value> = expected.into_iter().cloned().collect();
            assert_eq!(tags(&found), tags(&expected), "in pages of {n}{query}");
        }
    }
    Ok(())
}

api_tests![
    a_tag_is_read_as_of_a_time,
    a_tag_is_put_back,
    a_manifest_and_a_repository_come_back,
    what_is_to_be_restored_is_one_thing_that_was,
    a_repositorys_history_comes_in_pages,
];
