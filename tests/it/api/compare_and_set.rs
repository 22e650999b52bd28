//! Changes of manifests and tags under conditions (RFC 9110, 13).

use futures_util::future::join_all;
use serde_json::json;

use super::{Outcome, Run, api_tests, manifests::config};
use crate::support::{
    client::{Answer, Ask as _, Broken, Request},
    content::{IMAGE, Manifest},
};

const FAILED: &str = "PRECONDITION_FAILED";

/// Images that differ.
async fn images(run: &Run, repository: &str, count: usize) -> Result<Vec<Manifest>, Broken> {
    let config = config(run, repository).await?;
    let image = |n: usize| {
        Manifest::image(&config, &[])
            .annotation("n", &n.to_string())
            .build()
    };
    Ok((0..count).map(image).collect())
}

fn quoted(manifest: &Manifest) -> String {
    format!("\"{}\"", manifest.digest)
}

fn push(repository: &str, reference: &str, manifest: &Manifest) -> Request {
    Request::put(format!("/v2/{repository}/manifests/{reference}"))
        .header("content-type", IMAGE)
        .body(manifest.bytes.clone())
}

/// The condition doesn't hold of `current`, which is what there is.
#[track_caller]
fn unmet(answer: Answer, current: Option<&Manifest>) {
    let answer = answer.error(412, FAILED);
    match current {
        Some(current) => {
            let answer = answer
                .with("etag", &quoted(current))
                .with("docker-content-digest", &current.digest);
            assert_eq!(
                answer.json()["errors"][0]["detail"],
                json!({ "digest": current.digest })
            );
        }
        None => drop(answer.lacks("etag").lacks("docker-content-digest")),
    }
}

async fn names(run: &Run, repository: &str, tag: &str, manifest: &Manifest) -> Outcome {
    run.head(format!("/v2/{repository}/manifests/{tag}"))
        .await?
        .expect(200)
        .with("etag", &quoted(manifest));
    Ok(())
}

async fn a_tag_is_moved_only_from_what_it_is_thought_to_name(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let images = images(&run, &repository, 3).await?;
    let [one, two, three] = [&images[0], &images[1], &images[2]];
    let put = async |manifest, name: &str, value: String| {
        run.ask(push(&repository, "v1", manifest).header(name, value))
            .await
    };
    // Of a tag that isn't there.
    for value in [quoted(one), "*".to_owned()] {
        unmet(put(one, "if-match", value).await?, None);
    }
    run.get(format!("/v2/{repository}/tags/list"))
        .await?
        .error(404, "NAME_UNKNOWN");
    put(one, "if-none-match", "*".to_owned()).await?.expect(201);
    for (name, value) in [
        ("if-match", quoted(two)),
        ("if-match", format!("W/{}", quoted(one))),
        ("if-match", format!("\"x\", {}", quoted(two))),
        ("if-none-match", "*".to_owned()),
        ("if-none-match", quoted(one)),
        ("if-none-match", format!("\"x\", W/{}", quoted(one))),
    ] {
        unmet(put(two, name, value).await?, Some(one));
        names(&run, &repository, "v1", one).await?;
    }
    put(two, "if-match", format!("\"x\", {}", quoted(one)))
        .await?
        .expect(201);
    names(&run, &repository, "v1", two).await?;
    // The same again, its answer was lost.
    put(two, "if-match", quoted(one))
        .await?
        .expect(201)
        .with("docker-content-digest", &two.digest);
    unmet(put(two, "if-none-match", "*".to_owned()).await?, Some(two));
    put(three, "if-match", "*".to_owned()).await?.expect(201);
    unmet(put(two, "if-match", quoted(one)).await?, Some(three));
    // Both at once: the second decides where the first holds.
    let both = push(&repository, "v1", one)
        .header("if-match", quoted(three))
        .header("if-none-match", quoted(three));
    unmet(run.ask(both).await?, Some(three));
    names(&run, &repository, "v1", three).await
}

async fn a_manifest_by_its_digest_is_its_own_condition(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let images = images(&run, &repository, 2).await?;
    let put = async |name: &str, value: String| {
        run.ask(push(&repository, &images[0].digest, &images[0]).header(name, value))
            .await
    };
    unmet(put("if-match", "*".to_owned()).await?, None);
    put("if-none-match", "*".to_owned()).await?.expect(201);
    unmet(put("if-none-match", "*".to_owned()).await?, Some(&images[0]));
    put("if-match", quoted(&images[0])).await?.expect(201);
    Ok(())
}

async fn what_is_deleted_is_what_was_meant(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let images = images(&run, &repository, 2).await?;
    let [one, two] = [&images[0], &images[1]];
    for reference in ["v1", &one.digest] {
        run.push_manifest(&repository, "v1", one).await?.expect(201);
        let target = format!("/v2/{repository}/manifests/{reference}");
        let delete =
            async |name: &str, value: String| run.ask(Request::delete(&target).header(name, value)).await;
        for (name, value) in [
            ("if-match", quoted(two)),
            ("if-none-match", "*".to_owned()),
            ("if-none-match", quoted(one)),
        ] {
            unmet(delete(name, value).await?, Some(one));
            names(&run, &repository, "v1", one).await?;
        }
        delete("if-match", quoted(one)).await?.expect(202);
        run.head(target.clone()).await?.expect(404);
        // Without a condition it would be unknown, and so it is with one.
        for (name, value) in [("if-match", quoted(one)), ("if-none-match", "*".to_owned())] {
            delete(name, value).await?.error(404, "MANIFEST_UNKNOWN");
        }
    }
    Ok(())
}

async fn so_is_a_blob(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let blob = run.blob("blob", 10);
    run.push_blob(&repository, &blob).await?.expect(201);
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    let etag = run.head(target.clone()).await?.expect(200).must("etag");
    let delete = async |name: &str, value: &str| run.ask(Request::delete(&target).header(name, value)).await;
    for (name, value) in [
        ("if-match", "\"another\""),
        ("if-none-match", "*"),
        ("if-none-match", &*etag),
    ] {
        delete(name, value).await?.error(412, FAILED).with("etag", &etag);
        run.head(target.clone()).await?.expect(200);
    }
    delete("if-match", "nonsense").await?.error(400, "UNSUPPORTED");
    delete("if-match", &etag).await?.expect(202);
    for value in ["*", "\"another\""] {
        delete("if-match", value).await?.error(404, "BLOB_UNKNOWN");
    }
    Ok(())
}

async fn a_condition_that_is_none_is_refused(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let images = images(&run, &repository, 2).await?;
    run.push_manifest(&repository, "v1", &images[0])
        .await?
        .expect(201);
    for value in ["", ",", &images[0].digest, "\"open", "*, \"x\""] {
        for name in ["if-match", "if-none-match"] {
            let put = push(&repository, "v1", &images[1]).header(name, value);
            run.ask(put).await?.error(400, "UNSUPPORTED");
            let delete = Request::delete(format!("/v2/{repository}/manifests/v1")).header(name, value);
            run.ask(delete).await?.error(400, "UNSUPPORTED");
        }
    }
    // One on times has nothing to go by (RFC 9110, 13.1.4).
    let past = "Thu, 01 Jan 1970 00:00:00 GMT";
    let put = push(&repository, "v1", &images[1]).header("if-unmodified-since", past);
    run.ask(put).await?.expect(201);
    names(&run, &repository, "v1", &images[1]).await
}

async fn of_many_who_saw_the_same_one_moves_the_tag(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let images = images(&run, &repository, 9).await?;
    let quiet = run.quietly();
    for condition in [
        ("if-none-match", "*".to_owned()),
        ("if-match", quoted(&images[0])),
    ] {
        if condition.0 == "if-match" {
            run.push_manifest(&repository, "v1", &images[0])
                .await?
                .expect(201);
        }
        let pushes = images[1..].iter().map(|image| {
            let request = push(&repository, "v1", image).header(condition.0, &*condition.1);
            quiet.ask(request)
        });
        let answers: Vec<Answer> = join_all(pushes).await.into_iter().collect::<Result<_, _>>()?;
        let won: Vec<usize> = (0..8).filter(|n| answers[*n].status == 201).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        let winner = &images[1 + won[0]];
        for (n, answer) in answers.into_iter().enumerate() {
            if n != won[0] {
                unmet(answer, Some(winner));
            }
        }
        // Who won isn't the same each time.
        names(&quiet, &repository, "v1", winner).await?;
    }
    Ok(())
}

api_tests![
    a_tag_is_moved_only_from_what_it_is_thought_to_name,
    a_manifest_by_its_digest_is_its_own_condition,
    what_is_deleted_is_what_was_meant,
    so_is_a_blob,
    a_condition_that_is_none_is_refused,
    of_many_who_saw_the_same_one_moves_the_tag,
];
