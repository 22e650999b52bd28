//! The schema is zot's, and questions are bounded.

use std::{fmt::Write as _, sync::Arc};

use serde_json::Value;

use super::{Asker, Question, Search, SearchLimits};
use crate::{
    admission::Visible,
    config::Limits,
    ownership::Incarnation,
    registry::{Holder, Registry, Settings, Stores},
    storage::{MemoryBlobs, MemoryMeta},
};

fn search() -> Arc<Search> {
    let stores = Stores {
        meta: Arc::new(MemoryMeta::default()),
        blobs: Arc::new(MemoryBlobs::new()),
    };
    let holder = Holder {
        member: "127.0.0.1:5000".parse().unwrap(),
        incarnation: Incarnation::random(),
    };
    let registry = Arc::new(Registry::new(stores, holder, Settings::default()));
    Arc::new(Search::new(registry, SearchLimits::from(&Limits::default())))
}

async fn ask(query: impl Into<String>) -> super::Answer {
    let question = Question {
        query: query.into(),
        ..Question::default()
    };
    let asker = Asker {
        user: None,
        sees: Visible::Everything,
        may_delete: Visible::Nothing,
    };
    search().answer(asker, &question).await
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
