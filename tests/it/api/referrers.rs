//! Referrers: manifests with a subject.

use serde_json::{Value, json};

use super::{Outcome, Run, api_tests, discovery::next};
use crate::support::{
    client::{Answer, Ask as _, Broken},
    content::{Blob, INDEX, Manifest},
};

/// A repository, a config and a subject in it. The content is the same in all runs: the order of a listing is that of
/// digests.
async fn subject(run: &Run) -> Result<(String, Blob, Manifest), Broken> {
    let repository = run.repository("repo");
    let config = run.shared_blob("config", 100);
    run.push_blob(&repository, &config).await?.expect(201);
    let subject = Manifest::image(&config, &[]).annotation("a", "subject").build();
    Ok((repository, config, subject))
}

async fn ask(run: &Run, target: String) -> Result<(Answer, Vec<Value>), Broken> {
    let answer = run.get(target).await?.expect(200).with("content-type", INDEX);
    let index = answer.json();
    assert_eq!(index["schemaVersion"], 2);
    assert_eq!(index["mediaType"], INDEX);
    let manifests = index["manifests"].as_array().expect("manifests").clone();
    Ok((answer, manifests))
}

fn by_digest(mut descriptors: Vec<Value>) -> Vec<Value> {
    descriptors.sort_by_key(|descriptor| descriptor["digest"].as_str().unwrap().to_owned());
    descriptors
}

async fn nothing_refers_to_what_is_unknown(run: Run) -> Outcome {
    let (repository, config, subject) = subject(&run).await?;
    for repository in [&repository, &run.elsewhere("unknown")] {
        for digest in [&config.digest, &subject.digest, &config.sha512()] {
            let (answer, manifests) = ask(&run, format!("/v2/{repository}/referrers/{digest}")).await?;
            assert!(manifests.is_empty());
            answer.lacks("link").lacks("oci-filters-applied");
        }
    }
    for digest in ["sha256:abc", "latest", "md5:0123456789abcdef0123456789abcdef"] {
        run.get(format!("/v2/{repository}/referrers/{digest}"))
            .await?
            .error(400, "DIGEST_INVALID");
    }
    Ok(())
}

async fn referrers_are_described_whatever_came_first(run: Run) -> Outcome {
    let (repository, config, subject) = subject(&run).await?;
    let by_config = Manifest::image(&config, &[]).subject(&subject).build();
    let by_type = Manifest::image(&config, &[])
        .subject(&subject)
        .artifact_type("application/vnd.example.sbom")
        .annotation("org.example.format", "json")
        .annotation("org.example.empty", "")
        .build();
    let index = Manifest::index([]).subject(&subject).build();
    let typed_index = Manifest::index([])
        .subject(&subject)
        .artifact_type("application/vnd.example.set")
        .build();
    let unrelated = Manifest::image(&config, &[]).build();
    run.push_manifest(&repository, &by_config.digest, &by_config)
        .await?
        .expect(201)
        .with("oci-subject", &subject.digest);
    run.push_manifest(&repository, "index", &index)
        .await?
        .expect(201)
        .with("oci-subject", &subject.digest);
    run.push_manifest(&repository, "subject", &subject)
        .await?
        .expect(201)
        .lacks("oci-subject");
    run.push_manifest(&repository, "by-type", &by_type)
        .await?
        .expect(201)
        .with("oci-subject", &subject.digest);
    run.push_manifest(&repository, "typed-index", &typed_index)
        .await?
        .expect(201);
    run.push_manifest(&repository, "unrelated", &unrelated)
        .await?
        .expect(201);

    let described = |manifest: &Manifest, artifact_type: Option<&str>, annotations: Option<Value>| {
        let mut descriptor = manifest.descriptor();
        if let Some(artifact_type) = artifact_type {
            descriptor["artifactType"] = artifact_type.into();
        }
        if let Some(annotations) = annotations {
            descriptor["annotations"] = annotations;
        }
        descriptor
    };
    let annotations = json!({ "org.example.format": "json", "org.example.empty": "" });
    let expected = vec![
        described(&by_config, Some("application/vnd.oci.image.config.v1+json"), None),
        described(&by_type, Some("application/vnd.example.sbom"), Some(annotations)),
        described(&index, None, None),
        described(&typed_index, Some("application/vnd.example.set"), None),
    ];
    let (answer, manifests) = ask(&run, format!("/v2/{repository}/referrers/{}", subject.digest)).await?;
    assert_eq!(by_digest(manifests), by_digest(expected));
    answer.lacks("link").lacks("oci-filters-applied");
    Ok(())
}

async fn referrers_are_filtered_by_artifact_type(run: Run) -> Outcome {
    let (repository, config, subject) = subject(&run).await?;
    let mut pushed = Vec::new();
    for artifact_type in [
        "application/vnd.a",
        "application/vnd.b+json",
        "application/vnd.a",
        "application/vnd.c",
    ] {
        let manifest = Manifest::image(&config, &[])
            .subject(&subject)
            .artifact_type(artifact_type)
            .annotation("number", &pushed.len().to_string())
            .build();
        run.push_manifest(&repository, &manifest.digest, &manifest)
            .await?
            .expect(201);
        pushed.push(manifest.digest);
    }
    let list = |query: &str| format!("/v2/{repository}/referrers/{}{query}", subject.digest);
    for (query, expected) in [
        ("?artifactType=application/vnd.a", vec![0, 2]),
        ("?artifactType=application%2Fvnd.b%2Bjson", vec![1]),
        ("?artifactType=application/vnd.b+json", vec![1]),
        ("?artifactType=application/vnd.none", vec![]),
        (
            "?artifactType=application/vnd.a&artifactType=application/vnd.c",
            vec![0, 2, 3],
        ),
    ] {
        let (answer, manifests) = ask(&run, list(query)).await?;
        let mut found: Vec<&str> = manifests
            .iter()
            .map(|found| found["digest"].as_str().unwrap())
            .collect();
        let mut expected: Vec<&str> = expected.into_iter().map(|n: usize| &*pushed[n]).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{query}");
        answer.with("oci-filters-applied", "artifactType");
    }
    Ok(())
}

async fn referrers_are_listed_page_by_page(run: Run) -> Outcome {
    let (repository, config, subject) = subject(&run).await?;
    let mut pushed = Vec::new();
    for n in 0..7 {
        let manifest = Manifest::image(&config, &[])
            .subject(&subject)
            .artifact_type(if n % 2 == 0 {
                "application/vnd.even"
            } else {
                "application/vnd.odd"
            })
            .annotation("number", &n.to_string())
            .build();
        run.push_manifest(&repository, &manifest.digest, &manifest)
            .await?
            .expect(201);
        pushed.push((n, manifest.digest));
    }
    let evens: Vec<&String> = pushed
        .iter()
        .filter(|(n, _)| n % 2 == 0)
        .map(|(_, digest)| digest)
        .collect();
    let all: Vec<&String> = pushed.iter().map(|(_, digest)| digest).collect();
    for (query, expected) in [
        ("?n=3", &all),
        ("?n=7", &all),
        ("?n=3&artifactType=application/vnd.even", &evens),
        ("?n=1&artifactType=application/vnd.even", &evens),
    ] {
        let mut found = Vec::new();
        let mut target = Some(format!("/v2/{repository}/referrers/{}{query}", subject.digest));
        let mut pages = 0;
        while let Some(page) = target {
            let (answer, manifests) = ask(&run, page).await?;
            assert!(manifests.len() <= 7);
            found.extend(
                manifests
                    .iter()
                    .map(|found| found["digest"].as_str().unwrap().to_owned()),
            );
            target = next(&answer);
            pages += 1;
            assert!(pages < 50, "pages without end");
        }
        // In order and none twice.
        assert!(found.is_sorted(), "{query}");
        let mut expected: Vec<String> = expected.iter().map(|digest| (*digest).clone()).collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "{query}");
    }
    run.get(format!("/v2/{repository}/referrers/{}?n=x", subject.digest))
        .await?
        .error(400, "UNSUPPORTED");
    Ok(())
}

async fn annotations_too_long_for_a_row_are_listed(run: Run) -> Outcome {
    let (repository, config, subject) = subject(&run).await?;
    let long = "x".repeat(1 << 20);
    let manifest = Manifest::image(&config, &[])
        .subject(&subject)
        .annotation("long", &long)
        .build();
    run.push_manifest(&repository, &manifest.digest, &manifest)
        .await?
        .expect(201);
    let (_, manifests) = ask(&run, format!("/v2/{repository}/referrers/{}", subject.digest)).await?;
    assert_eq!(manifests.len(), 1);
    assert_eq!(manifests[0]["digest"], manifest.digest);
    assert_eq!(
        manifests[0]["annotations"]["long"].as_str().map(str::len),
        Some(1 << 20)
    );
    Ok(())
}

async fn a_deleted_manifest_refers_to_nothing(run: Run) -> Outcome {
    let (repository, config, subject) = subject(&run).await?;
    run.push_manifest(&repository, "subject", &subject)
        .await?
        .expect(201);
    let manifest = Manifest::image(&config, &[]).subject(&subject).build();
    let referrers = format!("/v2/{repository}/referrers/{}", subject.digest);
    for _ in 0..2 {
        run.push_manifest(&repository, "v1", &manifest).await?.expect(201);
        assert_eq!(ask(&run, referrers.clone()).await?.1.len(), 1);
        // The tag isn't what refers.
        run.delete(format!("/v2/{repository}/manifests/v1"))
            .await?
            .expect(202);
        assert_eq!(ask(&run, referrers.clone()).await?.1.len(), 1);
        run.delete(format!("/v2/{repository}/manifests/{}", manifest.digest))
            .await?
            .expect(202);
        assert_eq!(ask(&run, referrers.clone()).await?.1.len(), 0);
    }
    Ok(())
}

async fn a_deleted_subject_keeps_its_referrers(run: Run) -> Outcome {
    let (repository, config, subject) = subject(&run).await?;
    run.push_manifest(&repository, "subject", &subject)
        .await?
        .expect(201);
    let manifest = Manifest::image(&config, &[]).subject(&subject).build();
    run.push_manifest(&repository, &manifest.digest, &manifest)
        .await?
        .expect(201);
    run.delete(format!("/v2/{repository}/manifests/{}", subject.digest))
        .await?
        .expect(202);
    let (_, manifests) = ask(&run, format!("/v2/{repository}/referrers/{}", subject.digest)).await?;
    assert_eq!(manifests.len(), 1);
    run.get(format!("/v2/{repository}/manifests/{}", manifest.digest))
        .await?
        .expect(200);
    Ok(())
}

api_tests![
    nothing_refers_to_what_is_unknown,
    referrers_are_described_whatever_came_first,
    referrers_are_filtered_by_artifact_type,
    referrers_are_listed_page_by_page,
    annotations_too_long_for_a_row_are_listed,
    a_deleted_manifest_refers_to_nothing,
    a_deleted_subject_keeps_its_referrers,
];
