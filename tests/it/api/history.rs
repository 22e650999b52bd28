//! What tags named (distribution-spec#606): a test for each clause of its text.

use serde_json::{Value, json};

use super::{Outcome, Run, api_tests, discovery::next};
use crate::support::{
    client::{Answer, Ask as _, Broken, Request},
    content::{Blob, INDEX, Manifest},
};

const TIMESTAMP: &str = "org.opencontainers.distribution.tag.timestamp";
const EVENT: &str = "org.opencontainers.distribution.tag.event";

/// A repository, and images that differ.
async fn images(run: &Run) -> Result<(String, [Manifest; 3]), Broken> {
    let repository = run.repository("repo");
    let config: Blob = run.shared_blob("config", 100);
    run.push_blob(&repository, &config).await?.expect(201);
    let image = |note: &str| Manifest::image(&config, &[]).annotation("a", note).build();
    Ok((repository, ["1", "2", "3"].map(image)))
}

fn history(repository: &str, tag: &str) -> String {
    format!("/v2/{repository}/_oci/tag-history/{tag}")
}

async fn ask(run: &Run, target: String) -> Result<(Answer, Vec<Value>), Broken> {
    let answer = run.get(target).await?.expect(200).with("content-type", INDEX);
    let index = answer.json();
    assert_eq!(
        (&index["schemaVersion"], &index["mediaType"]),
        (&json!(2), &json!(INDEX))
    );
    let events = index["manifests"].as_array().expect("a list").clone();
    Ok((answer, events))
}

fn time(event: &Value) -> String {
    event["annotations"][TIMESTAMP]
        .as_str()
        .expect("a time")
        .to_owned()
}

/// What happened, and to which manifest, the newest first.
fn told(events: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let told = events
        .iter()
        .map(|event| (text(&event["annotations"][EVENT]), text(&event["digest"])));
    told.collect()
}

fn expected(events: &[(&str, &Manifest)]) -> Vec<(String, String)> {
    let event = |(event, about): &(&str, &Manifest)| ((*event).to_owned(), about.digest.clone());
    events.iter().map(event).collect()
}

async fn a_tags_history_is_an_index_of_its_events_the_newest_first(run: Run) -> Outcome {
    let (repository, [one, two, _]) = images(&run).await?;
    let target = history(&repository, "v1");
    run.push_manifest(&repository, "v1", &one).await?.expect(201);
    // What changes nothing is no event, nor is what happens to others.
    run.push_manifest(&repository, "v1", &one).await?.expect(201);
    run.push_manifest(&repository, "other", &two).await?.expect(201);
    run.push_manifest(&repository, "v1", &two).await?.expect(201);
    let (answer, events) = ask(&run, target.clone()).await?;
    assert_eq!(told(&events), expected(&[("created", &two), ("created", &one)]));
    answer.lacks("link");
    run.delete(format!("/v2/{repository}/manifests/v1"))
        .await?
        .expect(202);
    // A deleted tag can be asked for, and one that came back.
    let deleted = [("deleted", &two), ("created", &two), ("created", &one)];
    assert_eq!(told(&ask(&run, target.clone()).await?.1), expected(&deleted));
    run.push_manifest(&repository, "v1", &one).await?.expect(201);
    let (_, events) = ask(&run, target).await?;
    assert_eq!(
        told(&events),
        expected(&[&[("created", &one)], &deleted[..]].concat())
    );
    for (event, about) in events.iter().zip([&one, &two, &two, &one]) {
        let manifest = json!({
            "mediaType": about.media_type,
            "digest": about.digest,
            "size": about.bytes.len(),
            // Nothing of the manifest's own.
            "annotations": { TIMESTAMP: time(event), EVENT: event["annotations"][EVENT] },
        });
        assert_eq!(*event, manifest);
    }
    assert!(events.is_sorted_by(|later, earlier| time(later) > time(earlier)));
    Ok(())
}

async fn what_becomes_of_many_tags_at_once_is_told_of_each(run: Run) -> Outcome {
    let (repository, [one, two, three]) = images(&run).await?;
    let by_digest = |image: &Manifest| format!("/v2/{repository}/manifests/{}", image.digest);
    for image in [&one, &two] {
        let push = Request::put(format!("{}?tag=a&tag=b&tag=c", by_digest(image)))
            .header("content-type", &image.media_type)
            .body(image.bytes.clone());
        run.ask(push).await?.expect(201);
    }
    run.push_manifest(&repository, "b", &three).await?.expect(201);
    run.delete(by_digest(&two)).await?.expect(202);
    let gone = [("deleted", &two), ("created", &two), ("created", &one)];
    for tag in ["a", "c"] {
        assert_eq!(
            told(&ask(&run, history(&repository, tag)).await?.1),
            expected(&gone)
        );
    }
    let moved = [("created", &three), ("created", &two), ("created", &one)];
    assert_eq!(
        told(&ask(&run, history(&repository, "b")).await?.1),
        expected(&moved)
    );
    // The manifests are gone, their events aren't; nor when the repository is.
    for image in [&one, &three] {
        run.delete(by_digest(image)).await?.expect(202);
    }
    run.get(format!("/v2/{repository}/tags/list"))
        .await?
        .error(404, "NAME_UNKNOWN");
    assert_eq!(
        told(&ask(&run, history(&repository, "a")).await?.1),
        expected(&gone)
    );
    Ok(())
}

async fn a_history_comes_in_pages(run: Run) -> Outcome {
    let (repository, images) = images(&run).await?;
    let target = history(&repository, "t");
    for n in 0..7 {
        run.push_manifest(&repository, "t", &images[n % 3])
            .await?
            .expect(201);
    }
    let (_, all) = ask(&run, target.clone()).await?;
    assert_eq!(all.len(), 7);
    for n in 1..9 {
        let (mut found, mut at) = (Vec::new(), Some(format!("{target}?n={n}")));
        while let Some(target) = at {
            let (answer, events) = ask(&run, target).await?;
            at = next(&answer);
            assert!(
                events.len() == n || (events.len() < n && at.is_none()),
                "{answer}"
            );
            found.extend(events);
        }
        assert_eq!(found, all, "in pages of {n}");
    }
    // Whether there is such a thing.
    let (answer, events) = ask(&run, format!("{target}?n=0")).await?;
    assert!(events.is_empty());
    answer.lacks("link");
    Ok(())
}

async fn a_history_is_asked_for_by_time_and_by_manifest(run: Run) -> Outcome {
    let (repository, images) = images(&run).await?;
    let target = history(&repository, "t");
    for n in 0..7 {
        run.push_manifest(&repository, "t", &images[n % 3])
            .await?
            .expect(201);
    }
    let (_, all) = ask(&run, target.clone()).await?;
    let times: Vec<String> = all.iter().map(time).collect();
    let of = async |query: String| {
        ask(&run, format!("{target}?{query}"))
            .await
            .map(|(_, events)| events)
    };
    assert_eq!(of(format!("before={}", times[2])).await?, all[3..]);
    assert_eq!(of(format!("since={}", times[2])).await?, all[..3]);
    let both = format!("since={}&before={}", times[5], times[1].replace(':', "%3A"));
    assert_eq!(of(both).await?, all[2..6]);
    assert!(of("before=1999-12-31T23:59:59Z".to_owned()).await?.is_empty());
    assert!(
        of("since=2999-12-31T23:59:59.5%2B02:00".to_owned())
            .await?
            .is_empty()
    );
    let about: Vec<Value> = all
        .iter()
        .filter(|event| event["digest"] == *images[1].digest)
        .cloned()
        .collect();
    assert_eq!(about.len(), 2);
    assert_eq!(of(format!("digest={}", images[1].digest)).await?, about);
    // One filter and pages of another: the way to the next keeps both.
    let (answer, events) = ask(
        &run,
        format!("{target}?n=1&since={}&digest={}", times[6], images[0].digest),
    )
    .await?;
    assert_eq!(events, all[..1]);
    let (mut rest, mut at) = (Vec::new(), next(&answer));
    while let Some(target) = at {
        let (answer, events) = ask(&run, target).await?;
        at = next(&answer);
        rest.extend(events);
    }
    assert_eq!(rest, [all[3].clone(), all[6].clone()]);
    Ok(())
}

async fn a_history_of_what_never_was_is_empty(run: Run) -> Outcome {
    let (repository, [one, ..]) = images(&run).await?;
    run.push_manifest(&repository, "v1", &one).await?.expect(201);
    let unknown = run.elsewhere("unknown");
    for target in [history(&repository, "v2"), history(&unknown, "v1")] {
        let (answer, events) = ask(&run, target).await?;
        assert!(events.is_empty());
        answer.lacks("link");
    }
    let target = history(&repository, "v1");
    for (query, code) in [
        ("n=-1", "UNSUPPORTED"),
        ("before=yesterday", "UNSUPPORTED"),
        ("since=2026-01-31", "UNSUPPORTED"),
        ("digest=latest", "DIGEST_INVALID"),
    ] {
        run.get(format!("{target}?{query}")).await?.error(400, code);
    }
    run.delete(target).await?.error(405, "UNSUPPORTED");
    run.get(history(&repository, "no+tag"))
        .await?
        .error(404, "MANIFEST_UNKNOWN");
    Ok(())
}

async fn annotations_of_manifests_are_not_told_as_those_of_events(run: Run) -> Outcome {
    let (repository, _) = images(&run).await?;
    let config = run.shared_blob("config", 100);
    let image = Manifest::image(&config, &[])
        .annotation(EVENT, "deleted")
        .annotation("other", "x")
        .build();
    run.push_manifest(&repository, "v1", &image).await?.expect(201);
    let (_, events) = ask(&run, history(&repository, "v1")).await?;
    assert_eq!(told(&events), expected(&[("created", &image)]));
    assert_eq!(events[0]["annotations"].as_object().unwrap().len(), 2);
    Ok(())
}

api_tests![
    a_tags_history_is_an_index_of_its_events_the_newest_first,
    what_becomes_of_many_tags_at_once_is_told_of_each,
    a_history_comes_in_pages,
    a_history_is_asked_for_by_time_and_by_manifest,
    a_history_of_what_never_was_is_empty,
    annotations_of_manifests_are_not_told_as_those_of_events,
];
