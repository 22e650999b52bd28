//! What is attached to images is shown with them, and where it isn't known nothing is said.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{asked, push_manifest, within};
use crate::{
    admission::Visible,
    config::limits::SearchLimits,
    oci::{Algorithm, Digest},
    registry::Registry,
    search::{Answer, Search},
    storage::MemoryMeta,
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SIGNATURE: &str = "application/vnd.cncf.notary.signature";

/// Looks at so many referrers of a repository, and of so many manifests by themselves.
fn looking_at(referrers: usize, page: usize) -> Arc<Search> {
    let limits = SearchLimits {
        referrers,
        page,
        ..SearchLimits::default()
    };
    within(Arc::new(MemoryMeta::default()), limits)
}

fn index(of: &str) -> String {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": { "of": of } })
        .to_string()
}

fn referrer(subject: &str, artifact_type: &str, of: &str) -> String {
    json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "artifactType": artifact_type,
        "manifests": [],
        "subject": { "mediaType": INDEX, "digest": digest(subject), "size": subject.len() },
        "annotations": { "of": of },
    })
    .to_string()
}

fn digest(manifest: &str) -> String {
    Digest::of(Algorithm::Sha256, manifest.as_bytes()).to_string()
}

/// Pushes a manifest by its digest.
async fn push(registry: &Registry, repository: &str, manifest: String) {
    push_manifest(registry, repository, &digest(&manifest), manifest).await;
}

async fn answered(search: &Arc<Search>, query: String) -> Answer {
    let (end, answers) = (CancellationToken::new(), TaskTracker::new());
    answers.spawn(search.clone().run(end.clone()));
    let answer = asked(search, Visible::Everything, query).await;
    end.cancel();
    answers.close();
    answers.wait().await;
    assert!(answer.body["errors"].is_null(), "{}", answer.body);
    answer
}

#[tokio::test]
async fn what_refers_to_an_image_is_shown_with_it_whatever_refers_to_others() {
    let search = looking_at(1, 100);
    let signed = [index("a"), index("b")];
    // In either repository both are signed, and another one has the tag.
    for (repository, tagged) in ["x", "y"].into_iter().zip(&signed) {
        for manifest in &signed {
            push(&search.registry, repository, manifest.clone()).await;
            let signature = referrer(manifest, SIGNATURE, "");
            push(&search.registry, repository, signature).await;
        }
        push_manifest(&search.registry, repository, "v1", tagged.clone()).await;
        let shown = "IsSigned SignatureInfo{Tool} Referrers{ArtifactType}";
        let only_signed = "filter:{HasToBeSigned:true}";
        let digest = digest(tagged);
        let query = format!(
            "{{Image(image:\"{repository}:v1\"){{{shown}}} \
             ImageList(repo:\"{repository}\"){{Results{{{shown}}}}} \
             ExpandedRepoInfo(repo:\"{repository}\"){{Images{{{shown}}}}} \
             byTag:GlobalSearch(query:\"{repository}:v1\"){{Images{{{shown}}}}} \
             signed:GlobalSearch(query:\"{repository}:v1\" {only_signed}){{Images{{{shown}}}}} \
             byDigest:GlobalSearch(query:\"{digest}\" {only_signed}){{Images{{{shown}}}}} \
             byName:GlobalSearch(query:\"{repository}\" {only_signed}){{Repos{{NewestImage{{{shown} Tag}}}}}}}}"
        );
        let answer = answered(&search, query).await;
        assert!(!answer.is_partial, "{}", answer.body);
        for path in [
            "/Image",
            "/ImageList/Results/0",
            "/ExpandedRepoInfo/Images/0",
            "/byTag/Images/0",
            "/signed/Images/0",
            "/byDigest/Images/0",
            "/byName/Repos/0/NewestImage",
        ] {
            let mut found = answer.body["data"].pointer(path).unwrap().clone();
            found.as_object_mut().unwrap().remove("Tag");
            let expected = json!({
                "IsSigned": true,
                "SignatureInfo": [{ "Tool": "notation" }],
                "Referrers": [{ "ArtifactType": SIGNATURE }],
            });
            assert_eq!(found, expected, "{path} of {repository}");
        }
    }
}

#[tokio::test]
async fn what_was_not_looked_at_is_not_said_to_be_unsigned() {
    let search = looking_at(1, 1);
    for of in ["a", "b", "c"] {
        let image = index(of);
        push_manifest(&search.registry, "r", of, image.clone()).await;
        push(&search.registry, "r", referrer(&image, SIGNATURE, "")).await;
    }
    let query =
        "{ExpandedRepoInfo(repo:\"r\"){Images{IsSigned SignatureInfo{Tool} Referrers{ArtifactType}}}}";
    let answer = answered(&search, query.to_owned()).await;
    assert!(answer.is_partial, "{}", answer.body);
    let images = answer.body["data"]["ExpandedRepoInfo"]["Images"]
        .as_array()
        .unwrap();
    let (known, unknown): (Vec<&Value>, _) = images.iter().partition(|image| image["IsSigned"] == true);
    // The first of all, and that of one image.
    assert!([1, 2].contains(&known.len()) && images.len() == 3, "{images:?}");
    for image in unknown {
        let nothing = json!({ "IsSigned": null, "SignatureInfo": null, "Referrers": null });
        assert_eq!(*image, nothing);
    }
}

#[tokio::test]
async fn an_image_with_more_referrers_than_are_looked_at_is_not_said_to_be_unsigned() {
    let search = looking_at(1, 100);
    let image = index("a");
    let signature = referrer(&image, SIGNATURE, "");
    let other = |n: u32| referrer(&image, "application/x", &n.to_string());
    // It comes first.
    let other = (0..).map(other).find(|other| digest(other) < digest(&signature));
    push_manifest(&search.registry, "r", "v1", image).await;
    for referrer in [signature, other.unwrap()] {
        push(&search.registry, "r", referrer).await;
    }
    let query = "{Image(image:\"r:v1\"){IsSigned Referrers{ArtifactType}} \
                 RepoListWithNewestImage{Results{NewestImage{IsSigned}}}}";
    let answer = answered(&search, query.to_owned()).await;
    let expected = json!({
        "Image": { "IsSigned": null, "Referrers": [{ "ArtifactType": "application/x" }] },
        // Who finds out about a repository looks for signatures alone, and further.
        "RepoListWithNewestImage": { "Results": [{ "NewestImage": { "IsSigned": true } }] },
    });
    assert!(answer.is_partial, "{}", answer.body);
    assert_eq!(answer.body["data"], expected);
}
