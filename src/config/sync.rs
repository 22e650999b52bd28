//! What is mirrored from where (`extensions.sync`), and what is sent on (`extensions.replicate`).

use std::{collections::BTreeSet, fmt, num::NonZeroU64, path::PathBuf, time::Duration};

use regex_lite::Regex;

use crate::oci::{RepoName, RepoPattern, Tag};

/// Registries that this one mirrors.
#[derive(Debug, Clone, Default)]
pub struct Sync {
    /// Logins by host; read by the start.
    pub credentials: Option<PathBuf>,
    /// In the order in which they are asked.
    pub registries: Vec<SyncRegistry>,
}

/// Registries that changes are sent on to.
#[derive(Debug, Clone, Default)]
pub struct Replicate {
    /// Logins by host; read by the start.
    pub credentials: Option<PathBuf>,
    /// Each follows by itself.
    pub registries: Vec<ReplicateRegistry>,
}

/// One registry that changes are sent on to.
#[derive(Debug, Clone)]
pub struct ReplicateRegistry {
    /// The registry.
    pub remote: Remote,
    /// What is sent on; with none, everything under its own name.
    pub content: Vec<ContentRule>,
}

/// Another registry, and how it is asked.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Where it is, each tried when those before it fail. Never empty.
    pub urls: Vec<UpstreamUrl>,
    /// Its certificate is checked.
    pub verify_certificate: bool,
    /// Further authorities, and a certificate to show.
    pub certificates: Option<PathBuf>,
    /// How often a request is repeated that failed.
    pub retries: u32,
    /// Pause before the first repetition, doubled for each further one.
    pub retry_delay: Duration,
    /// The longest of these pauses.
    pub retry_delay_max: Duration,
    /// Requests at once; `None` leaves it to the program.
    pub concurrent: Option<usize>,
    /// Time from one request to the next.
    pub spacing: Option<Duration>,
    /// Bytes of blobs a second.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Hosts that may be sent its logins for tokens, beside those that belong to it.
    pub realm_hosts: BTreeSet<String>,
}

/// One registry that is mirrored.
#[derive(Debug, Clone)]
pub struct SyncRegistry {
    /// The registry.
    pub remote: Remote,
    /// What isn't here is fetched when somebody asks for it.
    pub on_demand: bool,
    /// From round to round in which all of `content` is brought; `None`: there are none.
    pub poll_interval: Option<Duration>,
    /// Which entries of indexes these rounds fetch; all, if there are none.
    pub platforms: Vec<Platform>,
    /// For how long a tag that is here is served without asking; `None` asks each time.
    pub check_interval: Option<Duration>,
    /// Time for one blob.
    pub timeout: Duration,
    /// Whether a part of a blob that doesn't reach its end is given before the digest of all is known to be right.
    pub ranges_before_verified: bool,
    /// Whether signatures under cosign's tags are mirrored, whatever the rules say of tags.
    pub cosign_tags: bool,
    /// What it has no signature of isn't mirrored.
    pub only_signed: bool,
    /// What of it is mirrored; with none, everything under its own name.
    pub content: Vec<ContentRule>,
}

/// A platform as indexes name them, such as `linux/amd64` or `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// Reads `os/architecture` or `os/architecture/variant`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        match parts[..] {
            [os, architecture] => Some((os, architecture, None)),
            [os, architecture, variant] => Some((os, architecture, Some(variant.to_owned()))),
            _ => None,
        }
        .map(|(os, architecture, variant)| Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant,
        })
    }

    /// Whether an entry is of this platform; without a variant, of any.
    #[must_use]
    pub fn is(&self, os: &str, architecture: &str, variant: &str) -> bool {
        self.os == os
            && self.architecture == architecture
            && self.variant.as_ref().is_none_or(|wanted| wanted == variant)
    }
}

/// Where a registry is, `scheme://host` and perhaps `:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// `https`, or `http`.
    pub scheme: &'static str,
    /// Host, in lower case, and port, if one is said.
    pub authority: String,
}

impl UpstreamUrl {
    /// The host, without the port.
    #[must_use]
    pub fn host(&self) -> &str {
        let (host, port) = self.authority.rsplit_once(':').unwrap_or((&self.authority, ""));
        match port.bytes().all(|b| b.is_ascii_digit()) {
            true => host,
            // A part of an IPv6 address.
            false => &self.authority,
        }
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// Which repositories are brought from where they are to where they aren't yet, under which names.
#[derive(Debug, Clone)]
pub struct ContentRule {
    /// Repositories where they come from.
    pub prefix: RepoPattern,
    /// The components of `prefix` before the first that is a pattern; may be empty.
    pub base: String,
    /// What names begin with where they go; may be empty.
    pub destination: String,
    /// Whether `base` is left out of names where they go.
    pub strip_prefix: bool,
    /// Which tags.
    pub tags: TagRule,
}

impl ContentRule {
    /// The one repository that it names, if it has no pattern.
    #[must_use]
    pub fn literal(&self) -> Option<RepoName> {
        let name = RepoName::parse(&self.base).ok()?;
        (self.prefix.as_str() == self.base).then_some(name)
    }

    /// What a repository is called where it goes, if the rule is about it.
    #[must_use]
    pub fn target(&self, source: &RepoName) -> Option<RepoName> {
        if !self.prefix.matches(source) {
            return None;
        }
        let rest = match self.strip_prefix {
            true => below(&self.base, source.as_str())?,
            false => source.as_str(),
        };
        let parts = [self.destination.as_str(), rest];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        RepoName::parse(&parts.join("/")).ok()
    }

    /// What a repository is called where it comes from, if the rule brings it to that name.
    #[must_use]
    pub fn source(&self, target: &RepoName) -> Option<RepoName> {
        let rest = below(&self.destination, target.as_str())?;
        let source = match (self.strip_prefix, self.base.as_str(), rest) {
            (false, _, "") => return None,
            (false, _, rest) | (true, "", rest) => rest.to_owned(),
            (true, base, "") => base.to_owned(),
            (true, base, rest) => format!("{base}/{rest}"),
        };
        let source = RepoName::parse(&source).ok()?;
        self.prefix.matches(&source).then_some(source)
    }
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

/// Which tags are meant.
#[derive(Debug, Clone, Default)]
pub struct TagRule {
    /// Those in which this is found.
    pub regex: Option<Regex>,
    /// And in which this isn't.
    pub exclude: Option<Regex>,
    /// And that are versions.
    pub semver: bool,
}

impl TagRule {
    /// Whether every tag is meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.regex.is_none() && self.exclude.is_none() && !self.semver
    }

    /// Whether `tag` is meant.
    #[must_use]
    pub fn includes(&self, tag: &Tag) -> bool {
        let tag = tag.as_str();
        self.regex.as_ref().is_none_or(|regex| regex.is_match(tag))
            && !self.exclude.as_ref().is_some_and(|regex| regex.is_match(tag))
            && (!self.semver || is_version(tag))
    }
}

/// One to three numbers, perhaps a `v` before them, a pre-release and metadata after them, as zot reads versions. (A tag can
/// hold no `+`.)
fn is_version(tag: &str) -> bool {
    let tag = tag.strip_prefix('v').unwrap_or(tag);
    let (numbers, prerelease) = tag.split_once('-').map_or((tag, None), |(n, p)| (n, Some(p)));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_identifier =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    numbers.split('.').count() <= 3
        && numbers.split('.').all(is_number)
        && prerelease.is_none_or(|prerelease| prerelease.split('.').all(is_identifier))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn names_where_they_go_are_led_back_to_those_where_they_come_from() {
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
            let found = rule.source(&local);
            assert_eq!(found.as_ref().map(RepoName::as_str), expected, "{rule:?} {local}");
            if let Some(found) = found {
                assert_eq!(rule.target(&found), Some(local), "{rule:?} and back");
            }
        }
    }

    #[test]
    fn names_are_led_to_those_that_a_rule_has_where_they_go() {
        for (rule, there, expected, names_one) in [
            (rule("a/*", "a", "hub", false), "a/b/c", None, false),
            (rule("a/*", "a", "", true), "a/b", Some("b"), false),
            (rule("a", "a", "", true), "a", None, true),
            (rule("a/b", "a/b", "hub", false), "a/b", Some("hub/a/b"), true),
        ] {
            let there = RepoName::parse(there).unwrap();
            let found = rule.target(&there);
            assert_eq!(found.as_ref().map(RepoName::as_str), expected, "{rule:?} {there}");
            assert_eq!(rule.literal().is_some(), names_one, "{rule:?}");
        }
    }

    #[test]
    fn versions_are_told_from_other_tags() {
        for tag in ["1", "v1", "1.2", "1.2.3", "v1.2.3-rc.1", "1.2.3-alpha-x"] {
            assert!(is_version(tag), "{tag}");
        }
        for tag in ["latest", "1.2.3.4", "v", "1.x", "1.2.3-", "1..2", "vv1", "1_2"] {
            assert!(!is_version(tag), "{tag}");
        }
    }

    #[test]
    fn tags_pass_all_that_is_said_of_them() {
        let rule = TagRule {
            regex: Some(Regex::new("^v?[0-9]").unwrap()),
            exclude: Some(Regex::new("-rc").unwrap()),
            semver: true,
        };
        let includes = |tag: &str| rule.includes(&Tag::parse(tag).unwrap());
        assert!(includes("v1.2") && includes("1.2.3-beta"));
        assert!(!includes("v1.2-rc1") && !includes("latest") && !includes("2024_01"));
        assert!(TagRule::default().includes(&Tag::parse("latest").unwrap()));
    }

    #[test]
    fn a_platform_without_a_variant_is_any() {
        let arm = Platform::parse("linux/arm").unwrap();
        assert!(arm.is("linux", "arm", "v7") && arm.is("linux", "arm", "") && !arm.is("linux", "arm64", ""));
        let v7 = Platform::parse("linux/arm/v7").unwrap();
        assert!(v7.is("linux", "arm", "v7") && !v7.is("linux", "arm", "v6"));
        for none in ["", "arm64", "linux/", "a/b/c/d"] {
            assert_eq!(Platform::parse(none), None, "{none}");
        }
    }

    #[test]
    fn a_host_is_told_from_its_port() {
        for (authority, host) in [
            ("a.example", "a.example"),
            ("a.example:5000", "a.example"),
            ("[::1]", "[::1]"),
            ("[::1]:5000", "[::1]"),
        ] {
            let url = UpstreamUrl {
                scheme: "https",
                authority: authority.to_owned(),
            };
            assert_eq!(url.host(), host);
        }
    }
}
