//! `extensions.replicate`.

use super::yaml;
use crate::{
    config::Replicate,
    oci::{RepoName, Tag},
};

fn replicate(text: &str) -> Result<Option<Replicate>, String> {
    let text = format!("storage: {{rootDirectory: /d}}\nextensions:\n  replicate: {text}\n");
    yaml(&text)
        .map(|config| config.replicate)
        .map_err(|error| error.to_string())
}

#[test]
fn where_changes_go_and_under_which_names() {
    let found = replicate(
        r#"{credentialsFile: /f, registries: [{urls: ["https://West.example:5000"], maxRetries: 1, content: [
            {prefix: "team/**", destination: east, stripPrefix: true, tags: {excludeRegex: "-dev$"}}]}]}"#,
    );
    let found = found.unwrap().unwrap();
    assert_eq!(found.credentials.as_deref(), Some(std::path::Path::new("/f")));
    let registry = &found.registries[0];
    assert_eq!(registry.remote.urls[0].to_string(), "https://west.example:5000");
    assert_eq!(
        (registry.remote.retries, registry.remote.verify_certificate),
        (1, true)
    );
    let (rule, team) = (&registry.content[0], RepoName::parse("team/app").unwrap());
    assert_eq!(rule.target(&team).unwrap().as_str(), "east/app");
    let goes = |tag: &str| rule.tags.includes(&Tag::parse(tag).unwrap());
    assert!(goes("v1") && !goes("v1-dev") && !rule.tags.is_all());
}

#[test]
fn nothing_goes_where_nobody_is_named_or_it_is_off() {
    for nobody in [
        "{}",
        "{registries: []}",
        "{enable: false, registries: [{urls: [\"https://a\"]}]}",
    ] {
        assert!(replicate(nobody).unwrap().is_none(), "{nobody}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_by_its_key() {
    for (text, key) in [
        ("{registries: [{}]}", "registries[0].urls"),
        (
            "{registries: [{urls: [\"https://a/team\"]}]}",
            "registries[0].urls",
        ),
        (
            "{registries: [{urls: [\"https://a\"]}, {urls: [\"https://A\"]}]}",
            "registries[1].urls",
        ),
        (
            "{registries: [{urls: [\"https://a\"], content: [{destination: x}]}]}",
            "registries[0].content[0].prefix",
        ),
        (
            "{registries: [{urls: [\"https://a\"], onDemand: true}]}",
            "registries[0].onDemand",
        ),
    ] {
        let said = replicate(text).unwrap_err();
        assert!(
            said.contains(&format!("extensions.replicate.{key}")),
            "{text}: {said}"
        );
    }
}
