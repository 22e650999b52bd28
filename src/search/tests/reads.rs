//! What questions read, and what they find where others read and write meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{asked, delete, over, push, push_image, requests, search, text};
use crate::{
    admission::Visible,
    clock,
    config::limits::SearchLimits,
    oci::{Reference, RepoName},
    ownership::Incarnation,
    registry::{Holder, Registry, Settings, Stores, Summary, changes::PARTITIONS},
    search::{Asker, Question, Search, views},
    storage::{MemoryBlobs, MemoryMeta, MetaStore, MeteredMeta},
    telemetry::Metrics,
};

/// Requests to the metadata store for a question after which nothing, and one after which one repository, has changed.
async fn requests_of_a_look(repositories: usize) -> [u64; 3] {
    let metrics = Arc::new(Metrics::new());
    let (meta, blobs) = (Arc::new(MemoryMeta::default()), Arc::new(MemoryBlobs::new()));
    let registry = |meta: Arc<dyn MetaStore>, n: usize| {
        let stores = Stores {
            meta,
            blobs: blobs.clone(),
        };
        let holder = Holder {
            member: format!("127.0.0.{n}:5000").parse().unwrap(),
            incarnation: Incarnation::random(),
        };
        Arc::new(Registry::new(stores, holder, Settings::default()))
    };
    let other = registry(meta.clone(), 1);
    for n in 0..repositories {
        push(&other, &format!("r{n}")).await;
    }
    for n in 0..PARTITIONS {
        other.settle_changes(n).await.unwrap();
    }
    let counted = registry(Arc::new(MeteredMeta::new(meta.clone(), metrics.clone())), 2);
    let search = Arc::new(Search::new(counted, SearchLimits::default()));
    let end = CancellationToken::new();
    let answers = TaskTracker::new();
    answers.spawn(search.clone().run(end.clone()));
    let asked = async |names: &str, most: usize| {
        let question = Question {
            query: format!(
                "{{ GlobalSearch(query: \"{names}\") {{ Page {{ TotalCount }} Repos {{ Name }} }} }}"
            ),
            ..Question::default()
        };
        let asker = Asker {
            user: None,
            sees: Visible::Everything,
            may_delete: Visible::Nothing,
        };
        let before = requests(&metrics);
        let answer = search.answer(asker, &question).await;
        let found = answer.body["data"]["GlobalSearch"]["Page"]["TotalCount"].as_u64();
        assert_eq!(found, Some(most as u64), "{names}: {}", answer.body);
        requests(&metrics) - before
    };
    // The first look is at everything.
    asked("r", repositories).await;
    let nothing = asked("r0", 1).await;
    push(&other, "new").await;
    let queued = asked("new", 1).await;
    for n in 0..PARTITIONS {
        other.settle_changes(n).await.unwrap();
    }
    push(&other, "r0").await;
    let changed = asked("new", 1).await;
    let is_kept = || {
        let mut rows = meta.keys().into_iter();
        rows.any(|key| key.partition == "_summaries" && key.sort == "new")
    };
    assert!(is_kept());
    delete(&other, "new").await;
    asked("new", 0).await;
    assert!(!is_kept());
    end.cancel();
    answers.close();
    answers.wait().await;
    [nothing, queued, changed]
}

#[tokio::test]
async fn a_look_costs_what_has_changed_however_many_repositories_there_are() {
    let few = requests_of_a_look(5).await;
    assert_eq!(few, requests_of_a_look(300).await);
    assert!(few[0] <= 12, "{few:?}");
}

/// To find out whether somebody may see a repository may take asking conditions of policies.
#[tokio::test]
async fn nobody_waits_for_who_is_asked_what_they_may_see() {
    let search = search();
    for n in 0..250 {
        push(&search.registry, &format!("r{n}")).await;
    }
    let end = CancellationToken::new();
    let answers = TaskTracker::new();
    answers.spawn(search.clone().run(end.clone()));
    let asked = Arc::new(AtomicUsize::new(0));
    let (looked, counted) = (search.clone(), asked.clone());
    let sees = Visible::Those(Arc::new(move |name| {
        assert!(looked.catalogue.is_free(), "a lock is held");
        counted.fetch_add(1, Ordering::Relaxed);
        name.as_str().ends_with('7')
    }));
    let digest = format!("sha256:{}", "0".repeat(64));
    for (query, most) in [
        (
            "{ GlobalSearch(query: \"r1\") { Page { TotalCount } } }".to_owned(),
            111,
        ),
        (
            format!("{{ ImageListForDigest(id: \"{digest}\") {{ Page {{ TotalCount }} }} }}"),
            250,
        ),
    ] {
        let question = Question {
            query,
            ..Question::default()
        };
        let asker = Asker {
            user: None,
            sees: sees.clone(),
            may_delete: Visible::Nothing,
        };
        let before = asked.load(Ordering::Relaxed);
        let answer = search.answer(asker, &question).await;
        assert!(answer.is_valid, "{}", answer.body);
        // Once for each that fits.
        assert_eq!(asked.load(Ordering::Relaxed) - before, most, "{}", answer.body);
    }
    let looked = search.clone();
    let surveyed = search.survey(move |all| {
        let names = all.map(|(name, _)| {
            assert!(looked.catalogue.is_free(), "a lock is held");
            name
        });
        names.collect::<Vec<RepoName>>()
    });
    let (names, is_whole) = surveyed.await.unwrap();
    assert!(is_whole && names.len() == 250 && names.is_sorted(), "{names:?}");
    end.cancel();
    answers.close();
    answers.wait().await;
}

#[tokio::test]
async fn pulls_are_read_where_they_are_asked_for_whatever_they_are_called() {
    let metrics = Arc::new(Metrics::new());
    let search = over(Arc::new(MeteredMeta::new(
        Arc::new(MemoryMeta::default()),
        metrics.clone(),
    )));
    push(&search.registry, "r").await;
    let digest = search
        .registry
        .describe_manifest(&"r".parse().unwrap(), &Reference::parse("v1").unwrap())
        .await
        .unwrap()
        .digest;
    search.registry.count_pull(&"r".parse().unwrap(), &digest);
    search.registry.write_pulls().await.unwrap();
    let (end, answers) = (CancellationToken::new(), TaskTracker::new());
    answers.spawn(search.clone().run(end.clone()));
    let by_digest = format!("ImageListForDigest(id:\"{digest}\"){{Results{{FIELDS}}}}");
    let cost = async |query: &str| {
        let before = requests(&metrics);
        let answer = asked(&search, Visible::Everything, query).await;
        assert!(answer.body["errors"].is_null(), "{query}: {}", answer.body);
        (requests(&metrics) - before, answer.body["data"].clone())
    };
    for (question, path) in [
        ("Image(image:\"r:v1\"){FIELDS}", ""),
        ("ImageList(repo:\"r\"){Results{FIELDS}}", "/Results/0"),
        (
            "ImageList(repo:\"r\"){Results{Tag} Results{FIELDS}}",
            "/Results/0",
        ),
        ("ExpandedRepoInfo(repo:\"r\"){Images{FIELDS}}", "/Images/0"),
        (
            "ExpandedRepoInfo(repo:\"r\"){Images{Tag} some:Images{FIELDS}}",
            "/some/0",
        ),
        (
            "ExpandedRepoInfo(repo:\"r\"){Summary{NewestImage{FIELDS}}}",
            "/Summary/NewestImage",
        ),
        ("GlobalSearch(query:\"r:v1\"){Images{FIELDS}}", "/Images/0"),
        (by_digest.as_str(), "/Results/0"),
    ] {
        let of = |fields: &str| format!("{{of:{}}}", question.replace("FIELDS", fields));
        // What is remembered of images from now on costs nothing.
        cost(&of("Tag")).await;
        let (without, _) = cost(&of("Tag")).await;
        for fields in [
            "DownloadCount",
            "DownloadCount:LastPullTimestamp",
            "... on ImageSummary{DownloadCount}",
        ] {
            let (with, data) = cost(&of(fields)).await;
            assert_eq!(with, without + 1, "{question} {fields}");
            let told = &data["of"].pointer(path).unwrap()["DownloadCount"];
            assert!(*told == 1 || told.is_string(), "{question} {fields}: {data}");
        }
    }
    end.cancel();
    answers.close();
    answers.wait().await;
}

/// Who asks what is pulled most reads all counts once, and then those that were written since, as long as it is kept which they are.
#[tokio::test]
async fn counts_are_read_again_where_they_may_have_changed() {
    static NOW: AtomicU64 = AtomicU64::new(1_800_000_000_000);
    const HOUR_MS: u64 = 3_600_000;
    clock::simulate(Some(|| NOW.load(Ordering::Relaxed)));
    let (meta, metrics) = (Arc::new(MemoryMeta::default()), Arc::new(Metrics::new()));
    let metered = Arc::new(MeteredMeta::new(meta.clone(), metrics.clone()));
    let (one, other) = (over(meta.clone()), over(metered));
    let pull = async |name: &str| {
        let name: RepoName = name.parse().unwrap();
        let of = Reference::parse("v1").unwrap();
        let described = one.registry.describe_manifest(&name, &of).await.unwrap();
        one.registry.count_pull(&name, &described.digest);
        one.registry.write_pulls().await.unwrap();
    };
    for n in 0..300 {
        push(&one.registry, &format!("r{n:03}")).await;
    }
    for n in 0..PARTITIONS {
        one.registry.settle_changes(n).await.unwrap();
    }
    let (end, answers) = (CancellationToken::new(), TaskTracker::new());
    answers.spawn(other.clone().run(end.clone()));
    let first = async || {
        let before = requests(&metrics);
        let query =
            "{RepoListWithNewestImage(requestedPage:{limit:1 offset:0 sortBy:DOWNLOADS}){Results{Name}}}";
        let answer = asked(&other, Visible::Everything, query).await;
        assert!(!answer.is_partial, "{}", answer.body);
        let name = &answer.body["data"]["RepoListWithNewestImage"]["Results"][0]["Name"];
        (text(name).to_owned(), requests(&metrics) - before)
    };
    let said = || {
        meta.keys()
            .into_iter()
            .filter(|key| key.partition == "_pulled")
            .count()
    };
    pull("r007").await;
    assert_eq!(first().await.0, "r007");
    let (name, nothing_new) = first().await;
    assert_eq!(name, "r007");
    pull("r200").await;
    pull("r200").await;
    let (name, one_new) = first().await;
    assert_eq!((name.as_str(), one_new), ("r200", nothing_new + 1));
    assert_eq!(first().await.1, nothing_new);
    // After a night it isn't known any more which have changed: three requests for three hundred of them.
    for _ in 0..3 {
        pull("r100").await;
    }
    NOW.fetch_add(25 * HOUR_MS, Ordering::Relaxed);
    assert_eq!(said(), 6);
    for _ in 0..4 {
        pull("r150").await;
    }
    assert_eq!(said(), 4);
    let (name, all) = first().await;
    assert_eq!((name.as_str(), all), ("r150", nothing_new + 3));
    end.cancel();
    answers.close();
    answers.wait().await;
    clock::simulate(None);
}

/// They wait for no look, either.
#[tokio::test]
async fn who_may_see_nothing_costs_nothing() {
    let metrics = Arc::new(Metrics::new());
    let search = over(Arc::new(MeteredMeta::new(
        Arc::new(MemoryMeta::default()),
        metrics.clone(),
    )));
    push(&search.registry, "r").await;
    let before = requests(&metrics);
    let digest = format!("sha256:{}", "0".repeat(64));
    for question in [
        "RepoListWithNewestImage".to_owned(),
        "GlobalSearch(query:\"r\")".to_owned(),
        format!("ImageListForDigest(id:\"{digest}\")"),
        "ImageListForDigest(id:\"ab\")".to_owned(),
        "ImageList(repo:\"r\")".to_owned(),
    ] {
        let query = format!("{{of:{question}{{Page{{TotalCount}}}}}}");
        let answer = asked(&search, Visible::Nothing, query).await;
        assert!(!answer.is_partial, "{question}");
        assert_eq!(
            answer.body,
            json!({ "data": { "of": { "Page": { "TotalCount": 0 } } } })
        );
    }
    assert_eq!(requests(&metrics), before);
}

/// A search, one over the same store whose requests are counted, and a repository `r`.
async fn two_members() -> (Arc<Search>, Arc<Search>, impl Fn() -> u64) {
    let (meta, metrics) = (Arc::new(MemoryMeta::default()), Arc::new(Metrics::new()));
    let metered = Arc::new(MeteredMeta::new(meta.clone(), metrics.clone()));
    let (one, other) = (over(meta), over(metered));
    push(&one.registry, "r").await;
    (one, other, move || requests(&metrics))
}

#[tokio::test]
async fn what_others_have_found_out_is_read_once() {
    let (one, other, requests) = two_members().await;
    let names = ["r".parse().unwrap()];
    let found = one.catalogue.summaries(&names, vec![None]).await.unwrap();
    let before = requests();
    for costs in [2, 3] {
        let kept = other.registry.summaries(&names).await.unwrap();
        let brought = other.catalogue.summaries(&names, kept).await.unwrap();
        assert_eq!(brought, found);
        // What is kept; once, whether that still holds.
        assert_eq!(requests() - before, costs);
    }
}

#[tokio::test]
async fn what_an_older_release_has_found_out_is_made_whole_where_it_is_shown() {
    let (one, other, _) = two_members().await;
    let names = ["r".parse().unwrap()];
    let found = one.catalogue.summaries(&names, vec![None]).await.unwrap();
    let of_old = found[0].clone().map(|found| Summary {
        newest_pushed_ms: 0,
        newest_pushed_by: String::new(),
        ..found
    });
    let [name] = names.clone();
    other
        .registry
        .keep_summaries(&[(name, of_old.clone())])
        .await
        .unwrap();
    let (end, answers) = (CancellationToken::new(), TaskTracker::new());
    answers.spawn(other.clone().run(end.clone()));
    let listed = async |newest: &str| {
        let query = format!("{{RepoListWithNewestImage{{Results{{NewestImage{{{newest}}}}}}}}}");
        let answer = asked(&other, Visible::Everything, query).await;
        answer.body["data"]["RepoListWithNewestImage"]["Results"][0]["NewestImage"].clone()
    };
    let pushed = views::at(found[0].as_ref().unwrap().newest_pushed_ms).0;
    for _ in 0..2 {
        let shown = listed("Tag PushTimestamp TaggedTimestamp").await;
        let expected = json!({ "Tag": "v1", "PushTimestamp": pushed, "TaggedTimestamp": pushed });
        assert_eq!(shown, expected);
    }
    assert_eq!(other.registry.summaries(&names).await.unwrap(), found);
    end.cancel();
    answers.close();
    answers.wait().await;
}

/// In tests, three sets of platforms have a place.
#[tokio::test]
async fn a_filter_passes_those_whose_platforms_have_no_place_and_says_so_to_who_may_see_them() {
    let search = search();
    for n in 0..5 {
        push_image(&search.registry, &format!("r{n}"), &format!("os{n}")).await;
    }
    let end = CancellationToken::new();
    let answers = TaskTracker::new();
    answers.spawn(search.clone().run(end.clone()));
    let first = Visible::Those(Arc::new(|name| name.as_str() < "r3"));
    let filtered = "filter:{Os:[\"os1\"]}";
    for (sees, filter, expected, is_partial) in [
        (
            Visible::Everything,
            "",
            &["r0", "r1", "r2", "r3", "r4"][..],
            false,
        ),
        (Visible::Everything, filtered, &["r1", "r3", "r4"], true),
        (first, filtered, &["r1"], false),
    ] {
        let query = format!("{{GlobalSearch(query:\"r\" {filter}){{Repos{{Name}}}}}}");
        let answer = asked(&search, sees, query).await;
        let found = answer.body["data"]["GlobalSearch"]["Repos"].as_array().unwrap();
        let found: Vec<&str> = found.iter().map(|repository| text(&repository["Name"])).collect();
        assert_eq!(
            (&*found, answer.is_partial),
            (expected, is_partial),
            "{}",
            answer.body
        );
    }
    end.cancel();
    answers.close();
    answers.wait().await;
}
