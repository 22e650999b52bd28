//! Ends of uploads that are asked for again.

use std::time::Duration;

use super::{super::testing::*, tests::session_row, *};
use crate::storage::rows::SessionState;

#[tokio::test]
async fn the_end_of_an_upload_may_be_asked_for_again() {
    for (length, before) in [
        (0, 0),
        (30, 0),
        (30, 30),
        (30, 20),
        (450, 0),
        (450, 330),
        (450, 450),
    ] {
        let world = World::new();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let content = content(9, length);
        let digest = sha256(&content);
        let (head, rest) = content.split_at(before);
        let id = one.start_upload(&name, None).await.unwrap().id;
        one.append(&name, &id, None, None, body(head, 40)).await.unwrap();
        let end = async |registry: &Registry, digest: &Digest, body: TestBody| {
            registry.finish(&name, &id, digest, None, None, body).await
        };
        end(&one, &digest, body(rest, 9)).await.unwrap();
        let (objects, closed) = (world.blobs.objects(), session_row(&world, &id).await);
        for registry in [&one, &two] {
            // With the bytes that came the first time, without, and with others.
            for again in [rest, b"", b"others"] {
                end(registry, &digest, body(again, 9)).await.unwrap();
            }
            let range = Some(ChunkRange { first: 0, last: 5 });
            let finish = registry.finish(&name, &id, &digest, range, Some(6), body(b"others", 3));
            finish.await.unwrap();
            let broken = end(registry, &digest, broken(b"o", 1)).await;
            assert!(matches!(broken, Err(RegistryError::Body(_))));
            let unknown = [
                end(registry, &sha256(b"another"), body(rest, 9)).await,
                registry
                    .finish(&repo("b"), &id, &digest, None, None, body(rest, 9))
                    .await,
                registry.upload(&name, &id).await.map(drop),
                registry
                    .append(&name, &id, None, None, body(b"more", 9))
                    .await
                    .map(drop),
                registry.cancel(&name, &id).await,
            ];
            for unknown in unknown {
                assert!(
                    matches!(unknown, Err(RegistryError::UploadUnknown)),
                    "{unknown:?}"
                );
            }
        }
        assert_eq!(
            (world.blobs.objects(), session_row(&world, &id).await),
            (objects, closed)
        );
        assert_eq!(pull(&two, &name, &digest).await.unwrap(), content);
        // It isn't the push of what was deleted since.
        two.delete_blob(&name, &digest, soon()).await.unwrap();
        let gone = end(&one, &digest, body(rest, 9)).await;
        assert!(matches!(gone, Err(RegistryError::UploadUnknown)));
    }
}

#[tokio::test]
async fn an_end_that_comes_while_the_first_is_at_work_waits_for_it() {
    let world = World::new();
    let (one, two, name, content) = (world.member(1), world.member(2), repo("a"), content(5, 30));
    let digest = sha256(&content);
    let id = one.start_upload(&name, None).await.unwrap().id;
    let mut session = one.session(&name, &id).await.unwrap();
    let fixed = rows::Session {
        state: SessionState::Finishing.into(),
        ..session.row.clone()
    };
    one.replace_session(&mut session, fixed, Vec::new())
        .await
        .unwrap();
    push(&one, &name, &content).await;
    let closed = rows::Session {
        digest: digest.as_str().to_owned(),
        ..session.closed(None, 0)
    };
    let first = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        one.replace_session(&mut session, closed, Vec::new()).await
    };
    let second = two.finish(&name, &id, &digest, None, None, body(&content, 9));
    let (first, second) = tokio::join!(first, second);
    first.unwrap();
    second.unwrap();
}
