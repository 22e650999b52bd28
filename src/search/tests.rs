//! The schema is zot's, and questions are bounded.

mod attached;

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Asker, Question, Search, views};
use crate::{
    admission::Visible,
    config::limits::SearchLimits,
    oci::{Algorithm, Digest, Preconditions, Reference, RepoName},
    ownership::Incarnation,
    registry::{
        DeleteManifest, Holder, MayBeAbsent, MayPush, PutManifest, Registry, Settings, Stores, Summary,
        WhileListed,
        changes::{Cause, PARTITIONS},
    },
    storage::{MemoryBlobs, MemoryMeta, MetaStore, MeteredMeta},
    telemetry::Metrics,
};

fn search() -> Arc<Search> {
    over(Arc::new(MemoryMeta::default()))
}

fn over(meta: Arc<dyn MetaStore>) -> Arc<Search> {
    within(meta, SearchLimits::default())
}

fn within(meta: Arc<dyn MetaStore>, limits: SearchLimits) -> Arc<Search> {
    let stores = Stores {
        meta,
        blobs: Arc::new(MemoryBlobs::new()),
    };
    let holder = Holder {
        member: "127.0.0.1:5000".parse().unwrap(),
        incarnation: Incarnation::random(),
    };
    let registry = Arc::new(Registry::new(stores, holder, Settings::default()));
    Arc::new(Search::new(registry, limits))
}

async fn ask(query: impl Into<String>) -> super::Answer {
    asked(&search(), Visible::Everything, query).await
}

async fn asked(search: &Arc<Search>, sees: Visible, query: impl Into<String>) -> super::Answer {
    let question = Question {
        query: query.into(),
        ..Question::default()
    };
    let asker = Asker {
        user: None,
        sees,
        may_delete: Visible::Nothing,
    };
    search.answer(asker, &question).await
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A type, as the schema's language writes it.
fn type_of(found: &Value) -> String {
    match text(&found["kind"]) {
        "NON_NULL" => format!("{}!", type_of(&found["ofType"])),
        "LIST" => format!("[{}]", type_of(&found["ofType"])),
        _ => text(&found["name"]).to_owned(),
    }
}

fn by_name(list: &Value) -> Vec<&Value> {
    let mut found: Vec<&Value> = list.as_array().into_iter().flatten().collect();
    found.sort_by_key(|item| text(&item["name"]).to_owned());
    found
}

#[tokio::test]
async fn the_schema_is_that_of_zot_word_by_word() {
    const TYPE: &str = "kind name ofType{kind name ofType{kind name ofType{kind name ofType{kind name}}}}";
    let answer = ask(format!(
        "{{__schema{{queryType{{name}} mutationType{{name}} subscriptionType{{name}} types{{kind name \
         fields{{name args{{name type{{{TYPE}}} defaultValue}} type{{{TYPE}}}}} \
         inputFields{{name type{{{TYPE}}} defaultValue}} enumValues{{name}}}}}}}}"
    ))
    .await;
    assert!(answer.is_valid, "{}", answer.body);
    let schema = &answer.body["data"]["__schema"];
    assert_eq!(schema["queryType"]["name"], "Query");
    assert!(schema["mutationType"].is_null() && schema["subscriptionType"].is_null());
    let mut said = String::new();
    for found in by_name(&schema["types"]) {
        let name = text(&found["name"]);
        if name.starts_with("__") || ["String", "Int", "Boolean", "Float", "ID"].contains(&name) {
            continue;
        }
        let kind = match text(&found["kind"]) {
            "OBJECT" => "type",
            "INPUT_OBJECT" => "input",
            "ENUM" => "enum",
            "SCALAR" => "scalar",
            other => panic!("{other}"),
        };
        writeln!(said, "{kind} {name}").unwrap();
        for value in by_name(&found["enumValues"]) {
            writeln!(said, "  {}", text(&value["name"])).unwrap();
        }
        for field in by_name(&found["fields"])
            .into_iter()
            .chain(by_name(&found["inputFields"]))
        {
            let argument = |argument: &Value| {
                assert!(argument["defaultValue"].is_null());
                format!("{}: {}", text(&argument["name"]), type_of(&argument["type"]))
            };
            let arguments: Vec<String> = by_name(&field["args"]).into_iter().map(argument).collect();
            let arguments = match arguments.is_empty() {
                true => String::new(),
                false => format!("({})", arguments.join(", ")),
            };
            writeln!(
                said,
                "  {}{arguments}: {}",
                text(&field["name"]),
                type_of(&field["type"])
            )
            .unwrap();
        }
    }
    let zots = include_str!("../../tests/it/search/schema.txt");
    for (ours, theirs) in said.lines().zip(zots.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(said, zots);
}

#[tokio::test]
async fn what_costs_too_much_is_refused_before_anything_is_done() {
    let repeated = |n: usize, what: &str| what.repeat(n);
    let spread = |n: usize| {
        // Each fragment spreads the next one twice.
        let mut text = "{Image(image:\"a:b\"){...f0}}".to_owned();
        for k in 0..n {
            let _ = write!(
                text,
                " fragment f{k} on ImageSummary{{...f{} ...f{}}}",
                k + 1,
                k + 1
            );
        }
        text + &format!(" fragment f{n} on ImageSummary{{Tag}}")
    };
    let questions: String = (0..1000)
        .map(|n| format!("a{n}:StarredRepos{{Page{{TotalCount}}}} "))
        .collect();
    let fields: String = (0..2000).map(|n| format!("a{n}:Tag ")).collect();
    for (query, why) in [
        (format!("{{{questions}}}"), "at most"),
        (
            format!("{{Image(image:\"a:b\"){{{fields}}}}}"),
            "at most 1000 fields",
        ),
        (format!("{}{}", repeated(60, "{a"), repeated(60, "}")), "deep"),
        (format!("{}{}", repeated(10_000, "{a"), repeated(10_000, "}")), ""),
        (
            format!("{{a(b:{}{})}}", repeated(20_000, "["), repeated(20_000, "]")),
            "",
        ),
        (spread(30), ""),
        (
            "{...f} fragment f on Query{...g} fragment g on Query{...f}".to_owned(),
            "",
        ),
        ("{...f} fragment f on Query{...f}".to_owned(), ""),
        ("{...nowhere}".to_owned(), ""),
        (
            format!("{{Image(image:\"{}\"){{Tag}}}}", repeated(100_000, "a")),
            "bytes",
        ),
        ("mutation{Nope}".to_owned(), ""),
        ("subscription{Nope}".to_owned(), ""),
        ("query a{__typename} query b{__typename}".to_owned(), ""),
        (String::new(), "no operation provided"),
        ("{".to_owned(), ""),
        ("{Nope}".to_owned(), ""),
        ("{Image{Tag}}".to_owned(), ""),
    ] {
        let answer = ask(query.clone()).await;
        let start: String = query.chars().take(80).collect();
        assert!(!answer.is_valid, "{start}: {}", answer.body);
        let message = text(&answer.body["errors"][0]["message"]);
        assert!(
            message.contains(why) && message.len() < 2000,
            "{start}: {message}"
        );
        let code = text(&answer.body["errors"][0]["extensions"]["code"]);
        assert!(code.starts_with("GRAPHQL_"), "{start}: {code}");
    }
}

#[tokio::test]
async fn what_a_client_asks_of_the_schema_is_within_the_bounds() {
    // As GraphiQL and its like do.
    let nested = (0..9).fold("kind name".to_owned(), |inner, _| {
        format!("kind name ofType{{{inner}}}")
    });
    let answer = ask(format!(
        "query I{{__schema{{queryType{{name}} types{{...F}} directives{{name args{{...V}}}}}}}} \
         fragment F on __Type{{kind name fields(includeDeprecated:true){{name args{{...V}} type{{...T}}}} \
         inputFields{{...V}} interfaces{{...T}} enumValues{{name}} possibleTypes{{...T}}}} \
         fragment V on __InputValue{{name type{{...T}} defaultValue}} fragment T on __Type{{{nested}}}"
    ))
    .await;
    assert!(
        answer.is_valid && answer.body.get("errors").is_none(),
        "{}",
        answer.body
    );
}

#[tokio::test(start_paused = true)]
async fn a_question_waits_for_two_seconds_for_a_look_and_then_says_that_it_is_partial() {
    // Nobody looks.
    let begun = Instant::now();
    let answer = ask("{RepoListWithNewestImage{Page{TotalCount}}}").await;
    assert_eq!(begun.elapsed().as_secs(), 2);
    assert!(answer.is_valid && answer.is_partial, "{}", answer.body);
    assert_eq!(answer.body["extensions"]["partial"], true);
    assert_eq!(
        answer.body["data"]["RepoListWithNewestImage"]["Page"]["TotalCount"],
        0
    );
}

/// Pushes an index that lists nothing.
async fn push(registry: &Registry, name: &str) {
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{{"of":"{name}"}}}}"#
    );
    push_manifest(registry, name, "v1", index).await;
}

/// Pushes an image for this operating system.
async fn push_image(registry: &Registry, name: &str, os: &str) {
    let config = json!({ "os": os, "architecture": "amd64" }).to_string();
    let digest = Digest::of(Algorithm::Sha256, config.as_bytes());
    let length = config.len();
    let body = stream::iter([Ok(config.into())]);
    let repository = name.parse().unwrap();
    registry
        .push_blob(&repository, &digest, None, body)
        .await
        .unwrap();
    let image = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest.as_str(),
            "size": length,
        },
        "layers": [],
    });
    push_manifest(registry, name, "v1", image.to_string()).await;
}

async fn push_manifest(registry: &Registry, name: &str, reference: &str, manifest: String) {
    let repository: RepoName = name.parse().unwrap();
    let (reference, only_if) = (Reference::parse(reference).unwrap(), Preconditions::default());
    let pushed = registry.put_manifest(PutManifest {
        repository: &repository,
        reference: &reference,
        tags: &[],
        media_type: None,
        body: manifest.into(),
        cause: Cause::client("test"),
        may: MayPush {
            create: true,
            update: true,
        },
        absent: MayBeAbsent::Nothing,
        only_if: &only_if,
        deadline: Instant::now() + Duration::from_secs(60),
    });
    pushed.await.unwrap();
}

async fn delete(registry: &Registry, name: &str) {
    let repository: RepoName = name.parse().unwrap();
    let only_if = Preconditions::default();
    let tag = Reference::parse("v1").unwrap();
    let digest = registry
        .describe_manifest(&repository, &tag)
        .await
        .unwrap()
        .digest;
    let reference = Reference::Digest(digest);
    let deleted = registry.delete_manifest(DeleteManifest {
        repository: &repository,
        reference: &reference,
        only_if: &only_if,
        while_listed: WhileListed::Refuse,
        cause: Cause::client("test"),
        deadline: Instant::now() + Duration::from_secs(60),
    });
    deleted.await.unwrap();
}

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

pub(super) fn requests(metrics: &Metrics) -> u64 {
    let said = metrics.render();
    let counts = said
        .lines()
        .filter(|line| line.starts_with("portolan_store_requests_total{"));
    counts
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
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
