//! Which registry has what, and under which name.

use std::{sync::Arc, time::Duration};

use crate::{
    config::{ContentRule, Limits, Platform, SyncRegistry, UpstreamUrl},
    oci::{Algorithm, Digest, Reference, RepoName, Tag},
    outbound::TrustError,
    telemetry::Metrics,
    upstream::{Budgets, Credentials, Purpose, Upstream},
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
        budgets: &Arc<Budgets>,
        limits: &Limits,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, TrustError> {
        let hosts: Vec<_> = registry.remote.urls.iter().flat_map(hosts).collect();
        let name = hosts.first().map_or("", String::as_str);
        let budget = budgets.of(call(name, position), &registry.remote, limits.upstream.requests);
        let rules = registry
            .content
            .iter()
            .map(|content| Rule::new(content, registry));
        Ok(Self {
            upstream: Arc::new(Upstream::new(
                &registry.remote,
                Purpose::Pull,
                credentials,
                budget,
                limits,
                metrics.clone(),
            )?),
            position,
            on_demand: registry.on_demand,
            poll_interval: registry.poll_interval,
            platforms: registry.platforms.clone(),
            check_interval: registry.check_interval,
            timeout: registry.timeout,
            hosts,
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

    /// What orders, and budgets, call it.
    pub(super) fn work(&self) -> String {
        call(self.name(), self.position)
    }

    /// The rules of what is mirrored.
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules by which a repository here is mirrored, and what it is called upstream by each.
    pub(super) fn rules_of(&self, repository: &RepoName) -> impl Iterator<Item = (&Rule, RepoName)> {
        let rules = self.rules.iter();
        rules.filter_map(|rule| Some((rule, rule.content.source(repository)?)))
    }

    /// Whether a tag is mirrored by that rule.
    pub(super) fn wants(&self, rule: &ContentRule, tag: &Tag) -> bool {
        match tag.subject() {
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
            let remote = rule.content.source(repository)?;
            self.includes(Some(&rule.content), reference).then_some(remote)
        })
    }

    fn includes(&self, rule: Option<&ContentRule>, reference: Option<&Reference>) -> bool {
        let Some(Reference::Tag(tag)) = reference else {
            return true;
        };
        match rule {
            Some(rule) => self.wants(rule, tag),
            None => self.cosign_tags || tag.subject().is_none(),
        }
    }
}

/// Several in a configuration may have the same host.
fn call(name: &str, position: usize) -> String {
    format!("{name}#{position}")
}

/// The hosts by which clients call a registry.
fn hosts(url: &UpstreamUrl) -> Vec<String> {
    let mut hosts = vec![url.authority.clone(), url.host().to_owned()];
    if url.authority == "registry-1.docker.io" {
        hosts.extend(["docker.io", "index.docker.io"].map(str::to_owned));
    }
    hosts
}

/// The manifest of which signatures and the like are kept under the reference.
pub(super) fn subject_of(reference: &Reference) -> Option<Digest> {
    match reference {
        Reference::Tag(tag) => tag.subject(),
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

/// What `repository` is called upstream by the first rule that fits; without rules, the same.
pub(super) fn upstream_name(rules: &[ContentRule], repository: &RepoName) -> Option<RepoName> {
    match rules {
        [] => Some(repository.clone()),
        rules => rules.iter().find_map(|rule| rule.source(repository)),
    }
}
