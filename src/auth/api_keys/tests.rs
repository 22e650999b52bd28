use tokio::task::JoinSet;

use super::*;
use crate::storage::MemoryMeta;

fn keys() -> ApiKeys {
    ApiKeys::new(Arc::new(MemoryMeta::default()), 2)
}

fn by_password(user: &str) -> KeyMaker {
    KeyMaker {
        user: user.to_owned(),
        by: MadeBy::Password,
        groups: Vec::new(),
    }
}

#[tokio::test]
async fn a_key_is_its_users_until_it_is_revoked() {
    let keys = keys();
    let new = NewApiKey {
        label: "ci".to_owned(),
        scopes: vec!["repository:team/**:read,create".to_owned()],
        expires_ms: Some(clock::now_ms() + 60_000),
    };
    let (key, text) = keys.create(&by_password("ann"), new).await.unwrap();
    assert!(text.len() == 36 && text.starts_with("zak_"));
    assert_eq!(keys.list("ann").await.unwrap(), std::slice::from_ref(&key));
    assert_eq!(keys.list("bob").await.unwrap(), []);
    let (user, used) = keys.login(&text).await.unwrap().unwrap();
    assert_eq!((user.as_str(), used.by), ("ann", MadeBy::Password));
    assert_eq!(
        keys.holders(None, 10).await.unwrap(),
        (vec!["ann".to_owned()], false)
    );
    assert!(keys.login("zak_0").await.unwrap().is_none());

    assert!(matches!(
        keys.revoke("bob", &key.id).await,
        Err(ApiKeyError::Unknown)
    ));
    keys.revoke("ann", &key.id).await.unwrap();
    assert!(keys.login(&text).await.unwrap().is_none());
    assert!(matches!(
        keys.revoke("ann", &key.id).await,
        Err(ApiKeyError::Unknown)
    ));
    assert_eq!(keys.list("ann").await.unwrap(), []);
    assert_eq!(keys.holders(None, 10).await.unwrap(), (vec![], false));
}

#[tokio::test]
async fn what_no_key_can_be_is_refused() {
    let keys = keys();
    let create = async |new: NewApiKey| keys.create(&by_password("ann"), new).await.err();
    let scoped = NewApiKey {
        scopes: vec!["admin".to_owned()],
        ..NewApiKey::default()
    };
    assert!(matches!(create(scoped).await, Some(ApiKeyError::Scope(_))));
    let past = NewApiKey {
        expires_ms: Some(1),
        ..NewApiKey::default()
    };
    assert!(matches!(create(past).await, Some(ApiKeyError::Past)));
    let large = NewApiKey {
        label: "x".repeat(257),
        ..NewApiKey::default()
    };
    assert!(matches!(create(large).await, Some(ApiKeyError::TooLarge)));
    assert!(create(NewApiKey::default()).await.is_none());
    assert!(create(NewApiKey::default()).await.is_none());
    assert!(matches!(
        create(NewApiKey::default()).await,
        Some(ApiKeyError::TooMany(2))
    ));
}

/// Of forty at once, on four members, as many are made as there may be, all of them are listed, and who was refused was told
/// why. Some are revoked at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_holds_under_a_race_and_what_is_valid_is_listed() {
    const BOUND: usize = 10;
    let meta: Arc<dyn MetaStore> = Arc::new(MemoryMeta::default());
    let members: Vec<_> = (0..4)
        .map(|_| Arc::new(ApiKeys::new(meta.clone(), BOUND)))
        .collect();
    let maker = by_password("ann");
    let (doomed, doomed_text) = members[0].create(&maker, NewApiKey::default()).await.unwrap();
    let all = (0..40).map(|n| {
        let (keys, maker, doomed) = (members[n % 4].clone(), maker.clone(), doomed.id.clone());
        async move {
            match n {
                7 => keys.revoke("ann", &doomed).await.map(|()| None),
                _ => keys.create(&maker, NewApiKey::default()).await.map(Some),
            }
        }
    });
    let mut made = Vec::new();
    for outcome in all.collect::<JoinSet<_>>().join_all().await {
        match outcome {
            Ok(Some((key, text))) => made.push((key.id, text)),
            Ok(None) | Err(ApiKeyError::TooMany(BOUND)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!((BOUND - 1..=BOUND).contains(&made.len()), "{}", made.len());
    let mut listed: Vec<String> = members[1]
        .list("ann")
        .await
        .unwrap()
        .into_iter()
        .map(|key| key.id)
        .collect();
    let mut expected: Vec<String> = made.iter().map(|(id, _)| id.clone()).collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    assert!(members[2].login(&doomed_text).await.unwrap().is_none());
    for (id, text) in made {
        assert!(members[3].login(&text).await.unwrap().is_some());
        members[3].revoke("ann", &id).await.unwrap();
    }
    assert_eq!(members[0].holders(None, 10).await.unwrap(), (vec![], false));
}

#[tokio::test]
async fn a_scope_that_can_cover_nothing_is_refused() {
    let keys = keys();
    for scope in [
        "repository:Team/**:read",
        "repository:/team:read",
        "repository:a//b:*",
    ] {
        let new = NewApiKey {
            scopes: vec![scope.to_owned()],
            ..NewApiKey::default()
        };
        let made = keys.create(&by_password("ann"), new).await;
        assert!(matches!(made, Err(ApiKeyError::Scope(_))), "{scope}");
    }
}

/// Keys from before there were rings count, are listed, and can be revoked.
#[tokio::test]
async fn keys_without_a_ring_are_keys() {
    let keys = keys();
    let maker = by_password("ann");
    let (key, _) = keys.create(&maker, NewApiKey::default()).await.unwrap();
    let ring = keys::key_ring("ann").delete(Expect::Any);
    keys.meta.transact(Version::random(), &[ring]).await.unwrap();
    keys.create(&maker, NewApiKey::default()).await.unwrap();
    let third = keys.create(&maker, NewApiKey::default()).await;
    assert!(matches!(third, Err(ApiKeyError::TooMany(2))));
    keys.revoke("ann", &key.id).await.unwrap();
    assert_eq!(keys.list("ann").await.unwrap().len(), 1);
}
