//! `storage.retention`.

use std::time::Duration;

use super::nodes::member;
use crate::{
    config::{
        check::{Checked, Setting, read},
        fault::FaultKind,
        keys::Kind,
        retention::{KeepRules, KeepTags, Retention, RetentionPolicy, TagPattern},
        tree::{Node, Value},
    },
    oci::RepoPattern,
};

const POLICIES: &str = "storage.retention.policies";
/// zot's.
const DELAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn retention(c: &mut Checked) -> Retention {
    let delay = c.duration("storage.retention.delay");
    let elements = c.elements(POLICIES);
    let policies = elements.iter().enumerate().map(|(i, node)| policy(c, i, node));
    let retention = Retention {
        policies: policies.collect(),
        dry_run: c.bool("storage.retention.dryRun").unwrap_or_default(),
        delay: delay.map_or(DELAY, Option::unwrap_or_default),
    };
    if c.bool("storage.gc") == Some(false) && !retention.policies.is_empty() {
        c.warn("storage.retention: members with gc: false don't look at it; others do");
    }
    retention
}

fn policy(c: &mut Checked, i: usize, node: &Node) -> RetentionPolicy {
    let path = format!("{POLICIES}[{i}]");
    let mut repositories = Vec::new();
    let named = texts(member(node, "repositories"));
    if named.is_empty() {
        c.warn(format!("{path}: names no repositories, so it never counts"));
    }
    for (n, (text, line)) in named.into_iter().enumerate() {
        match RepoPattern::parse(&text) {
            Ok(pattern) => repositories.push(pattern),
            Err(error) => {
                let problem = format!("expected a pattern of repository names: {error}");
                c.refuse_element(
                    FaultKind::Value,
                    &format!("{path}.repositories"),
                    n,
                    line,
                    problem,
                );
            }
        }
    }
    let keep_tags = match member(node, "keepTags").map(|node| &node.value) {
        Some(Value::List(entries)) => entries
            .iter()
            .enumerate()
            .map(|(n, entry)| keep_tags(c, &format!("{path}.keepTags[{n}]"), entry))
            .collect(),
        Some(_) | None => Vec::new(),
    };
    RetentionPolicy {
        repositories,
        delete_referrers: flag(node, "deleteReferrers").unwrap_or(false),
        delete_untagged: flag(node, "deleteUntagged").unwrap_or(true),
        keep_tags,
        keep_untagged: match member(node, "keepUntagged") {
            Some(node) => rules(c, &format!("{path}.keepUntagged"), node),
            None => KeepRules::default(),
        },
    }
}

fn keep_tags(c: &mut Checked, path: &str, node: &Node) -> KeepTags {
    let mut patterns = Vec::new();
    for (n, (text, line)) in texts(member(node, "patterns")).into_iter().enumerate() {
        match TagPattern::parse(&text) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                let problem = format!("expected a regular expression: {error}");
                c.refuse_element(FaultKind::Value, &format!("{path}.patterns"), n, line, problem);
            }
        }
    }
    KeepTags {
        patterns,
        rules: rules(c, path, node),
    }
}

fn rules(c: &mut Checked, path: &str, node: &Node) -> KeepRules {
    let mut count = |name: &str| {
        let node = member(node, name)?;
        // What isn't a number has its fault already.
        let Ok(Setting::Int(count)) = read(Kind::Int, &node.value) else {
            return None;
        };
        if count < 0 {
            let problem = format!("expected how many are kept, at least 1, got {count}");
            c.refuse_at(FaultKind::Value, &format!("{path}.{name}"), node.line, problem);
        }
        usize::try_from(count).ok().filter(|count| *count > 0)
    };
    let most_recently_pushed = count("mostRecentlyPushedCount");
    let most_recently_pulled = count("mostRecentlyPulledCount");
    let mut within = |name: &str| {
        let node = member(node, name)?;
        let Ok(Setting::Duration(within)) = read(Kind::Duration, &node.value) else {
            return None;
        };
        if within.is_none() {
            let problem = "expected a duration above 0, like 168h: a rule that keeps nothing is left out";
            let path = format!("{path}.{name}");
            c.refuse_at(FaultKind::Value, &path, node.line, problem.to_owned());
        }
        within
    };
    KeepRules {
        most_recently_pushed,
        most_recently_pulled,
        pulled_within: within("pulledWithin"),
        pushed_within: within("pushedWithin"),
    }
}

fn flag(node: &Node, name: &str) -> Option<bool> {
    match read(Kind::Bool, &member(node, name)?.value) {
        Ok(Setting::Bool(flag)) => Some(flag),
        _ => None,
    }
}

fn texts(node: Option<&Node>) -> Vec<(String, u32)> {
    let Some(node) = node else { return Vec::new() };
    match read(Kind::Texts, &node.value) {
        Ok(Setting::Texts(texts)) => {
            let lined = |(text, line)| (text, if line == 0 { node.line } else { line });
            texts.into_iter().map(lined).collect()
        }
        _ => Vec::new(),
    }
}
