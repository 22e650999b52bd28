use tokio::task::JoinSet;

use super::*;
use crate::storage::MemoryMeta;

fn keys() -> ApiKeys {
    of_at_most(2, Arc::new(MemoryMeta::default()))
}

fn of_at_most(per_user: usize, meta: Arc<dyn MetaStore>) -> ApiKeys {
    let mut limits = Limits::default();
    limits.logins.api_keys = per_user;
    limits.logins.key_uses_counted = 3;
    ApiKeys::new(meta, &limits)
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
        .map(|_| Arc::new(of_at_most(BOUND, meta.clone())))
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

async fn last_used(keys: &ApiKeys, user: &str) -> Vec<Option<u64>> {
    let listed = keys.list(user).await.unwrap();
    listed.into_iter().map(|key| key.used_ms).collect()
}

#[tokio::test]
async fn when_a_key_was_last_used_is_written_beside_it_and_goes_with_it() {
    let meta: Arc<dyn MetaStore> = Arc::new(MemoryMeta::default());
    let [one, other] = [(); 2].map(|()| of_at_most(100, meta.clone()));
    let (key, _) = one
        .create(&by_password("ann"), NewApiKey::default())
        .await
        .unwrap();
    assert_eq!(last_used(&one, "ann").await, [None]);
    let before = clock::now_ms();
    one.uses.add("ann", &key.id);
    // Nothing is written in a request's way.
    assert_eq!(last_used(&one, "ann").await, [None]);
    one.write().await.unwrap();
    let [Some(first)] = last_used(&other, "ann").await[..] else {
        panic!("it was used");
    };
    assert!((before..=clock::now_ms()).contains(&first));
    // What another member saw later counts, in whichever order they write.
    other.uses.at(("ann".to_owned(), key.id.clone()), first + 5_000);
    one.uses.at(("ann".to_owned(), key.id.clone()), first + 3_000);
    other.write().await.unwrap();
    one.write().await.unwrap();
    assert_eq!(last_used(&one, "ann").await, [Some(first + 5_000)]);
    // A key that is gone has no such row, also where one was used just before.
    one.uses.at(("ann".to_owned(), key.id.clone()), first + 9_000);
    other.revoke("ann", &key.id).await.unwrap();
    one.write().await.unwrap();
    let left = meta.get(&keys::api_key_use("ann", &key.id)).await.unwrap();
    assert!(left.is_none());
}

#[tokio::test]
async fn only_so_many_uses_wait_and_those_that_cannot_be_written_wait_on() {
    let meta: Arc<dyn MetaStore> = Arc::new(MemoryMeta::default());
    let keys = of_at_most(100, meta.clone());
    for n in 0..5 {
        keys.uses.at(("ann".to_owned(), n.to_string()), n);
        keys.uses.at(("ann".to_owned(), n.to_string()), n + 10);
    }
    let waiting: Vec<u64> = keys.uses.take().into_values().collect();
    assert_eq!(waiting, [10, 11, 12]);
    let broken = of_at_most(100, Arc::new(MemoryMeta::default()));
    let (key, _) = broken
        .create(&by_password("ann"), NewApiKey::default())
        .await
        .unwrap();
    broken.uses.add("ann", &key.id);
    let row = keys::api_key_use("ann", &key.id).put(Expect::Absent, vec![0xff]);
    broken.meta.transact(Version::random(), &[row]).await.unwrap();
    assert!(broken.write().await.is_err());
    assert_eq!(broken.uses.take().len(), 1);
}

#[tokio::test]
async fn all_keys_of_one_user_end_at_once_however_many_there_are() {
    let keys = of_at_most(100, Arc::new(MemoryMeta::default()));
    let mut texts = Vec::new();
    for _ in 0..60 {
        texts.push(
            keys.create(&by_password("ann"), NewApiKey::default())
                .await
                .unwrap()
                .1,
        );
    }
    let (_, bobs) = keys
        .create(&by_password("bob"), NewApiKey::default())
        .await
        .unwrap();
    keys.revoke_all("ann").await.unwrap();
    for text in texts {
        assert!(keys.login(&text).await.unwrap().is_none());
    }
    assert!(keys.login(&bobs).await.unwrap().is_some());
    assert_eq!(
        keys.holders(None, 10).await.unwrap(),
        (vec!["bob".to_owned()], false)
    );
    assert!(matches!(keys.revoke_all("ann").await, Err(ApiKeyError::Unknown)));
}

#[tokio::test]
async fn a_robot_is_what_its_keys_say_and_nobodys_name_else() {
    let keys = keys();
    let robot = KeyMaker::robot("ci.main-1", vec!["builders".to_owned()]).unwrap();
    assert_eq!(
        (robot.user.as_str(), robot.by),
        ("robot+ci.main-1", MadeBy::Robot)
    );
    let (_, text) = keys.create(&robot, NewApiKey::default()).await.unwrap();
    let (user, used) = keys.login(&text).await.unwrap().unwrap();
    assert_eq!((user.as_str(), used.by), ("robot+ci.main-1", MadeBy::Robot));
    assert_eq!(used.groups, ["builders"]);
    for (name, groups) in [
        ("", vec![]),
        ("CI", vec![]),
        ("a b", vec![]),
        ("a:b", vec![]),
        ("robot+a", vec![]),
        (&*"x".repeat(65), vec![]),
        ("a", vec![String::new()]),
        ("a", vec![" b".to_owned()]),
        ("a", vec!["b".to_owned(); 65]),
    ] {
        assert!(
            matches!(KeyMaker::robot(name, groups), Err(ApiKeyError::Robot)),
            "{name:?}"
        );
    }
}
