//! What a plan says is what its application does, and nothing else goes, whoever carries it on and whatever happens in between.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant as Clock},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::{
    config,
    oci::{Digest, MediaType, Page, Reference, RepoName, Tag, Undo},
    registry::{
        MayBeAbsent, OfDeleted, PutManifest, RegistryError, Restore,
        collect::tests::tend_for_weeks,
        testing::{World, at_every_await, delete, image, polled, push, put, repo, sha256, soon, tag},
    },
    storage::{MetaStore as _, faulty::FaultRates},
};

pub(super) fn policies(text: &str) -> Retention {
    let text = format!("storage: {{rootDirectory: /d, retention: {{delay: 0s, policies: [{text}]}}}}");
    config::parse(Path::new("c.yaml"), &text).unwrap().retention
}

pub(super) const ONLY_V: &str = "{repositories: ['**'], keepTags: [{patterns: ['^v']}]}";

/// Pushes an image of `blobs` and one that says which it is.
pub(super) async fn tagged(registry: &Registry, name: &RepoName, text: &str, blobs: &[&[u8]]) -> Bytes {
    let mut digests = vec![push(registry, name, b"{}").await];
    for blob in blobs {
        digests.push(push(registry, name, blob).await);
    }
    let body = image(&digests.iter().collect::<Vec<_>>(), text);
    let reference = Reference::Tag(tag(text));
    registry.put_manifest(put(name, &reference, &body)).await.unwrap();
    body
}

/// All tags with what they name.
pub(super) async fn tags_of(registry: &Registry, name: &RepoName) -> BTreeSet<(String, Digest)> {
    let names = match registry.tags(name, &Page::default()).await {
        Ok(names) => names.names,
        Err(RegistryError::NameUnknown) => Vec::new(),
        Err(error) => panic!("{error:?}"),
    };
    let mut tags = BTreeSet::new();
    for text in names {
        let reference = Reference::Tag(tag(&text));
        let named = registry.describe_manifest(name, &reference).await.unwrap();
        tags.insert((text, named.digest));
    }
    tags
}

/// Carries the plan on until it is ready: the smallest piece by one of them, the next by the next.
pub(super) async fn made(members: &[&Registry], policies: &Retention) -> RetentionPlan {
    let mut plan = members[0].begin_plan("root").await.unwrap();
    for n in 0.. {
        if plan.stage == PlanStage::Ready {
            break;
        }
        let member = members[n % members.len()];
        plan = member
            .carry_plan_on(&plan.id, policies, Instant::now())
            .await
            .unwrap();
        assert!(n < 10_000 && (0.0..=1.0).contains(&plan.progress), "{plan:?}");
    }
    plan
}

/// The same, applied.
pub(super) async fn applied(members: &[&Registry], id: &str, policies: &Retention) -> RetentionPlan {
    for n in 0..100_000 {
        let member = members[n % members.len()];
        let plan = member.apply_plan(id, policies, Instant::now()).await.unwrap();
        if plan.stage == PlanStage::Applied {
            return plan;
        }
    }
    panic!("it never ends");
}

pub(super) async fn items_of_plan(registry: &Registry, id: &str) -> Vec<PlanItem> {
    let (mut items, mut next) = (Vec::new(), None::<String>);
    loop {
        let page = registry.plan_items(id, next.as_deref()).await.unwrap();
        items.extend(page.items);
        next = page.next;
        if next.is_none() {
            return items;
        }
    }
}

pub(super) fn told(item: &PlanItem) -> (String, Option<&str>, Option<&'static str>) {
    let repository = item.repository.as_str().to_owned();
    (repository, item.tag.as_ref().map(Tag::as_str), item.left)
}

async fn undo(registry: &Registry, name: &RepoName, run: &str) {
    let restore = Restore {
        repository: name,
        what: &Undo::Run(run.to_owned()),
        deleted: OfDeleted::Open,
        absent: MayBeAbsent::Nothing,
        by: "test",
        deadline: soon(),
    };
    let restored = registry.restore(restore).await.unwrap();
    assert_eq!(restored.left, []);
}

/// Three repositories, of which one has nothing to let go and one has only that.
pub(super) async fn three(members: &[&Registry]) -> [RepoName; 3] {
    let names = ["a", "b", "c"].map(repo);
    for (name, tags) in names.iter().zip([&["v1", "x1", "x2"][..], &["v1"], &["x1"]]) {
        for (n, text) in tags.iter().enumerate() {
            let member = members[n % members.len()];
            tagged(member, name, text, &[text.as_bytes()]).await;
        }
    }
    names
}

#[tokio::test]
async fn what_is_planned_is_what_goes_and_undone_every_tag_is_back() {
    let mut world = World::new();
    world.settings.limits.history = Duration::from_secs(60 * 60);
    let (one, two, three_) = (world.member(1), world.member(2), world.member(3));
    let members = [&one, &two, &three_];
    let names = three(&members).await;
    // One more tag of a manifest that stays, and a manifest without a tag.
    let also = image(&[&sha256(b"{}"), &sha256(b"v1")], "v1");
    let extra = Reference::Tag(tag("x3"));
    one.put_manifest(put(&names[0], &extra, &also)).await.unwrap();
    let untagged = image(&[&sha256(b"{}")], "untagged");
    let by_digest = Reference::Digest(sha256(&untagged));
    one.put_manifest(put(&names[1], &by_digest, &untagged))
        .await
        .unwrap();
    let mut before = Vec::new();
    for name in &names {
        before.push(tags_of(&one, name).await);
    }
    let policies = policies(ONLY_V);

    let plan = made(&members, &policies).await;
    assert_eq!((plan.looked_at, plan.concerned, plan.unread), (3, 3, 0));
    assert_eq!((plan.tags, plan.manifests, plan.applied), (4, 4, None));
    let items = items_of_plan(&two, &plan.id).await;
    let expected = [
        ("a", Some("x1")),
        ("a", Some("x2")),
        ("a", Some("x3")),
        ("a", None),
        ("a", None),
        ("b", None),
        ("c", Some("x1")),
        ("c", None),
    ];
    let found: Vec<_> = items.iter().map(told).collect();
    let expected: Vec<_> = expected.map(|(name, tag)| (name.to_owned(), tag, None)).into();
    assert_eq!(found, expected);
    for (name, before) in names.iter().zip(&before) {
        assert_eq!(tags_of(&one, name).await, *before, "nothing went yet");
    }

    let done = applied(&members, &plan.id, &policies).await;
    let came_of_it = done.applied.unwrap();
    assert_eq!((came_of_it.repositories, came_of_it.left), (3, 0));
    assert_eq!(
        (came_of_it.tags, came_of_it.manifests),
        (plan.tags, plan.manifests)
    );
    assert_eq!(items_of_plan(&one, &plan.id).await, items, "nothing was left");
    let left: Vec<_> = tags_of(&one, &names[0])
        .await
        .into_iter()
        .map(|(tag, _)| tag)
        .collect();
    assert_eq!(left, ["v1"]);
    assert_eq!(tags_of(&one, &names[2]).await, BTreeSet::new());
    // It is done, and isn't done again.
    assert_eq!(applied(&members, &plan.id, &policies).await, done);

    for (name, before) in names.iter().zip(&before) {
        undo(&three_, name, &plan.id).await;
        assert_eq!(tags_of(&one, name).await, *before);
    }
    assert!(two.manifest(&names[1], &by_digest).await.is_ok());
}

#[tokio::test]
async fn what_changed_since_is_left_and_named_and_so_is_what_it_needs() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let mut bodies = Vec::new();
    for text in ["moved", "gone", "again", "tagged", "listed", "goes"] {
        bodies.push(tagged(&one, &name, text, &[]).await);
    }
    let policies = policies(ONLY_V);
    let plan = made(&[&one], &policies).await;
    assert_eq!((plan.tags, plan.manifests), (6, 6));

    let put_as = async |text: &str, body: &Bytes| {
        let reference = Reference::Tag(tag(text));
        one.put_manifest(put(&name, &reference, body)).await.unwrap();
    };
    tokio::time::sleep(Duration::from_millis(3)).await;
    // What it named is the other one's now, and the tag is.
    put_as("moved", &image(&[&sha256(b"{}")], "newer")).await;
    let gone = Reference::Digest(sha256(&bodies[1]));
    one.delete_manifest(delete(&name, &gone)).await.unwrap();
    // Deleted, and pushed as it was.
    let again = Reference::Digest(sha256(&bodies[2]));
    one.delete_manifest(delete(&name, &again)).await.unwrap();
    put_as("again", &bodies[2]).await;
    // The tag goes all the same; the manifest has one that isn't in the plan.
    put_as("other", &bodies[3]).await;
    // An index that has come since, and that would go, too, needs it.
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::IMAGE_INDEX,
        "manifests": [{ "mediaType": MediaType::IMAGE_MANIFEST, "digest": sha256(&bodies[4]).as_str(), "size": bodies[4].len() }],
    });
    put_as("index", &Bytes::from(index.to_string())).await;

    let done = applied(&[&two, &one], &plan.id, &policies).await;
    let items = items_of_plan(&one, &plan.id).await;
    let found: BTreeSet<_> = items
        .iter()
        .map(|item| {
            let body = |body: &&Bytes| Some(sha256(body)) == item.digest;
            let n = bodies.iter().position(|one| body(&one)).unwrap();
            (n, item.tag.as_ref().map(Tag::as_str), item.left)
        })
        .collect();
    let expected = BTreeSet::from([
        (0, Some("moved"), Some("moved")),
        (0, None, None),
        (1, Some("gone"), Some("gone")),
        (1, None, Some("gone")),
        (2, Some("again"), Some("moved")),
        (2, None, Some("moved")),
        (3, Some("tagged"), None),
        (3, None, Some("kept")),
        (4, Some("listed"), None),
        (4, None, Some("kept")),
        (5, Some("goes"), None),
        (5, None, None),
    ]);
    assert_eq!(found, expected);
    let applied = done.applied.unwrap();
    assert_eq!((applied.tags, applied.manifests, applied.left), (3, 2, 7));
    let left: Vec<_> = tags_of(&one, &name)
        .await
        .into_iter()
        .map(|(tag, _)| tag)
        .collect();
    assert_eq!(left, ["again", "index", "moved", "other"]);
    let listed = Reference::Digest(sha256(&bodies[4]));
    assert!(one.manifest(&name, &listed).await.is_ok());
}

#[tokio::test]
async fn what_the_policies_keep_by_now_stays() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    tagged(&one, &name, "x1", &[]).await;
    let plan = made(&[&one], &policies(ONLY_V)).await;
    for now in ["{repositories: ['**'], keepTags: [{patterns: ['^x']}]}", ""] {
        let done = applied(&[&one], &plan.id, &policies(now)).await;
        assert_eq!(done.applied.unwrap().left, 2);
        let items = items_of_plan(&one, &plan.id).await;
        assert!(items.iter().all(|item| item.left == Some("kept")), "{items:?}");
    }
    assert_eq!(tags_of(&one, &name).await.len(), 1);
}

#[tokio::test]
async fn bytes_count_once_and_only_where_nobody_else_links_them() {
    let mut world = World::new();
    world.settings.limits.history = Duration::ZERO;
    world.settings.limits.link_grace = Duration::from_secs(60 * 60);
    let one = world.member(1);
    let sized = |n: usize| vec![u8::try_from(n).unwrap(); n];
    let (shared, kept, own, beside) = (sized(100), sized(37), sized(50), sized(11));
    // Both let it go.
    let mut manifests = 0;
    for name in ["a", "b"] {
        manifests += tagged(&one, &repo(name), "x1", &[&shared, &own, &kept])
            .await
            .len();
    }
    // Another repository keeps one of them, and so does a manifest of the first.
    tagged(&one, &repo("c"), "v1", &[&kept]).await;
    manifests += tagged(&one, &repo("a"), "x2", &[&beside]).await.len();
    tagged(&one, &repo("a"), "v1", &[&beside]).await;
    let policies = policies(ONLY_V);
    let plan = made(&[&one, &world.member(2)], &policies).await;
    let blobs = shared.len() + own.len();
    assert_eq!(plan.bytes, Some((blobs + manifests) as u64));
    assert_eq!(plan.manifests, 3);

    // And that is what comes back: nothing but these blobs goes when it was applied. What uploads left goes before.
    tend_for_weeks(&world, &one).await;
    let before: BTreeSet<_> = world.blobs.objects().into_iter().collect();
    applied(&[&one], &plan.id, &policies).await;
    tend_for_weeks(&world, &one).await;
    let after: BTreeSet<_> = world.blobs.objects().into_iter().collect();
    assert_eq!(before.difference(&after).count(), 2);
    for blob in [&kept, &beside] {
        assert!(
            one.blob(&repo(if *blob == kept { "c" } else { "a" }), &sha256(blob))
                .await
                .is_ok()
        );
    }
}

#[tokio::test]
async fn a_repository_of_more_than_fits_a_row_is_planned_and_applied_whole() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let body = tagged(&one, &name, "v1", &[]).await;
    let reference = Reference::Digest(sha256(&body));
    let tags: Vec<_> = (0..1234).map(|n| tag(&format!("x{n}"))).collect();
    for tags in tags.chunks(30) {
        let push = PutManifest {
            tags,
            ..put(&name, &reference, &body)
        };
        one.put_manifest(push).await.unwrap();
    }
    let policies = policies(ONLY_V);
    let plan = made(&[&one], &policies).await;
    assert_eq!((plan.tags, plan.manifests, plan.bytes), (1234, 0, Some(0)));
    assert_eq!(items_of_plan(&one, &plan.id).await.len(), 1234);
    let done = applied(&[&one], &plan.id, &policies).await;
    assert_eq!(done.applied.unwrap().tags, 1234);
    assert_eq!(tags_of(&one, &name).await.len(), 1);
}

#[tokio::test]
async fn whoever_dies_anywhere_another_one_carries_on_and_counts_the_same() {
    at_every_await(async |polls| {
        let world = World::new();
        let (one, two) = (world.member(1), world.member(2));
        three(&[&one]).await;
        let policies = policies(ONLY_V);
        let plan = one.begin_plan("").await.unwrap();
        let far = Instant::now() + Duration::from_secs(60);
        let whole = async {
            one.carry_plan_on(&plan.id, &policies, far).await.unwrap();
            one.apply_plan(&plan.id, &policies, far).await.unwrap()
        };
        let ended = {
            let mut whole = std::pin::pin!(whole);
            polled(whole.as_mut(), polls).await.is_some()
        };
        let mut now = two.carry_plan_on(&plan.id, &policies, far).await.unwrap();
        assert_eq!((now.looked_at, now.concerned), (3, 2));
        assert_eq!((now.tags, now.manifests), (3, 3));
        now = applied(&[&two], &now.id, &policies).await;
        let done = now.applied.unwrap();
        assert_eq!(
            (done.repositories, done.tags, done.manifests, done.left),
            (2, 3, 3, 0)
        );
        assert_eq!(tags_of(&two, &repo("a")).await.len(), 1);
        ended
    })
    .await;
}

#[tokio::test]
async fn several_who_carry_on_at_once_do_it_once() {
    for round in 0..20 {
        let world = World::new();
        let members = [1, 2, 3].map(|n| world.member(n));
        three(&[&members[0]]).await;
        let policies = policies(ONLY_V);
        let plan = members[0].begin_plan("").await.unwrap();
        let far = Instant::now() + Duration::from_secs(60);
        let all = members.iter().map(async |member| {
            for _ in 0..round % 5 {
                tokio::task::yield_now().await;
            }
            member.carry_plan_on(&plan.id, &policies, far).await.unwrap();
            let mut plan = member.apply_plan(&plan.id, &policies, far).await.unwrap();
            while plan.stage != PlanStage::Applied {
                plan = member.apply_plan(&plan.id, &policies, far).await.unwrap();
            }
            plan
        });
        for plan in futures_util::future::join_all(all).await {
            assert_eq!((plan.looked_at, plan.tags, plan.manifests), (3, 3, 3));
            let done = plan.applied.unwrap();
            assert_eq!((done.tags, done.manifests, done.left), (3, 3, 0));
        }
    }
}

#[tokio::test]
async fn stores_that_fail_delay_it() {
    for seed in 0..10 {
        let world = World::with_faults(seed, FaultRates::each(0.05));
        let calm = world.settled().await;
        three(&[&calm]).await;
        let (member, policies) = (world.member(1), policies(ONLY_V));
        let plan = calm.begin_plan("").await.unwrap();
        let begun = Clock::now();
        let done = loop {
            let _ = member.carry_plan_on(&plan.id, &policies, Instant::now()).await;
            if let Ok(plan) = member.apply_plan(&plan.id, &policies, Instant::now()).await
                && plan.stage == PlanStage::Applied
            {
                break plan;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it never ends");
        };
        let done = done.applied.unwrap();
        assert_eq!((done.tags, done.manifests, done.left), (3, 3, 0), "seed {seed}");
    }
}

#[tokio::test]
async fn a_repository_that_cannot_be_read_is_named_and_in_nobodys_way() {
    let world = World::new();
    let one = world.member(1);
    three(&[&one]).await;
    let broken = repo("b");
    let index = rows::Manifest {
        min_reader: rows::SCHEMA,
        media_type: MediaType::IMAGE_INDEX.to_owned(),
        size: 2,
        body: Some(rows::manifest::Body::Inline("no".into())),
        ..rows::Manifest::default()
    };
    let op = keys::manifest(&broken, &sha256(b"never")).put(Expect::Any, row::bytes(&index));
    world.meta.transact(Version::random(), &[op]).await.unwrap();
    let policies = policies(ONLY_V);
    let plan = made(&[&one], &policies).await;
    assert_eq!((plan.concerned, plan.unread, plan.tags), (2, 1, 3));
    let items = items_of_plan(&one, &plan.id).await;
    assert!(
        items
            .iter()
            .map(told)
            .any(|item| item == ("b".to_owned(), None, Some("unread")))
    );
    let done = applied(&[&one], &plan.id, &policies).await;
    assert_eq!(done.applied.unwrap().tags, 3);
    assert_eq!(tags_of(&one, &broken).await.len(), 1);
}

#[tokio::test]
async fn plans_end_and_leave_nothing() {
    let mut world = World::new();
    world.settings.limits.plans = 2;
    world.settings.limits.clock_margin = Duration::ZERO;
    let one = world.member(1);
    three(&[&one]).await;
    let policies = policies(ONLY_V);
    let first = made(&[&one], &policies).await;
    let unready = one.begin_plan("").await.unwrap();
    let refused = one.apply_plan(&unready.id, &policies, Instant::now()).await;
    assert!(matches!(refused, Err(RegistryError::PlanUnready)));
    made(&[&one], &policies).await;
    let gone = one.apply_plan(&first.id, &policies, Instant::now()).await;
    assert!(matches!(gone, Err(RegistryError::PlanUnknown)));
    assert_eq!(one.plans().await.unwrap().len(), 2);
    assert_eq!(tags_of(&one, &repo("a")).await.len(), 3);

    let of_plans = || {
        let keys = world.meta.keys().into_iter();
        keys.filter(|key| key.partition.starts_with("_plan")).count()
    };
    let before = of_plans();
    one.forget_plans(None).await.unwrap();
    assert!(of_plans() < before);
    // Time goes by.
    let ends_ms = one.plans().await.unwrap().iter().map(|plan| plan.ends_ms).max();
    for row in one.plan_rows().await.unwrap() {
        let plan: rows::Plan = row::read(&row.1).unwrap();
        assert!(plan.ends_ms <= ends_ms.unwrap());
        let ended = rows::Plan { ends_ms: 1, ..plan };
        let op = keys::plan(&row.0).put(Expect::Any, row::bytes(&ended));
        world.meta.transact(Version::random(), &[op]).await.unwrap();
    }
    one.forget_plans(None).await.unwrap();
    assert_eq!(of_plans(), 0);
    world.calls.take();
    one.forget_plans(None).await.unwrap();
    assert_eq!(world.calls.take(), "range×1");
}
