//! The schema is zot's, and questions are bounded.

mod attached;
mod reads;

use std::{fmt::Write as _, sync::Arc, time::Duration};

use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Asker, Question, Search};
use crate::{
    admission::Visible,
    config::limits::SearchLimits,
    oci::{Algorithm, Digest, Preconditions, Reference, RepoName},
    ownership::Incarnation,
    registry::{
        DeleteManifest, Holder, MayBeAbsent, MayPush, PutManifest, Registry, Settings, Stores, WhileListed,
        changes::Cause,
    },
    storage::{MemoryBlobs, MemoryMeta, MetaStore},
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

pub(super) fn requests(metrics: &Metrics) -> u64 {
    let said = metrics.render();
    let counts = said
        .lines()
        .filter(|line| line.starts_with("portolan_store_requests_total{"));
    counts
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}
