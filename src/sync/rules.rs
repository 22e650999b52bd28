//! Which registry has what, and under which name.

use std::{sync::Arc, time::Duration};

use crate::{
    config::{ContentRule, Limits, SyncRegistry, UpstreamUrl},
    oci::{Reference, RepoName, Tag},
    outbound::TrustError,
    telemetry::Metrics,
    upstream::{Credentials, Upstream},
};

/// A registry that is mirrored.
pub(super) struct Source {
    pub(super) upstream: Arc<Upstream>,
    pub(super) check_interval: Option<Duration>,
    pub(super) timeout: Duration,
    hosts: Vec<String>,
    cosign_tags: bool,
    content: Vec<ContentRule>,
}

impl Source {
    pub(super) fn new(
        registry: &SyncRegistry,
        credentials: &Credentials,
        limits: &Limits,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, TrustError> {
        Ok(Self {
            upstream: Arc::new(Upstream::new(registry, credentials, limits, metrics.clone())?),
            check_interval: registry.check_interval,
            timeout: registry.timeout,
            hosts: registry.urls.iter().flat_map(hosts).collect(),
            cosign_tags: registry.cosign_tags,
            content: registry.content.clone(),
        })
    }

    /// Whether the registry is meant by `host`.
    pub(super) fn is(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    }

    /// What `repository` is called there, if it is mirrored from there and `reference`, where there is one, too.
    pub(super) fn remote(&self, repository: &RepoName, reference: Option<&Reference>) -> Option<RepoName> {
        if self.content.is_empty() {
            let is_meant = self.includes(None, reference);
            return is_meant.then(|| repository.clone());
        }
        self.content.iter().find_map(|rule| {
            let remote = remote(rule, repository)?;
            self.includes(Some(rule), reference).then_some(remote)
        })
    }

    fn includes(&self, rule: Option<&ContentRule>, reference: Option<&Reference>) -> bool {
        let Some(Reference::Tag(tag)) = reference else {
            return true;
        };
        match is_of_signature(tag) {
            true => self.cosign_tags,
            false => rule.is_none_or(|rule| rule.tags.includes(tag)),
        }
    }
}

/// The hosts by which clients call a registry.
fn hosts(url: &UpstreamUrl) -> Vec<String> {
    let mut hosts = vec![url.authority.clone(), url.host().to_owned()];
    if url.authority == "registry-1.docker.io" {
        hosts.extend(["docker.io", "index.docker.io"].map(str::to_owned));
    }
    hosts
}

/// Whether a tag is one under which signatures and the like are kept of a manifest: cosign's, and the specification's where there is
/// no API of referrers.
fn is_of_signature(tag: &Tag) -> bool {
    let Some(rest) = tag.as_str().strip_prefix("sha256-") else {
        return false;
    };
    let hex = rest.split('.').next().unwrap_or_default();
    hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What the rule's repository that is `local` here is called upstream.
fn remote(rule: &ContentRule, local: &RepoName) -> Option<RepoName> {
    let rest = below(&rule.destination, local.as_str())?;
    let remote = match (rule.strip_prefix, rule.base.as_str(), rest) {
        (false, _, "") => return None,
        (false, _, rest) | (true, "", rest) => rest.to_owned(),
        (true, base, "") => base.to_owned(),
        (true, base, rest) => format!("{base}/{rest}"),
    };
    let remote = RepoName::parse(&remote).ok()?;
    rule.prefix.matches(&remote).then_some(remote)
}

/// What follows the components of `parent` in `name`.
fn below<'a>(parent: &str, name: &'a str) -> Option<&'a str> {
    if parent.is_empty() {
        return Some(name);
    }
    match name.strip_prefix(parent)? {
        "" => Some(""),
        rest => rest.strip_prefix('/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::TagRule, oci::RepoPattern};

    fn rule(prefix: &str, base: &str, destination: &str, strip_prefix: bool) -> ContentRule {
        ContentRule {
            prefix: RepoPattern::parse(prefix).unwrap(),
            base: base.to_owned(),
            destination: destination.to_owned(),
            strip_prefix,
            tags: TagRule::default(),
        }
    }

    #[test]
    fn names_here_are_led_back_to_names_upstream() {
        for (rule, local, expected) in [
            (rule("**", "", "", false), "a/b", Some("a/b")),
            (
                rule("library/**", "library", "", false),
                "library/x",
                Some("library/x"),
            ),
            (rule("library/**", "library", "", false), "other/x", None),
            (
                rule("library/**", "library", "hub", false),
                "hub/library/x",
                Some("library/x"),
            ),
            (
                rule("library/**", "library", "hub", true),
                "hub/x/y",
                Some("library/x/y"),
            ),
            (rule("library/**", "library", "", true), "x", Some("library/x")),
            (
                rule("repo1/repo", "repo1/repo", "repo", true),
                "repo",
                Some("repo1/repo"),
            ),
            (rule("repo1/repo", "repo1/repo", "repo", true), "repo/x", None),
            (rule("a/*", "a", "hub", true), "hub/x/y", None),
            (rule("**", "", "hub", false), "hubble/x", None),
            (rule("**", "", "hub", false), "hub", None),
        ] {
            let local = RepoName::parse(local).unwrap();
            let found = remote(&rule, &local);
            assert_eq!(found.as_ref().map(RepoName::as_str), expected, "{rule:?} {local}");
        }
    }

    #[test]
    fn tags_of_signatures_are_told_from_others() {
        let is = |tag: &str| is_of_signature(&Tag::parse(tag).unwrap());
        let hex = "0a".repeat(32);
        assert!(is(&format!("sha256-{hex}.sig")) && is(&format!("sha256-{hex}")));
        assert!(!is("sha256-abc.sig") && !is("latest") && !is(&format!("sha256-{hex}0")));
    }
}
