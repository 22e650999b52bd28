//! `storage.immutableTags`.

use super::*;

fn with(rules: &str) -> String {
    format!("storage:\n  rootDirectory: /d\n  immutableTags:\n{rules}")
}

#[test]
fn rules_are_patterns_by_name() {
    let rules = "    releases: {repositories: [\"prod/**\", base], tags: [\"v*\", stable], except: \"v0.*\"}\n    all:\n      repositories: \"**\"\n      tags: \"*\"\n";
    let config = yaml(&with(rules)).unwrap();
    let said: Vec<_> = config
        .immutable_tags
        .iter()
        .map(|rule| {
            let texts = |patterns: &[crate::oci::TagPattern]| {
                patterns.iter().map(ToString::to_string).collect::<Vec<_>>()
            };
            let repositories: Vec<_> = rule.repositories.iter().map(|pattern| pattern.as_str()).collect();
            format!(
                "{} {repositories:?} {:?} {:?}",
                rule.name,
                texts(&rule.tags),
                texts(&rule.except)
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            "releases [\"prod/**\", \"base\"] [\"v*\", \"stable\"] [\"v0.*\"]",
            "all [\"**\"] [\"*\"] []"
        ]
    );
    assert!(yaml(&with("    # none\n")).unwrap().immutable_tags.is_empty());
}

#[test]
fn a_rule_that_keeps_nothing_is_refused() {
    refused(
        &with(
            "    a: {repositories: [x], tags: []}\n    b: {tags: [\"v*\"]}\n    c: {repositories: [\"/x\"], tags: [\"v[0-9]\"], except: [\"\"]}\n    d: {repositories: [x], tags: [y], tag: [z]}\n",
        ),
        &[
            "4 storage.immutableTags.\"a\".tags: expected at least one pattern",
            "5 storage.immutableTags.\"b\".repositories: expected at least one pattern",
            "6 storage.immutableTags.\"c\".repositories[0]: expected a pattern, got \"/x\": no repository's name has a slash",
            "6 storage.immutableTags.\"c\".tags[0]: expected a pattern, got \"v[0-9]\": a pattern of tags has",
            "6 storage.immutableTags.\"c\".except[0]: expected a pattern, got \"\"",
            "7 storage.immutableTags.d.tag: ",
        ],
    );
}
