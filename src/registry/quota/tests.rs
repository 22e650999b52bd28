//! What is counted is what is linked, whoever races, fails or changes the configuration; and it is never too much.

use futures_util::future::join_all;

use super::{super::testing::*, *};
use crate::{
    registry::{MountSource, Mounted},
    storage::{MetaStore as _, faulty::FaultRates},
};

fn quotas(by_prefix: &[(&str, u64)]) -> Quotas {
    let pairs = by_prefix.iter();
    Quotas(
        pairs
            .map(|(prefix, bytes)| (repo(prefix), NonZeroU64::new(*bytes).unwrap()))
            .collect(),
    )
}

fn limited(by_prefix: &[(&str, u64)]) -> World {
    let mut world = World::new();
    world.settings.quotas = quotas(by_prefix);
    world.settings.limits.attempts = 16;
    world
}

/// What the links say, by the rows that they are counted in.
async fn linked(world: &World) -> BTreeMap<(String, u32), u64> {
    let mut sums = BTreeMap::new();
    for key in world.meta.keys() {
        if key.space != Space::Links {
            continue;
        }
        let link: rows::Link = row::read(&world.meta.get(&key).await.unwrap().unwrap()).unwrap();
        if !link.counted_under.is_empty() {
            *sums.entry((link.counted_under, link.counted_shard)).or_default() += link.size;
        }
    }
    sums
}

/// What the rows of a prefix say.
async fn used(world: &World, prefix: &str) -> u64 {
    Usage::read(&*world.meta, &repo(prefix)).await.unwrap().used()
}

/// Every row is the sum of the links that name it. Gives the sum of each prefix.
async fn consistent(world: &World, prefixes: &[&str]) -> Vec<u64> {
    let mut links = linked(world).await;
    let mut sums = Vec::new();
    for prefix in prefixes {
        let usage = Usage::read(&*world.meta, &repo(prefix)).await.unwrap();
        for (shard, share) in usage.0.iter().enumerate() {
            let of_links = links.remove(&((*prefix).to_owned(), shard as u32));
            assert_eq!(share.used, of_links.unwrap_or(0), "{prefix}, row {shard}");
        }
        sums.push(usage.used());
    }
    assert_eq!(links, BTreeMap::new(), "counted where nobody looks");
    sums
}

async fn try_push(registry: &Registry, name: &str, content: &[u8]) -> Result<()> {
    let length = Some(content.len() as u64);
    registry
        .push_blob(&repo(name), &sha256(content), length, body(content, 64))
        .await
}

#[track_caller]
fn exceeded<T: std::fmt::Debug>(result: Result<T>, expected: (&str, u64, u64, Option<u64>)) {
    match result {
        Err(RegistryError::QuotaExceeded {
            prefix,
            used,
            allowed,
            asked,
        }) => {
            assert_eq!((prefix.as_str(), used, allowed, asked), expected);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_longest_prefix_counts_alone_and_ends_at_a_slash() {
    let quotas = quotas(&[("team", 1), ("team/a/b", 2), ("other/x", 3)]);
    for (name, expected) in [
        ("team", Some("team")),
        ("team/a", Some("team")),
        ("team/a/b", Some("team/a/b")),
        ("team/a/b/c/d", Some("team/a/b")),
        ("team/a/bc", Some("team")),
        ("teams", None),
        ("teams/a", None),
        ("other", None),
        ("other/x", Some("other/x")),
        ("x", None),
    ] {
        let name = repo(name);
        let found = quotas.of(&name).map(|quota| quota.prefix.as_str());
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test]
async fn what_is_pushed_or_mounted_counts_until_it_is_deleted() {
    let world = limited(&[("team", 200)]);
    let (one, two) = (world.member(1), world.member(2));
    let [a, b, c, d] = [(1, 90), (2, 100), (3, 11), (4, 10)].map(|(seed, length)| content(seed, length));
    try_push(&one, "team", &a).await.unwrap();
    try_push(&two, "team/deep/er", &b).await.unwrap();
    assert_eq!(consistent(&world, &["team"]).await, [190]);
    exceeded(try_push(&one, "team/x", &c).await, ("team", 190, 200, Some(11)));
    // What is there costs nothing, however it comes.
    try_push(&two, "team", &a).await.unwrap();
    let again = two.mount(&repo("team"), &sha256(&a), MountSource::Anywhere).await;
    assert_eq!(again.unwrap(), Mounted::Linked);
    // The same content in another repository is counted again: it would be there if the first were deleted.
    let mounted = one
        .mount(&repo("team/x"), &sha256(&a), MountSource::Anywhere)
        .await;
    exceeded(mounted, ("team", 190, 200, Some(90)));
    try_push(&one, "teams", &c).await.unwrap();
    let from = repo("teams");
    let from = MountSource::Repository(&from);
    exceeded(
        one.mount(&repo("team"), &sha256(&c), from).await,
        ("team", 190, 200, Some(11)),
    );
    try_push(&one, "team", &d).await.unwrap();
    assert_eq!(consistent(&world, &["team"]).await, [200]);

    one.delete_blob(&repo("team/deep/er"), &sha256(&b), soon())
        .await
        .unwrap();
    assert_eq!(consistent(&world, &["team"]).await, [100]);
    let mounted = one
        .mount(&repo("team/x"), &sha256(&a), MountSource::Anywhere)
        .await;
    assert_eq!(mounted.unwrap(), Mounted::Linked);
    assert_eq!(consistent(&world, &["team"]).await, [190]);
}

#[tokio::test]
async fn an_upload_that_cannot_fit_is_refused_before_its_body_is_read() {
    let world = limited(&[("team", 500)]);
    let (registry, name) = (world.member(1), repo("team/a"));
    try_push(&registry, "team", &content(1, 100)).await.unwrap();
    let unread = || Box::pin(futures_util::stream::poll_fn(|_| panic!("it is read"))) as TestBody;
    let digest = sha256(&content(2, 401));

    let pushed = registry.push_blob(&name, &digest, Some(401), unread()).await;
    exceeded(pushed, ("team", 100, 500, Some(401)));
    let id = registry.start_upload(&name, None).await.unwrap().id;
    let append = registry.append(&name, &id, None, Some(401), unread()).await;
    exceeded(append, ("team", 100, 500, Some(401)));
    let finish = registry.finish(&name, &id, &digest, None, Some(401), unread());
    exceeded(finish.await, ("team", 100, 500, Some(401)));

    // Who doesn't say how much comes is told at the end, and can go on when there is room.
    let large = content(2, 401);
    registry
        .append(&name, &id, None, None, body(&large, 40))
        .await
        .unwrap();
    let finish = registry.finish(&name, &id, &digest, None, None, body(&[], 1));
    exceeded(finish.await, ("team", 100, 500, Some(401)));
    let first = sha256(&content(1, 100));
    registry.delete_blob(&repo("team"), &first, soon()).await.unwrap();
    registry
        .finish(&name, &id, &digest, None, None, body(&[], 1))
        .await
        .unwrap();
    try_push(&registry, "team", &content(3, 99)).await.unwrap();
    exceeded(registry.start_upload(&name, None).await, ("team", 500, 500, None));
    assert_eq!(consistent(&world, &["team"]).await, [500]);
}

#[tokio::test]
async fn a_large_upload_whose_room_others_take_at_the_end_leaves_nothing() {
    let mut met = 0;
    for round in 0..60 {
        let world = limited(&[("team", 500)]);
        let registry = world.member(1);
        let [one, other] = [1, 2].map(|seed| content(round * 2 + seed, 450));
        let pushes = [&one, &other].map(|content| try_push(&registry, "team", content));
        let ended = join_all(pushes).await;
        let won: Vec<_> = ended.iter().map(Result::is_ok).collect();
        assert!(won.contains(&true) && won.contains(&false), "{ended:?}");
        registry.end_abandoned(std::future::ready(())).await;
        met += usize::from(world.blobs.uploads().is_empty());
        assert_eq!(world.blobs.objects().len(), 1, "{ended:?}");
        assert_eq!(consistent(&world, &["team"]).await, [450]);
    }
    assert_eq!(met, 60);
}

#[tokio::test]
async fn pushes_at_once_fill_a_quota_and_never_exceed_it() {
    let (mut refused, mut filled) = (0, 0);
    for round in 0..30_u64 {
        let allowed = 700 + 37 * (round % 5);
        let world = limited(&[("team", allowed)]);
        let members = [world.member(1), world.member(2)];
        // Together half as much again as there is room for.
        let blobs: Vec<_> = (0..24)
            .map(|n| content(round * 100 + n, [10, 45, 80][n as usize % 3]))
            .collect();
        let pushes = blobs.iter().enumerate().map(|(n, blob)| {
            let (member, name) = (&members[n % 2], format!("team/{}", n % 4));
            async move { try_push(member, &name, blob).await }
        });
        let ended = join_all(pushes).await;
        let pushed = blobs.iter().zip(&ended).filter(|(_, ended)| ended.is_ok());
        let sum: usize = pushed.map(|(blob, _)| blob.len()).sum();
        let used = consistent(&world, &["team"]).await[0];
        assert!(used == sum as u64 && used <= allowed, "{used} of {allowed}");
        for (n, (blob, ended)) in blobs.iter().zip(ended).enumerate() {
            match ended {
                Ok(()) => {}
                Err(RegistryError::QuotaExceeded { .. }) => {
                    refused += 1;
                    let fits = self::used(&world, "team").await + blob.len() as u64 <= allowed;
                    let again = try_push(&members[0], &format!("team/{}", n % 4), blob).await;
                    assert_eq!(again.is_ok(), fits, "{again:?}");
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        filled += consistent(&world, &["team"]).await[0] * 100 / allowed;
    }
    assert!(
        refused > 30 && filled > 30 * 90,
        "{refused} were refused, {filled} % in 30 rounds"
    );
}

#[tokio::test]
async fn what_is_counted_is_what_is_linked_in_spite_of_faults() {
    let (mut done, mut refused) = (0, 0);
    for seed in 0..40_u64 {
        let mut world = World::with_faults(seed, FaultRates::each(0.04));
        world.settings.quotas = quotas(&[("team", 900), ("team/b", 250)]);
        world.settings.limits.attempts = 16;
        let members = [world.member(1), world.member(2)];
        let blobs: Vec<_> = (0..8)
            .map(|n| content(seed * 8 + n, 30 + 13 * n as usize))
            .collect();
        let names = ["team/a", "team/b", "team/b/c", "elsewhere"].map(repo);
        let histories = (0..6_u64).map(|who| {
            let (members, blobs, names) = (&members, &blobs, &names);
            async move {
                let (mut done, mut refused) = (0, 0);
                let mut state = seed * 97 + who * 31 + 7;
                for _ in 0..14 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let pick = |n: usize, shift: u32| (state >> shift) as usize % n;
                    let member = &members[pick(2, 33)];
                    let (name, blob) = (&names[pick(4, 37)], &blobs[pick(8, 43)]);
                    let digest = sha256(blob);
                    let ended = match pick(4, 51) {
                        0 | 1 => try_push(member, name.as_str(), blob).await,
                        2 => member.mount(name, &digest, MountSource::Anywhere).await.map(drop),
                        _ => member.delete_blob(name, &digest, soon()).await,
                    };
                    done += usize::from(ended.is_ok());
                    refused += usize::from(matches!(ended, Err(RegistryError::QuotaExceeded { .. })));
                }
                (done, refused)
            }
        });
        for (did, was) in join_all(histories).await {
            (done, refused) = (done + did, refused + was);
        }
        world.faults.as_ref().unwrap().disable();
        world.settled().await;
        let sums = consistent(&world, &["team", "team/b"]).await;
        assert!(sums[0] <= 900 && sums[1] <= 250, "{sums:?} with seed {seed}");
    }
    assert!(
        done > 500 && refused > 100,
        "{done} were done and {refused} refused"
    );
}

#[tokio::test]
async fn a_changed_configuration_takes_off_what_was_added_and_nothing_else() {
    let mut world = limited(&[]);
    let [a, b, c] = [1, 2, 3].map(|seed| content(seed, 90));
    try_push(&world.member(1), "team/x", &a).await.unwrap();
    world.settings.quotas = quotas(&[("team", 1000)]);
    let wide = world.member(1);
    try_push(&wide, "team/x", &b).await.unwrap();
    try_push(&wide, "team/y", &c).await.unwrap();
    assert_eq!(consistent(&world, &["team"]).await, [180]);
    // From before there was a quota.
    wide.delete_blob(&repo("team/x"), &sha256(&a), soon())
        .await
        .unwrap();
    assert_eq!(consistent(&world, &["team"]).await, [180]);

    // Less than there is, and another prefix.
    world.settings.quotas = quotas(&[("team", 100), ("team/x", 200)]);
    let narrow = world.member(1);
    exceeded(
        try_push(&narrow, "team/y", &a).await,
        ("team", 180, 100, Some(90)),
    );
    try_push(&narrow, "team/x", &a).await.unwrap();
    assert_eq!(consistent(&world, &["team", "team/x"]).await, [180, 90]);
    narrow
        .delete_blob(&repo("team/x"), &sha256(&b), soon())
        .await
        .unwrap();
    assert_eq!(consistent(&world, &["team", "team/x"]).await, [90, 90]);
    try_push(&narrow, "team/y", &content(4, 10)).await.unwrap();
    exceeded(
        try_push(&narrow, "team/y", &content(5, 1)).await,
        ("team", 100, 100, Some(1)),
    );

    // None for a while: what is pushed again stays counted as it was.
    world.settings.quotas = quotas(&[("elsewhere", 1)]);
    try_push(&world.member(1), "team/y", &c).await.unwrap();
    assert_eq!(consistent(&world, &["team", "team/x"]).await, [100, 90]);
}

#[tokio::test]
async fn requests_with_a_quota_are_counted() {
    let world = limited(&[("team", 100_000)]);
    let (one, name) = (world.member(1), repo("team/a"));
    let small = content(9, 90);
    let counted = |expected: &str| {
        let calls = world.calls.take();
        let calls = calls.split(' ').filter(|call| !call.starts_with("answered"));
        assert_eq!(calls.collect::<Vec<_>>().join(" "), expected);
    };
    let id = one.start_upload(&name, None).await.unwrap().id;
    counted("range×1 transact×1");
    one.finish(&name, &id, &sha256(&small), None, None, body(&small, 50))
        .await
        .unwrap();
    counted("get×1 put×1 range×1 transact×1");
    one.mount(&repo("team/b"), &sha256(&small), MountSource::Anywhere)
        .await
        .unwrap();
    counted("get_many×1 head×1 range×1 transact×1");
    one.delete_blob(&name, &sha256(&small), soon()).await.unwrap();
    counted("get×3 range×1 transact×1");
    // Without a quota of its own.
    one.mount(&repo("elsewhere"), &sha256(&small), MountSource::Anywhere)
        .await
        .unwrap();
    counted("get_many×1 transact×1");
}
