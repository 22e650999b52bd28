//! Listings of tags and repositories, and their pages.

use serde_json::{Value, json};

use super::{Outcome, Run, api_tests, manifests::config};
use crate::support::{
    client::{Answer, Ask as _, Broken},
    content::Manifest,
};

/// Where `Link` leads to, if anywhere.
#[track_caller]
pub(crate) fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let target = link
        .strip_prefix('<')
        .and_then(|rest| rest.strip_suffix(">; rel=\"next\""))
        .unwrap_or_else(|| panic!("not as RFC 5988 has it: {answer}"));
    assert!(target.starts_with("/v2/"), "not path-absolute: {answer}");
    Some(target.to_owned())
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry.as_str().unwrap().to_owned())
        .collect()
}

/// The entries of all pages from `target` on, a list for each page.
async fn pages(run: &Run, target: String, field: &str) -> Result<Vec<Vec<String>>, Broken> {
    let mut pages = Vec::new();
    let mut next_target = Some(target);
    while let Some(target) = next_target {
        let answer = run
            .get(target)
            .await?
            .expect(200)
            .with("content-type", "application/json");
        pages.push(strings(&answer.json()[field]));
        next_target = next(&answer);
        assert!(pages.len() < 100, "pages without end");
    }
    Ok(pages)
}

async fn tags_are_listed_in_byte_order(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifest = Manifest::image(&config, &[]).build();
    let mut tags = [
        "b", "a", "B", "_x", "1.0", "1.10", "1.9", "a.b", "a-b", "a_b", "aa", "latest", "Z",
    ];
    for tag in tags {
        run.push_manifest(&repository, tag, &manifest).await?.expect(201);
    }
    tags.sort_unstable();
    let answer = run
        .get(format!("/v2/{repository}/tags/list"))
        .await?
        .expect(200)
        .lacks("link");
    assert_eq!(answer.json(), json!({ "name": repository, "tags": tags }));
    Ok(())
}

async fn tags_are_listed_page_by_page(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifest = Manifest::image(&config, &[]).build();
    for tag in ["a", "b", "c", "d", "e", "f"] {
        run.push_manifest(&repository, tag, &manifest).await?.expect(201);
    }
    let list = |query: &str| format!("/v2/{repository}/tags/list{query}");
    for (query, expected) in [
        ("", vec![vec!["a", "b", "c", "d", "e", "f"]]),
        ("?n=4", vec![vec!["a", "b", "c", "d"], vec!["e", "f"]]),
        ("?n=1&last=d", vec![vec!["e"], vec!["f"]]),
        // A full last page has no next one.
        ("?n=3", vec![vec!["a", "b", "c"], vec!["d", "e", "f"]]),
        ("?n=6", vec![vec!["a", "b", "c", "d", "e", "f"]]),
        (
            "?n=100000000000000000000",
            vec![vec!["a", "b", "c", "d", "e", "f"]],
        ),
        ("?last=d", vec![vec!["e", "f"]]),
        // What `last` names needn't be there.
        ("?last=dd", vec![vec!["e", "f"]]),
        ("?last=", vec![vec!["a", "b", "c", "d", "e", "f"]]),
        ("?last=f", vec![vec![]]),
        ("?last=zz&n=2", vec![vec![]]),
        ("?n=0", vec![vec![]]),
        ("?n=0&last=b", vec![vec![]]),
    ] {
        assert_eq!(pages(&run, list(query), "tags").await?, expected, "{query}");
    }
    for query in ["?n=-1", "?n=a", "?n=", "?n=1.5", "?n=%201"] {
        run.get(list(query)).await?.error(400, "UNSUPPORTED");
    }
    let long = "x".repeat(300);
    run.get(list(&format!("?last={long}")))
        .await?
        .error(400, "UNSUPPORTED");
    Ok(())
}

async fn a_page_goes_on_although_its_last_tag_was_deleted(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifest = Manifest::image(&config, &[]).build();
    for tag in ["a", "b", "c"] {
        run.push_manifest(&repository, tag, &manifest).await?.expect(201);
    }
    let answer = run
        .get(format!("/v2/{repository}/tags/list?n=2"))
        .await?
        .expect(200);
    run.delete(format!("/v2/{repository}/manifests/b"))
        .await?
        .expect(202);
    assert_eq!(
        pages(&run, next(&answer).expect("a next page"), "tags").await?,
        [["c"]]
    );
    Ok(())
}

async fn more_tags_than_a_page_holds_are_all_listed(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let config = config(&run, &repository).await?;
    let manifest = Manifest::image(&config, &[]).build();
    let mut tags: Vec<String> = (0..1020).map(|n| format!("t{n}")).collect();
    // Quietly: 34 requests tell a door from another as well as a thousand.
    for batch in tags.chunks(30) {
        let query: Vec<String> = batch.iter().map(|tag| format!("tag={tag}")).collect();
        let target = format!(
            "/v2/{repository}/manifests/{}?{}",
            manifest.digest,
            query.join("&")
        );
        let request = crate::support::client::Request::put(target)
            .header("content-type", &manifest.media_type)
            .body(manifest.bytes.clone());
        run.ask(request).await?.expect(201);
    }
    tags.sort_unstable();
    let pages = pages(&run, format!("/v2/{repository}/tags/list"), "tags").await?;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 20]);
    assert_eq!(pages.concat(), tags);
    Ok(())
}

async fn the_catalogue_lists_what_has_a_manifest_page_by_page(run: Run) -> Outcome {
    let mut names: Vec<String> = ["a", "a/b", "a-b", "a0", "b/c/d"]
        .into_iter()
        .enumerate()
        .map(|(n, kind)| {
            if n % 2 == 0 {
                run.repository(kind)
            } else {
                run.elsewhere(kind)
            }
        })
        .collect();
    // Only blobs, or an upload, make no repository.
    run.push_blob(&run.repository("only-a-blob"), &run.blob("blob", 10))
        .await?
        .expect(201);
    run.start(&run.repository("only-an-upload")).await?.expect(202);
    for name in &names {
        let config = config(&run, name).await?;
        let manifest = Manifest::image(&config, &[]).build();
        run.push_manifest(name, &manifest.digest, &manifest)
            .await?
            .expect(201);
    }
    names.sort_unstable();
    // Earlier runs' repositories sort before this run's, later ones' aren't there yet.
    let before = run.prefix();
    let before = before.trim_end_matches('/');
    for (n, expected) in [(1000, vec![5]), (2, vec![2, 2, 1]), (5, vec![5]), (1, vec![1; 5])] {
        let pages = pages(&run, format!("/v2/_catalog?n={n}&last={before}"), "repositories").await?;
        assert_eq!(pages.concat(), names);
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), expected);
    }
    let none = run
        .get("/v2/_catalog?n=0".into())
        .await?
        .expect(200)
        .lacks("link");
    assert_eq!(none.json(), json!({ "repositories": [] }));
    run.get("/v2/_catalog?n=x".into())
        .await?
        .error(400, "UNSUPPORTED");
    // With its last manifest a repository leaves the catalogue.
    let manifest = Manifest::image(&run.blob("config", 100), &[]).build();
    run.delete(format!("/v2/{}/manifests/{}", names[1], manifest.digest))
        .await?
        .expect(202);
    names.remove(1);
    let pages = pages(&run, format!("/v2/_catalog?last={before}"), "repositories").await?;
    assert_eq!(pages, [names]);
    Ok(())
}

api_tests![
    tags_are_listed_in_byte_order,
    tags_are_listed_page_by_page,
    a_page_goes_on_although_its_last_tag_was_deleted,
    more_tags_than_a_page_holds_are_all_listed,
    the_catalogue_lists_what_has_a_manifest_page_by_page,
];
