//! Tags that nobody moves or deletes.

use super::{super::testing::*, tests::*, *};
use crate::{
    config::ImmutableTags,
    oci::{RepoPattern, TagPattern},
    registry::Immutable,
};

fn world() -> World {
    let tags = |patterns: &[&str]| {
        patterns
            .iter()
            .map(|text| TagPattern::parse(text).unwrap())
            .collect()
    };
    let rule = ImmutableTags {
        name: "releases".to_owned(),
        repositories: vec![RepoPattern::parse("prod/**").unwrap()],
        tags: tags(&["v*"]),
        except: tags(&["v0.*"]),
    };
    let mut world = World::new();
    world.settings.immutable = Immutable::new(vec![rule]);
    world
}

#[track_caller]
fn is_kept<T: std::fmt::Debug>(result: Result<T>, tag: &str) {
    match result {
        Err(RegistryError::Immutable { tag: kept, rule }) => {
            assert_eq!((kept.as_str(), rule.as_str()), (tag, "releases"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_rule_keeps_is_made_once_and_stays() {
    let world = world();
    let (one, two, name) = (world.member(1), world.member(2), repo("prod/app"));
    let (first, second) = (
        pushed_image(&one, &name, "1").await,
        pushed_image(&one, &name, "2").await,
    );
    for reference in ["v1", "v0.1", "latest"] {
        one.put_manifest(put(&name, &by_tag(reference), &first))
            .await
            .unwrap();
        // The same again is no change.
        two.put_manifest(put(&name, &by_tag(reference), &first))
            .await
            .unwrap();
    }
    is_kept(two.put_manifest(put(&name, &by_tag("v1"), &second)).await, "v1");
    let (tags, digest) = ([tag("new"), tag("v1")], by_digest(&second));
    let push = PutManifest {
        tags: &tags,
        ..put(&name, &digest, &second)
    };
    is_kept(one.put_manifest(push).await, "v1");
    is_kept(one.delete_manifest(delete(&name, &by_tag("v1"))).await, "v1");
    is_kept(two.delete_manifest(delete(&name, &by_digest(&first))).await, "v1");
    // Nothing of all this was done, and whatever no rule keeps can be.
    assert_eq!(tags_of(&one, &name).await, ["latest", "v0.1", "v1"]);
    for reference in ["v0.1", "latest"] {
        one.put_manifest(put(&name, &by_tag(reference), &second))
            .await
            .unwrap();
    }
    one.delete_manifest(delete(&name, &by_digest(&second)))
        .await
        .unwrap();
    assert_eq!(tags_of(&one, &name).await, ["v1"]);
    assert_eq!(
        one.describe_manifest(&name, &by_tag("v1")).await.unwrap().digest,
        sha256(&first)
    );
}

#[tokio::test]
async fn a_rule_is_for_the_repositories_it_names() {
    let world = world();
    let (one, name) = (world.member(1), repo("test/app"));
    for note in ["1", "2"] {
        let body = pushed_image(&one, &name, note).await;
        one.put_manifest(put(&name, &by_tag("v1"), &body)).await.unwrap();
    }
    one.delete_manifest(delete(&name, &by_tag("v1"))).await.unwrap();
}

#[tokio::test]
async fn a_manifest_stays_whole_if_one_of_its_many_tags_has_to_stay() {
    let world = world();
    let (one, name) = (world.member(1), repo("prod/app"));
    let body = pushed_image(&one, &name, "1").await;
    // More than one read of tags gives.
    let tags: Vec<Tag> = (0..1050)
        .map(|n| tag(&format!("t{n:04}")))
        .chain([tag("v1")])
        .collect();
    let digest = by_digest(&body);
    for tags in tags.chunks(30) {
        let push = PutManifest {
            tags,
            ..put(&name, &digest, &body)
        };
        one.put_manifest(push).await.unwrap();
    }
    is_kept(one.delete_manifest(delete(&name, &digest)).await, "v1");
    for kept in ["t0000", "t1049", "v1"] {
        one.describe_manifest(&name, &by_tag(kept)).await.unwrap();
    }
}

#[tokio::test]
async fn a_tag_that_comes_to_be_kept_while_its_manifest_is_deleted_stays() {
    at_every_await(async |polls| {
        let world = world();
        let (one, two, name) = (world.member(1), world.member(2), repo("prod/app"));
        let body = pushed_image(&one, &name, "1").await;
        let (digest, kept) = (by_digest(&body), by_tag("v1"));
        one.put_manifest(put(&name, &digest, &body)).await.unwrap();
        let deleting = one.delete_manifest(delete(&name, &digest));
        let pushing = async { two.put_manifest(put(&name, &kept, &body)).await.unwrap() };
        let (deleted, ended) = interrupted(polls, deleting, pushing).await;
        // Either came first, and the push is acknowledged.
        match deleted {
            Ok(()) => {}
            error => is_kept(error, "v1"),
        }
        assert_eq!(
            two.describe_manifest(&name, &kept).await.unwrap().digest,
            sha256(&body)
        );
        ended
    })
    .await;
}
