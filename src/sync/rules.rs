//! Which registry has what, and under which name.

use std::{sync::Arc, time::Duration};

use crate::{
    config::{ContentRule, Limits, Platform, SyncRegistry, UpstreamUrl},
    oci::{Algorithm, Digest, Reference, RepoName, Tag},
    outbound::TrustError,
    telemetry::Metrics,
    upstream::{Credentials, Upstream},
};

/// Hexadecimal digits of a rule's mark.
const MARK: usize = 16;

/// A registry that is mirrored.
pub(super) struct Source {
    pub(super) upstream: Arc<Upstream>,
    /// Its place in the configuration.
    pub(super) position: usize,
    pub(super) on_demand: bool,
    pub(super) poll_interval: Option<Duration>,
    pub(super) platforms: Vec<Platform>,
    pub(super) check_interval: Option<Duration>,
    pub(super) timeout: Duration,
    pub(super) cosign_tags: bool,
    /// What it has no signature of isn't mirrored.
    pub(super) only_signed: bool,
    /// Parts are given before they are known to be right.
    pub(super) early_ranges: bool,
    hosts: Vec<String>,
    rules: Vec<Rule>,
}

/// A rule of what is mirrored.
pub(super) struct Rule {
    pub(super) content: ContentRule,
    /// By which it is told from what stood in its place before: of everything that says what a visit brings.
    pub(super) mark: String,
}

impl Rule {
    fn new(content: &ContentRule, registry: &SyncRegistry) -> Self {
        let said = match registry.only_signed {
            // As releases said it that didn't know better.
            false => format!("{content:?} {:?} {}", registry.platforms, registry.cosign_tags),
            true => format!(
                "{content:?} {:?} {} signed",
                registry.platforms, registry.cosign_tags
            ),
        };
        let digest = Digest::of(Algorithm::Sha256, said.as_bytes());
        let hex = digest.as_str().trim_start_matches("sha256:");
        Self {
            content: content.clone(),
            mark: hex[..MARK].to_owned(),
        }
    }
}

impl Source {
    pub(super) fn new(
        position: usize,
        registry: &SyncRegistry,
        credentials: &Credentials,
        limits: &Limits,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, TrustError> {
        let rules = registry
            .content
            .iter()
            .map(|content| Rule::new(content, registry));
        Ok(Self {
            upstream: Arc::new(Upstream::new(registry, credentials, limits, metrics.clone())?),
            position,
            on_demand: registry.on_demand,
            poll_interval: registry.poll_interval,
            platforms: registry.platforms.clone(),
            check_interval: registry.check_interval,
            timeout: registry.timeout,
            hosts: registry.urls.iter().flat_map(hosts).collect(),
            cosign_tags: registry.cosign_tags,
            only_signed: registry.only_signed,
            early_ranges: registry.ranges_before_verified,
            rules: rules.collect(),
        })
    }

    /// Where it is, for people.
    pub(super) fn name(&self) -> &str {
        self.hosts.first().map_or("", String::as_str)
    }

    /// The rules of what is mirrored.
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether a tag is mirrored by that rule.
    pub(super) fn wants(&self, rule: &ContentRule, tag: &Tag) -> bool {
        match subject(tag) {
            Some(_) => self.cosign_tags,
            None => rule.tags.includes(tag),
        }
    }

    /// Whether the registry is meant by `host`.
    pub(super) fn is(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    }

    /// What `repository` is called there, if it is mirrored from there and `reference`, where there is one, too.
    pub(super) fn remote(&self, repository: &RepoName, reference: Option<&Reference>) -> Option<RepoName> {
        if self.rules.is_empty() {
            let is_meant = self.includes(None, reference);
            return is_meant.then(|| repository.clone());
        }
        self.rules.iter().find_map(|rule| {
            let remote = remote(&rule.content, repository)?;
            self.includes(Some(&rule.content), reference).then_some(remote)
        })
    }

    fn includes(&self, rule: Option<&ContentRule>, reference: Option<&Reference>) -> bool {
        let Some(Reference::Tag(tag)) = reference else {
            return true;
        };
        match rule {
            Some(rule) => self.wants(rule, tag),
            None => self.cosign_tags || subject(tag).is_none(),
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

/// The manifest of which signatures and the like are kept under a tag, if it is one for that: cosign's, or the specification's where
/// there is no API of referrers.
fn subject(tag: &Tag) -> Option<Digest> {
    let hex = tag.as_str().strip_prefix("sha256-")?.split('.').next()?;
    Digest::parse(&format!("sha256:{hex}")).ok()
}

/// The same of a reference.
pub(super) fn subject_of(reference: &Reference) -> Option<Digest> {
    match reference {
        Reference::Tag(tag) => subject(tag),
        Reference::Digest(_) => None,
    }
}

/// cosign's tags of a manifest.
pub(super) fn signature_tags(subject: &Digest) -> impl Iterator<Item = Tag> {
    let tags = ["sig", "att", "sbom"].map(|end| cosign_tag(subject, end));
    tags.into_iter().flatten()
}

/// The one of them under which its signatures are.
pub(super) fn signature_tag(subject: &Digest) -> Option<Tag> {
    cosign_tag(subject, "sig")
}

fn cosign_tag(subject: &Digest, end: &str) -> Option<Tag> {
    let stem = subject.as_str().replacen(':', "-", 1);
    Tag::parse(&format!("{stem}.{end}")).ok()
}

/// The one repository that a rule names, if it has no pattern.
pub(super) fn literal(rule: &ContentRule) -> Option<RepoName> {
    let name = RepoName::parse(&rule.base).ok()?;
    (rule.prefix.as_str() == rule.base).then_some(name)
}

/// What the rule's repository that is `remote` upstream is called here.
pub(super) fn local(rule: &ContentRule, remote: &RepoName) -> Option<RepoName> {
    if !rule.prefix.matches(remote) {
        return None;
    }
    let rest = match rule.strip_prefix {
        true => below(&rule.base, remote.as_str())?,
        false => remote.as_str(),
    };
    let parts = [rule.destination.as_str(), rest];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    RepoName::parse(&parts.join("/")).ok()
}

/// What `repository` is called upstream by the first rule that fits; without rules, the same.
pub(super) fn upstream_name(rules: &[ContentRule], repository: &RepoName) -> Option<RepoName> {
    match rules {
        [] => Some(repository.clone()),
        rules => rules.iter().find_map(|rule| remote(rule, repository)),
    }
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
            if let Some(found) = found {
                assert_eq!(super::local(&rule, &found), Some(local), "{rule:?} and back");
            }
        }
    }

    #[test]
    fn names_upstream_are_led_to_those_that_a_rule_has_here() {
        for (rule, there, expected, names_one) in [
            (rule("a/*", "a", "hub", false), "a/b/c", None, false),
            (rule("a/*", "a", "", true), "a/b", Some("b"), false),
            (rule("a", "a", "", true), "a", None, true),
            (rule("a/b", "a/b", "hub", false), "a/b", Some("hub/a/b"), true),
        ] {
            let there = RepoName::parse(there).unwrap();
            let found = local(&rule, &there);
            assert_eq!(found.as_ref().map(RepoName::as_str), expected, "{rule:?} {there}");
            assert_eq!(literal(&rule).is_some(), names_one, "{rule:?}");
        }
    }

    #[test]
    fn tags_of_signatures_are_told_from_others() {
        let of = |tag: &str| subject(&Tag::parse(tag).unwrap()).map(|digest| digest.to_string());
        let hex = "0a".repeat(32);
        for signatures in [format!("sha256-{hex}.sig"), format!("sha256-{hex}")] {
            assert_eq!(of(&signatures), Some(format!("sha256:{hex}")), "{signatures}");
        }
        for other in ["sha256-abc.sig", "latest", &format!("sha256-{hex}0")] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
