//! What isn't whole, isn't whole any more, or is too much for once, comes back as far as it can.

use super::{
    super::{
        collect::tests::image_of,
        manifests::tests::{by_digest, by_tag, index, pushed_image},
        testing::*,
    },
    tests::*,
    *,
};
use crate::{
    oci::Timestamp,
    storage::{MetaStore as _, Op},
};

async fn write(world: &World, op: Op) {
    world.meta.transact(Version::random(), &[op]).await.unwrap();
}

#[tokio::test]
async fn what_a_manifest_lacked_when_it_was_pushed_it_may_lack_when_it_comes_back() {
    let absent = image(&[&sha256(b"config"), &sha256(b"layer")], "absent");
    let list = index(&[&absent], None, "sparse");
    for (body, may, too_little) in [
        (&list, MayBeAbsent::Children, MayBeAbsent::Nothing),
        (&absent, MayBeAbsent::Everything, MayBeAbsent::Children),
    ] {
        let world = world();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let reference = by_tag("t");
        let push = PutManifest {
            absent: may,
            ..put(&name, &reference, body)
        };
        one.put_manifest(push).await.unwrap();
        let then = now(&one, &name).await;
        // While it is there only tags move.
        let other = pushed_image(&one, &name, "other").await;
        one.put_manifest(put(&name, &reference, &other)).await.unwrap();
        let what = Undo::Tag {
            tag: tag("t"),
            at: then,
        };
        let restored = two.restore(asked(&name, &what)).await.unwrap();
        assert_eq!(restored.tags, names(&["t"], body));

        one.delete_manifest(delete(&name, &by_digest(body)))
            .await
            .unwrap();
        days(&world, &two, &[1]).await;
        let what = Undo::Manifest(sha256(body));
        let asked = |absent| Restore {
            absent,
            ..asked(&name, &what)
        };
        let refused = two.restore(asked(too_little)).await;
        assert!(
            matches!(refused, Err(RegistryError::ManifestBlobUnknown { .. })),
            "{refused:?}"
        );
        two.restore(asked(may)).await.unwrap();
        assert_eq!(one.manifest(&name, &reference).await.unwrap().1, *body);
    }
}

#[tokio::test]
async fn one_that_cant_come_back_is_left_and_named_and_the_others_come() {
    let world = world();
    let (one, name) = (world.member(1), repo("a"));
    let mut bodies = Vec::new();
    for text in ["a", "b", "c"] {
        let body = pushed_image(&one, &name, text).await;
        one.put_manifest(put(&name, &by_tag(text), &body)).await.unwrap();
        bodies.push(body);
    }
    let list = index(&[&bodies[0], &bodies[1]], None, "list");
    one.put_manifest(put(&name, &by_tag("list"), &list))
        .await
        .unwrap();
    let then = now(&one, &name).await;
    for body in [&list, &bodies[0], &bodies[1], &bodies[2]] {
        one.delete_manifest(delete(&name, &by_digest(body)))
            .await
            .unwrap();
    }
    write(&world, keys::link(&sha256(b"b"), &name).delete(Expect::Any)).await;
    let alone = one
        .restore(asked(&name, &Undo::Manifest(sha256(&bodies[1]))))
        .await;
    assert!(
        matches!(alone, Err(RegistryError::ManifestBlobUnknown { .. })),
        "{alone:?}"
    );
    let what = Undo::Everything { at: then };
    let restored = one.restore(asked(&name, &what)).await.unwrap();
    let mut left: Vec<_> = restored
        .left
        .iter()
        .map(|left| (left.tag.clone().unwrap(), left.digest.clone(), left.why))
        .collect();
    left.sort_by(|one, other| one.0.cmp(&other.0));
    let gone = |text, body: &Bytes| (tag(text), sha256(body), WhyLeft::Gone);
    assert_eq!(left, [gone("b", &bodies[1]), gone("list", &list)]);
    for (text, body) in [("a", &bodies[0]), ("c", &bodies[2])] {
        assert_eq!(one.manifest(&name, &by_tag(text)).await.unwrap().1, *body);
    }
}

#[tokio::test]
async fn there_must_be_room_for_layers_that_a_manifest_needs_not_have_too() {
    let world = with_quota(30);
    let (one, name) = (world.member(1), repo("q/a"));
    let (body, _) = image_of(&one, &name, &[b"eight bytes!"]).await;
    let kept_back = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let body = String::from_utf8(body.to_vec()).unwrap();
    let body: Bytes = body.replace("application/vnd.test.v1+json", kept_back).into();
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    one.delete_manifest(delete(&name, &by_digest(&body)))
        .await
        .unwrap();
    days(&world, &one, &[1]).await;
    push(&one, &name, &[7; 20]).await;
    let refused = one.restore(asked(&name, &Undo::Manifest(sha256(&body)))).await;
    assert!(
        matches!(refused, Err(RegistryError::QuotaExceeded { asked: Some(14), .. })),
        "{refused:?}"
    );
    assert_eq!(used(&one, &name).await, 20);
}

#[tokio::test]
async fn a_deletion_of_many_tags_is_undone_whatever_else_changed_between_its_steps() {
    at_every_await(async |polls| {
        let world = world();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let body = pushed_image(&one, &name, "n").await;
        let other = pushed_image(&one, &name, "other").await;
        let reference = by_digest(&body);
        let tags: Vec<Tag> = (0..100).map(|n| tag(&format!("t{n:02}"))).collect();
        for tags in tags.chunks(30) {
            let push = PutManifest {
                tags,
                ..put(&name, &reference, &body)
            };
            one.put_manifest(push).await.unwrap();
        }
        let (delete, others) = (delete(&name, &reference), [by_tag("x"), by_tag("y")]);
        let meanwhile = async {
            for reference in &others {
                two.put_manifest(put(&name, reference, &other)).await.unwrap();
            }
        };
        let (deleted, early) = interrupted(polls, one.delete_manifest(delete), meanwhile).await;
        deleted.unwrap();
        let what = Undo::Manifest(sha256(&body));
        let restored = two.restore(asked(&name, &what)).await.unwrap();
        assert_eq!(restored.tags.len(), 100, "{polls}");
        early
    })
    .await;
}

#[tokio::test]
async fn a_repository_isnt_restored_to_a_time_of_which_not_all_is_kept() {
    let world = world();
    let (one, name) = (world.member(1), repo("a"));
    let body = pushed_image(&one, &name, "n").await;
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    let kept_ms = u64::try_from(world.settings.limits.history.as_millis()).unwrap();
    let edge_ms = clock::now_ms() - kept_ms;
    let margin_ms = u64::try_from(world.settings.limits.clock_margin.as_millis()).unwrap();
    let at = |at_ms| Undo::Everything {
        at: Timestamp::from_ms(at_ms),
    };
    for at_ms in [0, edge_ms - margin_ms - 1000] {
        let refused = one.restore(asked(&name, &at(at_ms))).await;
        assert!(
            matches!(refused, Err(RegistryError::NotKept { .. })),
            "{refused:?}"
        );
    }
    one.restore(asked(&name, &at(edge_ms + 60_000))).await.unwrap();
}
