//! `storage.retention`: which tags and manifests are kept, with zot's keys and meaning.

use std::{fmt, time::Duration};

use regex_lite::Regex;

use crate::oci::{RepoName, RepoPattern, Tag};

/// What is said of all repositories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Nothing goes; the log says what would.
    pub dry_run: bool,
    /// Age at which untagged manifests, and referrers whose subject is gone, may go.
    pub delay: Duration,
    /// The first that fits a repository counts.
    pub policies: Vec<RetentionPolicy>,
}

impl Retention {
    /// What counts for a repository; `None` keeps everything.
    pub fn policy(&self, repository: &RepoName) -> Option<&RetentionPolicy> {
        let fits = |policy: &&RetentionPolicy| {
            policy
                .repositories
                .iter()
                .any(|pattern| pattern.matches(repository))
        };
        self.policies.iter().find(fits)
    }
}

/// What is kept in some repositories; by default everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// In which.
    pub repositories: Vec<RepoPattern>,
    /// Whether referrers go whose subject is gone.
    pub delete_referrers: bool,
    /// Whether manifests go that have no tag and that nothing needs.
    pub delete_untagged: bool,
    /// Which tags are kept: each by the first entry that fits it, one that none fits isn't. Without entries all are.
    pub keep_tags: Vec<KeepTags>,
    /// Which untagged manifests are kept all the same.
    pub keep_untagged: KeepRules,
}

/// An entry of `keepTags`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepTags {
    /// Which tags it is about; without any, all.
    pub patterns: Vec<TagPattern>,
    /// Which of them are kept; without any rule, all.
    pub rules: KeepRules,
}

/// Rules, any of which keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepRules {
    /// So many, pushed last.
    pub most_recently_pushed: Option<usize>,
    /// So many, pulled last.
    pub most_recently_pulled: Option<usize>,
    /// What was pulled, or pushed, so lately.
    pub pulled_within: Option<Duration>,
    /// What was pushed so lately.
    pub pushed_within: Option<Duration>,
}

impl KeepRules {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A regular expression that a tag fits if it matches anywhere in it, as in zot.
#[derive(Clone)]
pub struct TagPattern(Regex);

impl TagPattern {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        Regex::new(text).map(Self).map_err(|error| error.to_string())
    }

    /// Whether the tag fits.
    pub fn matches(&self, tag: &Tag) -> bool {
        self.0.is_match(tag.as_str())
    }
}

impl fmt::Debug for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_str())
    }
}

impl PartialEq for TagPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for TagPattern {}
