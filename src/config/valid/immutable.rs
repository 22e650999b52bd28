//! `storage.immutableTags`.

use super::nodes::{lined_strings, member};
use crate::{
    config::{ImmutableTags, check::Checked, fault::FaultKind, tree::Node},
    oci::{RepoPattern, TagPattern},
};

const RULES: &str = "storage.immutableTags";

pub(super) fn rules(c: &mut Checked) -> Vec<ImmutableTags> {
    let entries = c.entries(RULES);
    entries.iter().map(|(name, node)| rule(c, name, node)).collect()
}

fn rule(c: &mut Checked, name: &str, node: &Node) -> ImmutableTags {
    let path = format!("{RULES}.{name:?}");
    let rule = ImmutableTags {
        name: name.to_owned(),
        repositories: patterns(c, &path, node, "repositories", RepoPattern::parse),
        tags: patterns(c, &path, node, "tags", TagPattern::parse),
        except: patterns(c, &path, node, "except", TagPattern::parse),
    };
    // Left out by mistake either would keep nothing, or everything.
    for key in ["repositories", "tags"] {
        if lined_strings(member(node, key)).is_empty() {
            let problem =
                "expected at least one pattern; \"**\" is every repository, \"*\" every tag".to_owned();
            c.refuse_at(FaultKind::Value, &format!("{path}.{key}"), node.line, problem);
        }
    }
    rule
}

fn patterns<P, E: std::fmt::Display>(
    c: &mut Checked,
    path: &str,
    node: &Node,
    key: &str,
    parse: impl Fn(&str) -> Result<P, E>,
) -> Vec<P> {
    let mut patterns = Vec::new();
    for (i, (text, line)) in lined_strings(member(node, key)).into_iter().enumerate() {
        match parse(&text) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                let problem = format!("expected a pattern, got {text:?}: {error}");
                c.refuse_element(FaultKind::Value, &format!("{path}.{key}"), i, line, problem);
            }
        }
    }
    patterns
}
