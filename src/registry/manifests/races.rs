//! Changes of one repository that meet, and stores that fail under them.

use futures_util::future::join_all;

use super::{
    super::{changes::checks::check_history, testing::*},
    tests::*,
    *,
};
use crate::{
    oci::Page,
    storage::{MetaStore as _, Space, faulty::FaultRates, keys},
};

/// Tries until the change was applied or certainly was not allowed; says how often that took another try.
async fn persist<T>(mut attempt: impl AsyncFnMut() -> Result<T>) -> T {
    for _ in 0..200 {
        match attempt().await {
            Ok(done) => return done,
            Err(RegistryError::Contended) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("never applied");
}

#[tokio::test]
async fn no_tag_of_two_members_at_once_is_lost() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let body = pushed_image(&one, &name, "n").await;
    let (one, two) = (&one, &two);
    let pushes = (0..400).map(|n| {
        let (name, body) = (&name, &body);
        async move {
            let member = if n % 2 == 0 { one } else { two };
            let reference = by_tag(&format!("t{n:03}"));
            persist(async || member.put_manifest(put(name, &reference, body)).await).await;
        }
    });
    join_all(pushes).await;
    let expected: Vec<_> = (0..400).map(|n| format!("t{n:03}")).collect();
    assert_eq!(tags_of(one, &name).await, expected);
    let row = repository_row(&world, &name).await.unwrap();
    assert_eq!(row.manifests, 1);
}

#[tokio::test]
async fn pushes_and_deletes_at_once_leave_a_consistent_repository() {
    for round in 0..60_u64 {
        let world = World::new();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let mut bodies = Vec::new();
        for n in 0..3 {
            bodies.push(pushed_image(&one, &name, &format!("{n}")).await);
        }
        let (one, two, name, bodies) = (&one, &two, &name, &bodies);
        let work = (0..24_u64).map(|n| async move {
            let member = if n % 2 == 0 { one } else { two };
            let body = &bodies[((n * 7 + round) % 3) as usize];
            let reference = by_tag(&format!("t{}", n % 5));
            let result = match (n + round) % 4 {
                0 | 1 => member.put_manifest(put(name, &reference, body)).await.map(drop),
                2 => member.delete_manifest(delete(name, &by_digest(body))).await,
                _ => {
                    let layer = format!("{}", (n * 7 + round) % 3);
                    match member.delete_blob(name, &sha256(layer.as_bytes()), soon()).await {
                        Ok(()) => {
                            push(member, name, layer.as_bytes()).await;
                            Ok(())
                        }
                        other => other,
                    }
                }
            };
            match result {
                Ok(())
                | Err(
                    RegistryError::Contended
                    | RegistryError::ManifestUnknown
                    | RegistryError::BlobUnknown
                    | RegistryError::Referenced { .. }
                    | RegistryError::ManifestBlobUnknown { .. },
                ) => {}
                Err(error) => panic!("{error:?}"),
            }
        });
        join_all(work).await;
        check(&world, one, name, bodies).await;
    }
}

/// What holds of a repository whatever was done to it.
async fn check(world: &World, registry: &Registry, name: &RepoName, bodies: &[Bytes]) {
    let mut live = 0;
    for body in bodies {
        match registry.manifest(name, &by_digest(body)).await {
            Ok((_, read)) => {
                assert_eq!(read, *body);
                live += 1;
                let manifest = Manifest::parse(None, body).unwrap();
                for blob in manifest.blobs {
                    pull(registry, name, &blob.digest)
                        .await
                        .expect("a live manifest's blobs are there");
                    let reference = keys::reference(name, &blob.digest, &sha256(body));
                    assert!(world.meta.get(&reference).await.unwrap().is_some());
                }
            }
            Err(error) => assert!(matches!(error, RegistryError::ManifestUnknown)),
        }
    }
    let row = repository_row(world, name).await.unwrap_or_default();
    assert_eq!(row.manifests, live);
    check_history(world, registry, name).await;
    assert_eq!(
        catalog(registry).await,
        if live > 0 { vec![name.to_string()] } else { vec![] }
    );
    let mut reverse = Vec::new();
    for body in bodies {
        let prefix = keys::tags_of(&sha256(body));
        let page = world
            .meta
            .range(Space::Repositories, name.as_str(), &prefix, None, 1000)
            .await
            .unwrap();
        let names = page
            .entries
            .iter()
            .map(|entry| entry.sort[prefix.len()..].to_owned());
        for name_of_tag in names {
            let named = registry
                .describe_manifest(name, &by_tag(&name_of_tag))
                .await
                .unwrap();
            assert_eq!(named.digest, sha256(body));
            reverse.push(name_of_tag);
        }
    }
    reverse.sort();
    match registry.tags(name, &Page::default()).await {
        Ok(listed) => {
            assert_eq!(listed.names, reverse);
            for listed in &listed.names {
                registry
                    .manifest(name, &by_tag(listed))
                    .await
                    .expect("a tag names a live manifest");
            }
        }
        Err(error) => assert!(matches!(error, RegistryError::NameUnknown) && reverse.is_empty()),
    }
}

/// One client per tag, each with one request at a time, over two members whose stores fail. What a tag names at the end
/// was acknowledged last, or was asked for by a request after that whose outcome is unknown: such a request counts at
/// most once, and never after a later one of the same client was acknowledged.
#[tokio::test]
async fn faults_lose_no_acknowledged_change_and_apply_none_twice() {
    for seed in 0..40_u64 {
        let world = World::with_faults(seed, FaultRates::each(0.02));
        let plan = world.faults.clone().unwrap();
        plan.disable();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let mut bodies = Vec::new();
        for n in 0..4 {
            bodies.push(pushed_image(&one, &name, &format!("{n}")).await);
        }
        plan.enable();
        let (one, two, name, bodies) = (&one, &two, &name, &bodies);
        let clients = (0..8_u64).map(|client| async move {
            let reference = by_tag(&format!("t{client}"));
            // What the tag may name: none is absent.
            let mut possible: Vec<Option<Digest>> = vec![None];
            for step in 0..12_u64 {
                let member = if (client + step) % 2 == 0 { one } else { two };
                let body = &bodies[((client * 5 + step * 3 + seed) % 4) as usize];
                let (wanted, result) = if step % 4 == 3 {
                    (None, member.delete_manifest(delete(name, &reference)).await)
                } else {
                    let pushed = member.put_manifest(put(name, &reference, body)).await.map(drop);
                    (Some(sha256(body)), pushed)
                };
                match result {
                    Ok(()) => possible = vec![wanted],
                    Err(RegistryError::ManifestUnknown) => assert!(possible.contains(&None)),
                    Err(RegistryError::OutcomeUnknown) => possible.push(wanted),
                    Err(RegistryError::Contended | RegistryError::Store(_) | RegistryError::Deadline) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            (reference, possible)
        });
        let ended = join_all(clients).await;
        plan.disable();
        let calm = world.settled().await;
        for (reference, possible) in ended {
            let named = match calm.describe_manifest(name, &reference).await {
                Ok(descriptor) => Some(descriptor.digest),
                Err(RegistryError::ManifestUnknown) => None,
                Err(error) => panic!("{error:?}"),
            };
            assert!(
                possible.contains(&named),
                "{reference}: {named:?} of {possible:?} with seed {seed}"
            );
        }
        check(&world, &calm, name, bodies).await;
    }
}
