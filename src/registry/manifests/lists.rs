//! The lists of tags, repositories and referrers.

use super::{super::testing::*, tests::*, *};
use crate::{oci::Page, registry::Names};

#[tokio::test]
async fn listings_come_in_pages() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("m"));
    let body = pushed_image(&one, &name, "n").await;
    let expected: Vec<String> = ["0", "A", "_", "a", "a.b", "aa", "b"].map(str::to_owned).into();
    let tags: Vec<_> = expected.iter().rev().map(|name| tag(name)).collect();
    one.put_manifest(PutManifest {
        tags: &tags,
        ..put(&name, &by_digest(&body), &body)
    })
    .await
    .unwrap();
    for limit in 1..9 {
        let mut found: Vec<String> = Vec::new();
        loop {
            let page = Page {
                limit,
                last: found.last().cloned(),
            };
            let Names { names, more } = one.tags(&name, &page).await.unwrap();
            assert!(names.len() == limit || !more);
            found.extend(names);
            if !more {
                break;
            }
        }
        assert_eq!(found, expected);
    }
    let from = |last: &str, limit| Page {
        limit,
        last: Some(last.to_owned()),
    };
    assert_eq!(
        one.tags(&name, &from("a-between", 2)).await.unwrap().names,
        ["a.b", "aa"]
    );
    assert_eq!(one.tags(&name, &from("z", 2)).await.unwrap(), Names::default());
    assert_eq!(one.tags(&name, &from("", 0)).await.unwrap(), Names::default());
    for other in ["a", "z", "m/n"] {
        let body = pushed_image(&one, &repo(other), "n").await;
        one.put_manifest(put(&repo(other), &by_tag("t"), &body))
            .await
            .unwrap();
    }
    assert_eq!(catalog(&one).await, ["a", "m", "m/n", "z"]);
    let page = one.catalog(&from("a", 2)).await.unwrap();
    assert_eq!(
        page,
        Names {
            names: vec!["m".into(), "m/n".into()],
            more: true
        }
    );
}

#[tokio::test]
async fn referrers_come_filtered_and_in_pages() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let subject = pushed_image(&one, &name, "n").await;
    let about = sha256(&subject);
    // The subject needn't be there.
    assert_eq!(
        one.referrers(&repo("none"), &about, &[], &Page::default())
            .await
            .unwrap(),
        Default::default()
    );
    let mut expected = Vec::new();
    for n in 0..14 {
        // Some annotations are too long for the row.
        let note = "x".repeat(if n % 4 == 0 { 9000 + n } else { n });
        let body = index(&[], Some(&subject), &note);
        let pushed = one
            .put_manifest(put(&name, &by_digest(&body), &body))
            .await
            .unwrap();
        assert_eq!(pushed.subject, Some(about.clone()));
        expected.push((pushed.digest, note));
    }
    expected.sort();
    for types in [vec![], vec!["application/vnd.test.1".to_owned()]] {
        let wanted: Vec<_> = expected
            .iter()
            .filter(|(_, note)| types.is_empty() || note.len() % 3 == 1)
            .cloned()
            .collect();
        for limit in [1, 3, 14, 1000] {
            let (mut found, mut last) = (Vec::new(), None);
            loop {
                let page = one
                    .referrers(&name, &about, &types, &Page { limit, last })
                    .await
                    .unwrap();
                assert!(page.referrers.len() <= limit);
                for mut referrer in page.referrers {
                    assert_eq!(referrer.descriptor.media_type.as_str(), MediaType::IMAGE_INDEX);
                    assert!(referrer.artifact_type.is_some());
                    found.push((
                        referrer.descriptor.digest,
                        referrer.annotations.remove("note").unwrap(),
                    ));
                }
                last = page.next;
                if last.is_none() {
                    break;
                }
            }
            assert_eq!(found, wanted);
        }
    }
    for (digest, _) in &expected {
        one.delete_manifest(delete(&name, &Reference::Digest(digest.clone())))
            .await
            .unwrap();
    }
    assert_eq!(
        one.referrers(&name, &about, &[], &Page::default()).await.unwrap(),
        Default::default()
    );
}

#[tokio::test]
async fn a_page_of_referrers_is_less_than_a_manifest() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let subject = pushed_image(&one, &name, "n").await;
    for n in 0..3 {
        let body = index(&[], Some(&subject), &"\"".repeat(900_000 + n));
        one.put_manifest(put(&name, &by_digest(&body), &body))
            .await
            .unwrap();
    }
    let (mut count, mut last) = (0, None);
    for _ in 0..2 {
        let page = one
            .referrers(&name, &sha256(&subject), &[], &Page { limit: 1000, last })
            .await
            .unwrap();
        count += page.referrers.len();
        let notes: Vec<_> = page
            .referrers
            .iter()
            .map(|referrer| &referrer.annotations)
            .collect();
        assert!(serde_json::to_string(&notes).unwrap().len() < MAX_MANIFEST_BYTES);
        last = page.next;
    }
    assert_eq!((count, last), (3, None));
}
