//! Changes that are made only if a tag, or a manifest, is what their caller thinks it is.

use futures_util::future::join_all;

use super::{super::testing::*, tests::*, *};
use crate::{oci::EntityTags, storage::faulty::FaultRates};

/// `If-Match` of what has this body.
fn is(body: &[u8]) -> Preconditions {
    Preconditions {
        if_match: listed(body),
        if_none_match: None,
    }
}

/// `If-None-Match` of it.
fn is_not(body: &[u8]) -> Preconditions {
    Preconditions {
        if_match: None,
        if_none_match: listed(body),
    }
}

fn listed(body: &[u8]) -> Option<EntityTags> {
    EntityTags::parse([format!("\"{}\"", sha256(body)).as_bytes()]).unwrap()
}

/// `If-Match: *` and `If-None-Match: *`.
fn anything() -> [Preconditions; 2] {
    let any = Some(EntityTags::Any);
    [
        Preconditions {
            if_match: any.clone(),
            if_none_match: None,
        },
        Preconditions {
            if_match: None,
            if_none_match: any,
        },
    ]
}

/// Says what was there instead; `None` is that it was done.
fn unmet(result: Result<()>) -> Option<Option<Digest>> {
    match result {
        Ok(()) => None,
        Err(RegistryError::PreconditionFailed { current }) => Some(current),
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_push_is_made_if_what_its_reference_names_is_as_it_should_be() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let mut bodies = Vec::new();
    for note in ["1", "2", "3"] {
        bodies.push(pushed_image(&one, &name, note).await);
    }
    let [first, second, third] = [0, 1, 2].map(|n| bodies[n].clone());
    let [something, nothing] = &anything();
    let t = by_tag("t");
    let push = async |reference: &Reference, body: &Bytes, only_if: &Preconditions| {
        let push = PutManifest {
            only_if,
            ..put(&name, reference, body)
        };
        unmet(two.put_manifest(push).await.map(drop))
    };
    let named = async || {
        one.describe_manifest(&name, &t)
            .await
            .map(|found| found.digest)
            .ok()
    };
    let there = |body: &Bytes| Some(Some(sha256(body)));

    // Of a tag that isn't there.
    for only_if in [something, &is(&first)] {
        assert_eq!(push(&t, &first, only_if).await, Some(None));
        assert!(repository_row(&world, &name).await.is_none(), "nothing was done");
    }
    assert_eq!(push(&t, &first, nothing).await, None);
    // Of one that is.
    for only_if in [nothing, &is(&second), &is_not(&first)] {
        assert_eq!(push(&t, &second, only_if).await, there(&first));
        assert_eq!(named().await, Some(sha256(&first)));
    }
    assert_eq!(push(&t, &second, &is(&first)).await, None);
    // The answer was lost, and it is asked for again: done already. That a tag isn't there is another thing.
    assert_eq!(push(&t, &second, &is(&first)).await, None);
    assert_eq!(push(&t, &second, nothing).await, there(&second));
    assert_eq!(push(&t, &second, &is_not(&second)).await, there(&second));
    // It moved on, so it isn't a repetition.
    assert_eq!(push(&t, &third, something).await, None);
    assert_eq!(push(&t, &second, &is(&first)).await, there(&third));
    assert_eq!(named().await, Some(sha256(&third)));
    assert_eq!(push(&t, &second, &is_not(&first)).await, None);

    // By digest it is about the manifest.
    let fourth = pushed_image(&one, &name, "4").await;
    let digest = by_digest(&fourth);
    assert_eq!(push(&digest, &fourth, something).await, Some(None));
    assert_eq!(push(&digest, &fourth, nothing).await, None);
    assert_eq!(push(&digest, &fourth, nothing).await, there(&fourth));
    assert_eq!(push(&digest, &fourth, &is(&fourth)).await, None);
}

#[tokio::test]
async fn tags_beside_are_moved_under_the_condition_of_the_reference() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let (first, second) = (
        pushed_image(&one, &name, "1").await,
        pushed_image(&one, &name, "2").await,
    );
    let (t, beside) = (by_tag("t"), [tag("beside")]);
    one.put_manifest(put(&name, &t, &first)).await.unwrap();
    let push = async |body, only_if: &Preconditions| {
        let push = PutManifest {
            only_if,
            tags: &beside,
            ..put(&name, &t, body)
        };
        unmet(one.put_manifest(push).await.map(drop))
    };
    assert_eq!(push(&second, &is(&second)).await, Some(Some(sha256(&first))));
    assert_eq!(tags_of(&one, &name).await, ["t"]);
    assert_eq!(push(&second, &is(&first)).await, None);
    assert_eq!(tags_of(&one, &name).await, ["beside", "t"]);
    assert_eq!(push(&second, &is(&first)).await, None);
    // The tag is right, but not all was done: no repetition of anything.
    one.put_manifest(put(&name, &by_tag("beside"), &first))
        .await
        .unwrap();
    assert_eq!(push(&second, &is(&first)).await, Some(Some(sha256(&second))));
    assert_eq!(push(&second, &is(&second)).await, None);
}

#[tokio::test]
async fn conditions_come_after_rights_and_before_content() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let first = pushed_image(&one, &name, "1").await;
    one.put_manifest(put(&name, &by_tag("t"), &first)).await.unwrap();
    let config = push(&one, &name, b"{}").await;
    let incomplete = image(&[&config, &sha256(b"absent")], "");
    let [_, nothing] = &anything();
    let reference = by_tag("t");
    let attempt = async |update, only_if| {
        let push = PutManifest {
            only_if,
            may: MayPush { create: true, update },
            ..put(&name, &reference, &incomplete)
        };
        one.put_manifest(push).await.map(drop)
    };
    assert!(matches!(
        attempt(false, nothing).await,
        Err(RegistryError::Denied)
    ));
    assert_eq!(unmet(attempt(true, nothing).await), Some(Some(sha256(&first))));
    assert!(matches!(
        attempt(true, &is(&first)).await,
        Err(RegistryError::ManifestBlobUnknown { .. })
    ));
}

#[tokio::test]
async fn a_delete_is_made_if_what_its_reference_names_is_as_it_should_be() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let (first, second) = (
        pushed_image(&one, &name, "1").await,
        pushed_image(&one, &name, "2").await,
    );
    let [something, nothing] = &anything();
    let deletes = async |reference: &Reference, only_if: &Preconditions| {
        let delete = DeleteManifest {
            only_if,
            ..delete(&name, reference)
        };
        two.delete_manifest(delete).await
    };
    for (reference, other, right) in [
        (by_tag("t"), is(&second), is(&first)),
        (by_tag("t"), nothing.clone(), something.clone()),
        (by_tag("t"), is_not(&first), is_not(&second)),
        (by_digest(&first), is(&second), is(&first)),
        (by_digest(&first), nothing.clone(), something.clone()),
    ] {
        one.put_manifest(put(&name, &by_tag("t"), &first)).await.unwrap();
        assert_eq!(
            unmet(deletes(&reference, &other).await),
            Some(Some(sha256(&first)))
        );
        assert_eq!(
            one.describe_manifest(&name, &by_tag("t")).await.unwrap().digest,
            sha256(&first)
        );
        assert_eq!(unmet(deletes(&reference, &right).await), None);
        // What isn't there isn't, under any condition.
        for only_if in [&right, &other, UNCONDITIONAL] {
            let gone = deletes(&reference, only_if).await;
            assert!(matches!(gone, Err(RegistryError::ManifestUnknown)), "{gone:?}");
        }
    }
}

/// A tag that many use as a counter, each reading it and moving it on if nobody else did meanwhile.
async fn counted(members: &[&Registry], name: &RepoName, blobs: [&Digest; 2], turns: u64) -> u64 {
    let document = |count: u64, by: usize| image(&[blobs[0], blobs[1]], &format!("{count} {by}"));
    let first = document(0, 0);
    let reference = by_tag("count");
    loop {
        match members[0].put_manifest(put(name, &reference, &first)).await {
            Ok(_) => break,
            Err(error) => assert!(passes(&error), "{error:?}"),
        }
    }
    let clients = (0..6_usize).map(|client| {
        let reference = &reference;
        async move {
            let mut moved = 0_u64;
            let mut unknown = 0_u64;
            while moved < turns {
                let member = members[client % members.len()];
                let Ok((descriptor, read)) = member.manifest(name, reference).await else {
                    continue;
                };
                let read: serde_json::Value = serde_json::from_slice(&read).unwrap();
                let note = read["annotations"]["note"].as_str().unwrap();
                let count: u64 = note.split(' ').next().unwrap().parse().unwrap();
                let next = document(count + 1, client);
                let only_if = Preconditions {
                    if_match: EntityTags::parse([format!("\"{}\"", descriptor.digest).as_bytes()]).unwrap(),
                    if_none_match: None,
                };
                let push = PutManifest {
                    only_if: &only_if,
                    ..put(name, reference, &next)
                };
                match member.put_manifest(push).await {
                    Ok(_) => moved += 1,
                    Err(RegistryError::OutcomeUnknown) => unknown += 1,
                    Err(RegistryError::PreconditionFailed { .. }) => {}
                    Err(error) => assert!(passes(&error), "{error:?}"),
                }
            }
            (moved, unknown)
        }
    });
    let done = join_all(clients).await;
    let (moved, unknown): (u64, u64) = done
        .iter()
        .fold((0, 0), |(moved, unknown), (m, u)| (moved + m, unknown + u));
    assert_eq!(moved, 6 * turns);
    unknown
}

/// Whether it is worth another try.
fn passes(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Contended
            | RegistryError::Deadline
            | RegistryError::Store(_)
            | RegistryError::OutcomeUnknown
    )
}

/// What the counter says.
async fn count(registry: &Registry, name: &RepoName) -> u64 {
    let (_, read) = registry.manifest(name, &by_tag("count")).await.unwrap();
    let read: serde_json::Value = serde_json::from_slice(&read).unwrap();
    let note = read["annotations"]["note"].as_str().unwrap();
    note.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_tag_that_many_move_on_through_several_members_loses_nobodys_change() {
    let world = World::new();
    let (one, two, three, name) = (world.member(1), world.member(2), world.member(3), repo("a"));
    let blobs = [push(&one, &name, b"{}").await, push(&one, &name, b"layer").await];
    let unknown = counted(&[&one, &two, &three], &name, [&blobs[0], &blobs[1]], 20).await;
    assert_eq!((unknown, count(&two, &name).await), (0, 120));
}

#[tokio::test]
async fn nor_does_it_over_stores_that_fail() {
    for seed in 0..10 {
        let world = World::with_faults(seed, FaultRates::each(0.03));
        let plan = world.faults.clone().unwrap();
        plan.disable();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let blobs = [push(&one, &name, b"{}").await, push(&one, &name, b"layer").await];
        plan.enable();
        let unknown = counted(&[&one, &two], &name, [&blobs[0], &blobs[1]], 6).await;
        plan.disable();
        let calm = world.settled().await;
        let count = count(&calm, &name).await;
        // Each of those whose outcome wasn't known counts once, or not at all.
        assert!(
            (36..=36 + unknown).contains(&count),
            "{count}, {unknown} with seed {seed}"
        );
    }
}
