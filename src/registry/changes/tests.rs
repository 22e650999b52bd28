//! Every acknowledged change is in history and feed once, in its place, whoever crashes or comes between.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{
    super::testing::{tag, *},
    checks::*,
    *,
};
use crate::{
    clock,
    oci::MAX_TAGS_PER_PUT,
    registry::{
        PutManifest, Registry,
        manifests::tests::{by_digest, by_tag, index, pushed_image},
    },
    storage::{Entry, Expect, MetaStore as _, Version, faulty::FaultRates, keys},
};

fn unsettled(world: &World) -> usize {
    let keys = world.meta.keys().into_iter();
    keys.filter(|key| key.partition.starts_with("_changes#")).count()
}

#[tokio::test]
async fn a_manifest_whose_31_tags_all_move_is_one_transaction_with_one_row() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let tags: Vec<Tag> = (0..MAX_TAGS_PER_PUT).map(|n| tag(&format!("t{n}"))).collect();
    let last = by_tag("last");
    let former = pushed_image(&one, &name, "former").await;
    let subject = pushed_image(&one, &name, "subject").await;
    for body in [&former, &subject] {
        let push = PutManifest {
            tags: &tags,
            ..put(&name, &last, body)
        };
        one.put_manifest(push).await.unwrap();
    }
    // Its body is an object, and it is in its subject's list: there is nothing more that a push can write.
    let body = index(&[&former], Some(&subject), &"large".repeat(1000));
    let before = unsettled(&world);
    world.calls.take();
    let push = PutManifest {
        tags: &tags,
        ..put(&name, &last, &body)
    };
    one.put_manifest(push).await.unwrap();
    // The announcement of the body, the references, and all the rest.
    assert!(world.calls.take().ends_with("transact×3"));
    assert_eq!(unsettled(&world), before + 1);
    let changes = check_history(&world, &one, &name).await;
    let newest = changes.last().unwrap();
    assert_eq!(newest.tags.len(), MAX_TAGS_PER_PUT + 1);
    assert_eq!((newest.by.as_str(), newest.why), ("test", Some(Why::Client)));
    assert_eq!(newest.came[0].digest, sha256(&body));
    for moved in &newest.tags {
        let named = |named: &Option<Descriptor>| named.as_ref().unwrap().digest.clone();
        assert_eq!(
            (named(&moved.from), named(&moved.to)),
            (sha256(&subject), sha256(&body))
        );
    }
    settle_all(&one).await;
    assert_eq!(unsettled(&world), 0);
    assert_eq!(check_history(&world, &one, &name).await, changes);
}

#[tokio::test]
async fn what_changes_no_name_leaves_no_row() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let body = pushed_image(&one, &name, "n").await;
    assert_eq!(unsettled(&world), 0);
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    assert_eq!(unsettled(&world), 1);
    one.delete_manifest(delete(&name, &by_tag("none")))
        .await
        .unwrap_err();
    one.delete_blob(&name, &sha256(b"{}"), soon()).await.unwrap_err();
    assert_eq!(unsettled(&world), 1);
    one.delete_manifest(delete(&name, &by_digest(&body)))
        .await
        .unwrap();
    let changes = check_history(&world, &one, &name).await;
    assert_eq!(changes.len(), 2);
    assert_eq!((changes[1].went.len(), changes[1].manifests_then), (1, 0));
}

#[tokio::test]
async fn each_step_of_a_delete_is_a_change() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let body = pushed_image(&one, &name, "n").await;
    let digest = by_digest(&body);
    for n in 0..5 {
        let tags: Vec<Tag> = (0..MAX_TAGS_PER_PUT).map(|m| tag(&format!("t{n}-{m}"))).collect();
        let push = PutManifest {
            tags: &tags,
            ..put(&name, &digest, &body)
        };
        one.put_manifest(push).await.unwrap();
    }
    one.delete_manifest(delete(&name, &digest)).await.unwrap();
    let changes = check_history(&world, &one, &name).await;
    let steps: Vec<_> = changes[5..]
        .iter()
        .map(|change| (change.tags.len(), change.went.len()))
        .collect();
    assert_eq!(steps, [(46, 0), (46, 0), (46, 0), (12, 1)]);
    settle_all(&one).await;
    assert_eq!(check_history(&world, &one, &name).await, changes);
}

#[tokio::test]
async fn changes_are_in_order_though_clocks_go_back() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let body = pushed_image(&one, &name, "n").await;
    let clocks: [fn() -> u64; 3] = [|| 5_000_000, || 4_000_000, || 5_000_000];
    for (n, clock) in clocks.into_iter().enumerate() {
        clock::simulate(Some(clock));
        let member = if n % 2 == 0 { &one } else { &two };
        member
            .put_manifest(put(&name, &by_tag(&format!("t{n}")), &body))
            .await
            .unwrap();
    }
    clock::simulate(None);
    let changes = check_history(&world, &one, &name).await;
    let times: Vec<_> = changes.iter().map(|change| change.at_ms).collect();
    assert_eq!(times, [5_000_000, 5_000_001, 5_000_002]);
}

/// Pushes and deletes some tags in two repositories of one partition.
async fn some_changes(one: &Registry, two: &Registry) -> [RepoName; 2] {
    let first = repo("r0");
    let same = |n: &usize| keys::change_partition(&repo(&format!("r{n}"))) == keys::change_partition(&first);
    let second = repo(&format!("r{}", (1..).find(same).unwrap()));
    for (member, name) in [(one, &first), (two, &second)] {
        for n in 0..4 {
            let body = pushed_image(member, name, &format!("{n}")).await;
            for t in 0..3 {
                member
                    .put_manifest(put(name, &by_tag(&format!("t{t}")), &body))
                    .await
                    .unwrap();
            }
        }
        member.delete_manifest(delete(name, &by_tag("t1"))).await.unwrap();
    }
    [first, second]
}

#[tokio::test]
async fn what_a_settler_leaves_where_it_died_another_one_settles() {
    at_every_await(async |polls| {
        let world = World::new();
        let (one, two) = (Arc::new(world.member(1)), world.member(2));
        let names = some_changes(&one, &two).await;
        let mut expected = Vec::new();
        for name in &names {
            expected.push(check_history(&world, &one, name).await);
        }
        let n = keys::change_partition(&names[0]);
        let ended = {
            let settling = one.settle_changes(n);
            let mut settling = std::pin::pin!(settling);
            polled(settling.as_mut(), polls).await.is_some()
        };
        // History is the same while some is settled and some isn't.
        for (name, expected) in names.iter().zip(&expected) {
            assert_eq!(check_history(&world, &two, name).await, *expected);
        }
        settle_all(&two).await;
        assert_eq!(unsettled(&world), 0);
        let followed = followed(&Feed::new(one.clone())).await;
        for (name, expected) in names.iter().zip(&expected) {
            assert_eq!(check_history(&world, &two, name).await, *expected);
            assert_eq!(followed[name], *expected);
        }
        ended
    })
    .await;
}

#[tokio::test]
async fn two_settlers_at_once_settle_everything_once() {
    for faults in [false, true] {
        let mut made = 0;
        for seed in 0..12 {
            let world = match faults {
                true => World::with_faults(seed, FaultRates::each(0.05)),
                false => World::new(),
            };
            let members: Vec<_> = (1..4).map(|n| Arc::new(world.member(n))).collect();
            let names: Vec<_> = (0..3).map(|n| repo(&format!("r{n}"))).collect();
            let work = members.iter().enumerate().map(async |(m, member)| {
                for n in 0..12 {
                    let name = &names[(n + m) % 3];
                    let body = index(&[], None, &format!("{}", n % 4));
                    // What becomes of it the history tells.
                    let reference = by_tag(&format!("t{}", n % 2));
                    let _ = match n % 5 {
                        4 => member.delete_manifest(delete(name, &reference)).await,
                        _ => member.put_manifest(put(name, &reference, &body)).await.map(drop),
                    };
                    for n in 0..PARTITIONS {
                        let _ = member.settle_changes(n).await;
                    }
                }
            });
            join_all(work).await;
            let last = Arc::new(world.settled().await);
            settle_all(&last).await;
            assert_eq!(unsettled(&world), 0);
            let followed = followed(&Feed::new(last.clone())).await;
            for name in &names {
                let changes = check_history(&world, &last, name).await;
                assert_eq!(followed[name], changes, "seed {seed}");
                made += changes.len();
            }
        }
        // Faults and each other's changes make some give up, in one repository perhaps most.
        assert!(made > 12 * 3 * 3, "{made} changes");
    }
}

#[tokio::test]
async fn a_change_is_never_settled_before_its_former_one() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    for n in 0..3 {
        let body = index(&[], None, &format!("{n}"));
        one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    }
    let queue = keys::unsettled_changes(keys::change_partition(&name));
    let space = crate::storage::Space::Repositories;
    let all = world
        .meta
        .range(space, &queue, "", None, 10)
        .await
        .unwrap()
        .entries;
    let settled = |first: &[usize], second: &[usize]| {
        let of = |which: &[usize]| which.iter().map(|n| all[*n].clone()).collect::<Vec<Entry>>();
        let taken = super::settle::taken(&of(first), of(second)).unwrap();
        taken
            .iter()
            .map(|sort| all.iter().position(|entry| entry.sort == *sort).unwrap())
            .collect::<Vec<_>>()
    };
    // The first read showed the second change alone: the third, which only the second read shows, may have one before it that
    // this doesn't show either.
    assert_eq!(settled(&[1], &[0, 1, 2]), [0, 1]);
    assert_eq!(settled(&[0, 1, 2], &[0, 1, 2]), [0, 1, 2]);
    // Others settled the first one between the reads.
    assert_eq!(settled(&[0, 1], &[1, 2]), [1]);
    assert!(settled(&[0], &[1, 2]).is_empty());
}

#[tokio::test]
async fn who_follows_is_told_when_something_is_missed() {
    let world = World::new();
    let (one, name) = (Arc::new(world.member(1)), repo("a"));
    let n = keys::change_partition(&name);
    let feed = Feed::new(one.clone());
    assert_eq!(feed.read(n, 0).await.unwrap(), Followed::default());
    for t in 0..40 {
        one.put_manifest(put(&name, &by_tag(&format!("t{t}")), &index(&[], None, "")))
            .await
            .unwrap();
        assert_eq!(one.unsettled().await, [n]);
        one.settle_changes(n).await.unwrap();
    }
    assert_eq!(feed.ends().await.unwrap()[n as usize], 40);
    let page = feed.read(n, 0).await.unwrap();
    assert_eq!(
        (page.changes.len(), page.upto, page.more, page.missed),
        (25, 25, true, false)
    );
    // The oldest go.
    for number in 1..31 {
        let op = keys::feed_batch(n, number).delete(Expect::Any);
        world.meta.transact(Version::random(), &[op]).await.unwrap();
    }
    let page = feed.read(n, 25).await.unwrap();
    assert_eq!(
        (page.changes.len(), page.upto, page.more, page.missed),
        (10, 40, false, true)
    );
    assert!(!feed.read(n, 30).await.unwrap().missed);
    for number in 31..41 {
        let op = keys::feed_batch(n, number).delete(Expect::Any);
        world.meta.transact(Version::random(), &[op]).await.unwrap();
    }
    let page = feed.read(n, 30).await.unwrap();
    assert_eq!((page.changes.len(), page.upto, page.missed), (0, 40, true));
    assert!(!feed.read(n, 40).await.unwrap().missed);
}

#[tokio::test]
async fn a_tags_history_is_found_by_time_and_by_manifest() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let bodies: Vec<_> = (0..3).map(|n| index(&[], None, &format!("{n}"))).collect();
    for n in 0..30 {
        one.put_manifest(put(&name, &by_tag("t"), &bodies[n % 3]))
            .await
            .unwrap();
        one.put_manifest(put(&name, &by_tag("other"), &bodies[n % 3]))
            .await
            .unwrap();
        if n == 20 {
            settle_all(&one).await;
        }
    }
    let everything = HistoryPage {
        limit: 1000,
        before_ms: None,
        since_ms: None,
        digest: None,
    };
    let history = async |page: HistoryPage| one.tag_history(&name, &tag("t"), &page).await.unwrap();
    let all = history(everything.clone()).await;
    assert_eq!((all.events.len(), all.more), (30, false));
    let times: Vec<_> = all.events.iter().map(|event| event.at_ms).collect();
    let found = history(HistoryPage {
        before_ms: Some(times[4]),
        since_ms: Some(times[20]),
        ..everything.clone()
    })
    .await;
    assert_eq!((&found.events[..], found.more), (&all.events[5..21], false));
    let about = HistoryPage {
        digest: Some(sha256(&bodies[1])),
        limit: 2,
        ..everything.clone()
    };
    let mut found = Vec::new();
    let mut page = about;
    loop {
        let read = history(page.clone()).await;
        assert!(read.events.len() <= 2);
        found.extend(read.events);
        if !read.more {
            break;
        }
        page.before_ms = read.until_ms;
    }
    let expected: Vec<_> = all
        .events
        .into_iter()
        .filter(|event| event.about().unwrap().digest == sha256(&bodies[1]))
        .collect();
    assert_eq!((found.len(), &found), (10, &expected));
    let none = one
        .tag_history(&repo("none"), &tag("t"), &everything)
        .await
        .unwrap();
    assert_eq!(none, TagEvents::default());
    let asked = HistoryPage {
        limit: 0,
        ..everything
    };
    assert_eq!(history(asked).await, TagEvents::default());
}

#[tokio::test]
async fn a_followers_place_is_moved_only_by_who_knows_it() {
    let world = World::new();
    let (one, two, name) = (Arc::new(world.member(1)), Arc::new(world.member(2)), repo("a"));
    let n = keys::change_partition(&name);
    one.put_manifest(put(&name, &by_tag("t"), &index(&[], None, "")))
        .await
        .unwrap();
    settle_all(&one).await;
    let (first, second) = (Feed::new(one.clone()), Feed::new(two));
    assert_eq!(first.place("f", n).await.unwrap(), None);
    // It begins once, where the feeds end then.
    assert!(!first.has_begun("f").await.unwrap());
    first.begin("f", first.ends().await.unwrap()).await.unwrap();
    assert!(second.has_begun("f").await.unwrap());
    let begun = first.place("f", n).await.unwrap().unwrap();
    assert_eq!(begun.place, Place { after: 1, within: 0 });
    one.put_manifest(put(&name, &by_tag("t2"), &index(&[], None, "")))
        .await
        .unwrap();
    settle_all(&one).await;
    second.begin("f", second.ends().await.unwrap()).await.unwrap();
    assert_eq!(second.place("f", n).await.unwrap(), Some(begun));
    let place = |within| Place { after: 1, within };
    let moved = first.note("f", n, &begun, place(1)).await.unwrap().unwrap();
    assert_eq!(second.note("f", n, &begun, place(7)).await.unwrap(), None);
    assert_eq!(second.place("f", n).await.unwrap(), Some(moved));
    assert!(second.note("f", n, &moved, place(2)).await.unwrap().is_some());
    assert_eq!(first.place("g", n).await.unwrap(), None);
}

#[tokio::test]
async fn a_change_says_from_whom_its_member_took_the_repository() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    for (member, t) in [
        (&one, "t0"),
        (&one, "t1"),
        (&two, "t2"),
        (&two, "t3"),
        (&one, "t4"),
    ] {
        member
            .put_manifest(put(&name, &by_tag(t), &index(&[], None, "")))
            .await
            .unwrap();
    }
    let changes = check_history(&world, &one, &name).await;
    let taken: Vec<_> = changes
        .iter()
        .map(|change| {
            change
                .taken
                .as_ref()
                .map(|taken| (taken.from.as_str(), taken.by.as_str()))
        })
        .collect();
    let (first, second) = ("127.0.0.1:5000", "127.0.0.2:5000");
    assert_eq!(
        taken,
        [None, None, Some((first, second)), None, Some((second, first))]
    );
}
