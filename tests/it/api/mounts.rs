//! Mounting blobs of other repositories.

use super::{Mode, Outcome, Run, api_tests};
use crate::support::{
    client::{Answer, Ask as _, Broken, Request, octets, with_digest},
    content::Blob,
};

fn mount(repository: &str, query: &str) -> Request {
    Request::post(format!("/v2/{repository}/blobs/uploads/?{query}")).header("content-length", "0")
}

/// Mounts what can be mounted. When the store fails, that is a session instead: a client that gets an error gives up.
async fn taken(run: &Run, repository: &str, query: &str) -> Result<Answer, Broken> {
    let answer = run.ask(mount(repository, query)).await?;
    if run.mode() == Mode::Faulty && answer.status == 202 {
        return Err(Broken(answer.to_string()));
    }
    Ok(answer)
}

async fn mounted(run: &Run, repository: &str, query: &str, blob: &Blob) -> Outcome {
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    taken(run, repository, query)
        .await?
        .expect(201)
        .with("location", &target)
        .with("docker-content-digest", &blob.digest)
        .with_body(b"");
    run.get(target).await?.expect(200).with_body(&blob.bytes);
    Ok(())
}

async fn a_blob_is_mounted_from_a_named_repository(run: Run) -> Outcome {
    let source = run.repository("source");
    let blob = run.blob("blob", 5000);
    run.push_blob(&source, &blob).await?.expect(201);
    // Into one of the same owner, one of another owner, the same again, and itself.
    let near = run.repository("near");
    let far = run.elsewhere("far");
    for target in [&near, &far, &far, &source] {
        mounted(
            &run,
            target,
            &format!("mount={}&from={source}", blob.digest),
            &blob,
        )
        .await?;
    }
    // As clients escape it.
    let escaped = format!(
        "from={}&mount={}",
        source.replace('/', "%2F"),
        blob.digest.replace(':', "%3A")
    );
    mounted(&run, &run.elsewhere("farther"), &escaped, &blob).await
}

async fn a_blob_is_mounted_from_wherever_it_is(run: Run) -> Outcome {
    let source = run.elsewhere("source");
    let blob = run.blob("blob", 5000);
    run.push_blob(&source, &blob).await?.expect(201);
    mounted(
        &run,
        &run.repository("target"),
        &format!("mount={}", blob.digest),
        &blob,
    )
    .await
}

async fn a_mount_that_is_impossible_begins_an_upload(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let source = run.elsewhere("source");
    let held = run.blob("held", 100);
    run.push_blob(&source, &held).await?.expect(201);
    let unknown = run.blob("unknown", 100);
    let empty = run.repository("empty");
    for query in [
        format!("mount={}&from={source}", unknown.digest),
        format!("mount={}", unknown.digest),
        format!("mount={}&from={empty}", held.digest),
        format!("mount={}&from=NOT//A/NAME", held.digest),
        format!("mount=nonsense&from={source}"),
        format!("mount=&from={source}"),
    ] {
        let answer = run
            .ask(mount(&repository, &query))
            .await?
            .expect(202)
            .with("range", "0-0");
        answer.must("docker-upload-uuid");
        let blob = Blob::named(&query, 100);
        let target = with_digest(&answer.location(), &blob.digest);
        run.ask(octets(Request::put(target)).body(blob.bytes.clone()))
            .await?
            .expect(201);
    }
    run.head(format!("/v2/{repository}/blobs/{}", held.digest))
        .await?
        .expect(404);
    Ok(())
}

async fn a_mounted_blob_outlives_its_source(run: Run) -> Outcome {
    let (source, target) = (run.repository("source"), run.elsewhere("target"));
    let blob = run.blob("blob", 1000);
    run.push_blob(&source, &blob).await?.expect(201);
    mounted(
        &run,
        &target,
        &format!("mount={}&from={source}", blob.digest),
        &blob,
    )
    .await?;
    run.delete(format!("/v2/{source}/blobs/{}", blob.digest))
        .await?
        .expect(202);
    run.get(format!("/v2/{source}/blobs/{}", blob.digest))
        .await?
        .error(404, "BLOB_UNKNOWN");
    run.get(format!("/v2/{target}/blobs/{}", blob.digest))
        .await?
        .expect(200)
        .with_body(&blob.bytes);
    Ok(())
}

async fn a_blob_of_sha512_is_mounted(run: Run) -> Outcome {
    let (source, target) = (run.repository("source"), run.elsewhere("target"));
    let blob = run.blob("blob", 1000);
    let digest = blob.sha512();
    let request = Request::post(format!("/v2/{source}/blobs/uploads/?digest={digest}"));
    run.ask(octets(request).body(blob.bytes.clone()))
        .await?
        .expect(201);
    taken(&run, &target, &format!("mount={digest}&from={source}"))
        .await?
        .expect(201);
    run.get(format!("/v2/{target}/blobs/{digest}"))
        .await?
        .expect(200)
        .with_body(&blob.bytes);
    Ok(())
}

api_tests![
    a_blob_is_mounted_from_a_named_repository,
    a_blob_is_mounted_from_wherever_it_is,
    a_mount_that_is_impossible_begins_an_upload,
    a_mounted_blob_outlives_its_source,
    a_blob_of_sha512_is_mounted,
];
