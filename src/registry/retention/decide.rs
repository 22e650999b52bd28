//! What a policy keeps and what goes: a function of facts, and of nothing else.
//!
//! zot's meaning, where it has one. A tag is kept by the first entry that fits it: with rules, if any of them holds; a tag that no
//! entry fits goes, and with its last tag a manifest. What is kept by a tag keeps what it lists and what it is about; a manifest
//! without a tag stays while what it is about, or what lists it, does.
//!
//! A rule that asks when something was pulled keeps what it can't know: as long as pulls are recorded for less than its window, or
//! not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    config::{KeepRules, RetentionPolicy},
    oci::{Digest, Tag},
};

/// Pulls of this time before a member's end may not be recorded: they were in its memory.
const UNRECORDED: Duration = Duration::from_secs(2 * 60);

/// For how long pulls are recorded before anything goes for being pulled less lately than others, and how long it may take until
/// it goes when they overtook it.
const RANKED: Duration = Duration::from_secs(24 * 60 * 60);

/// A repository, as far as policies ask. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default)]
pub(in crate::registry) struct Facts {
    pub(in crate::registry) tags: Vec<TagFact>,
    /// Those that live.
    pub(in crate::registry) manifests: BTreeMap<Digest, ManifestFact>,
    /// Since when pulls are recorded; `None`: none was yet.
    pub(in crate::registry) pulls_since_ms: Option<u64>,
    pub(in crate::registry) now_ms: u64,
}

/// A tag.
#[derive(Clone, Debug)]
pub(in crate::registry) struct TagFact {
    pub(in crate::registry) tag: Tag,
    pub(in crate::registry) digest: Digest,
    /// When it came to name that.
    pub(in crate::registry) pushed_ms: u64,
    /// Nobody may delete it, whatever the policy says.
    pub(in crate::registry) is_immutable: bool,
}

/// A manifest.
#[derive(Clone, Debug, Default)]
pub(in crate::registry) struct ManifestFact {
    /// Of its document, in bytes.
    pub(in crate::registry) size: u64,
    pub(in crate::registry) pushed_ms: u64,
    pub(in crate::registry) pulled_ms: Option<u64>,
    pub(in crate::registry) subject: Option<Digest>,
    /// Manifests that it lists.
    pub(in crate::registry) children: Vec<Digest>,
}

/// Why something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::registry) enum Why {
    /// No entry of `keepTags` fits the tag.
    NoPattern,
    /// None of the rules of the entry that fits the tag keeps it.
    NoRule,
    /// The manifest has no tag and nothing needs it (`deleteUntagged`).
    Untagged,
    /// What it is about is gone (`deleteReferrers`).
    SubjectGone,
}

impl Why {
    /// For people.
    pub(in crate::registry) fn as_str(self) -> &'static str {
        match self {
            Self::NoPattern => "no keepTags entry fits the tag",
            Self::NoRule => "no rule of its keepTags entry keeps the tag",
            Self::Untagged => "deleteUntagged: it has no tag and nothing needs it",
            Self::SubjectGone => "deleteReferrers: its subject is gone",
        }
    }
}

/// What goes, and when to ask again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::registry) struct Decision {
    /// In byte order.
    pub(in crate::registry) tags: Vec<(Tag, Digest, Why)>,
    /// Manifests, those whose last tag goes among them.
    pub(in crate::registry) manifests: Vec<(Digest, Why)>,
    /// When something that is kept for its age first may go, though nothing changes.
    pub(in crate::registry) again_ms: Option<u64>,
    /// A rule kept something because pulls aren't recorded for long enough.
    pub(in crate::registry) lacks_pulls: bool,
}

/// What was decided on before, each as it was then.
#[derive(Clone, Debug, Default)]
pub(in crate::registry) struct Planned {
    /// What each tag named, and since when.
    pub(in crate::registry) tags: BTreeMap<Tag, (Digest, u64)>,
    /// When each manifest was pushed.
    pub(in crate::registry) manifests: BTreeMap<Digest, u64>,
}

impl Decision {
    /// Whether everything stays.
    pub(in crate::registry) fn is_nothing(&self) -> bool {
        self.tags.is_empty() && self.manifests.is_empty()
    }

    /// Of what goes only what was `planned`, and is as it was then. What stays for that keeps what it needs, as if it had a tag.
    pub(in crate::registry) fn only(mut self, planned: &Planned, facts: &Facts) -> Self {
        let as_planned = |fact: &&TagFact| {
            let was = planned.tags.get(&fact.tag);
            was.is_some_and(|(digest, pushed_ms)| *digest == fact.digest && *pushed_ms == fact.pushed_ms)
        };
        let untouched: BTreeSet<&Tag> = facts
            .tags
            .iter()
            .filter(as_planned)
            .map(|fact| &fact.tag)
            .collect();
        self.tags.retain(|(tag, ..)| untouched.contains(tag));
        // A manifest goes with all its tags.
        let going: BTreeSet<&Tag> = self.tags.iter().map(|(tag, ..)| tag).collect();
        let mut needed: BTreeSet<&Digest> = BTreeSet::new();
        let (mut tagged, mut losing) = (BTreeSet::new(), BTreeMap::new());
        for fact in &facts.tags {
            match going.contains(&fact.tag) {
                true => drop(losing.insert(&fact.digest, Why::NoRule)),
                false => drop(tagged.insert(&fact.digest)),
            }
        }
        for (digest, _) in &self.manifests {
            let was = planned.manifests.get(digest);
            let is_same = facts.manifests.get(digest).map(|fact| &fact.pushed_ms) == was;
            if was.is_none() || !is_same || tagged.contains(digest) {
                needed.insert(digest);
            }
        }
        losing.retain(|digest, _| !needed.contains(digest));
        let mut staying = Staying::of(facts, &losing);
        for digest in needed {
            staying.keep(digest, Needs::SubjectToo);
        }
        let stays: BTreeSet<Digest> = staying.kept.keys().map(|digest| (*digest).clone()).collect();
        self.manifests.retain(|(digest, _)| !stays.contains(digest));
        self
    }
}

/// Decides by `policy`. `delay` is the age at which untagged manifests and referrers may go.
pub(in crate::registry) fn decide(policy: &RetentionPolicy, delay: Duration, facts: &Facts) -> Decision {
    let mut deciding = Deciding {
        policy,
        delay,
        facts,
        decision: Decision::default(),
    };
    let tags = deciding.tags();
    deciding.manifests(&tags);
    deciding.decision
}

struct Deciding<'a> {
    policy: &'a RetentionPolicy,
    delay: Duration,
    facts: &'a Facts,
    decision: Decision,
}

/// What rules look at.
#[derive(Clone, Copy)]
struct Item<'a> {
    name: &'a str,
    pushed_ms: u64,
    pulled_ms: Option<u64>,
}

impl<'a> Deciding<'a> {
    /// Decides about each tag: `None` is kept. In the order of the facts.
    fn tags(&mut self) -> Vec<Option<Why>> {
        let facts = self.facts;
        let entries = &self.policy.keep_tags;
        let mut fates = vec![None; facts.tags.len()];
        if entries.is_empty() {
            return fates;
        }
        let mut fitting: Vec<Vec<usize>> = vec![Vec::new(); entries.len()];
        for (n, fact) in facts.tags.iter().enumerate() {
            let fits = |patterns: &[crate::config::TagPattern]| {
                patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(&fact.tag))
            };
            match entries.iter().position(|entry| fits(&entry.patterns)) {
                Some(entry) => fitting[entry].push(n),
                None => fates[n] = Some(Why::NoPattern),
            }
        }
        for (entry, fitting) in entries.iter().zip(fitting) {
            let item = |n: &usize| {
                let fact = &facts.tags[*n];
                let manifest = facts.manifests.get(&fact.digest);
                Item {
                    name: fact.tag.as_str(),
                    pushed_ms: fact.pushed_ms,
                    pulled_ms: manifest.and_then(|manifest| manifest.pulled_ms),
                }
            };
            let items: Vec<_> = fitting.iter().map(item).collect();
            if entry.rules.is_empty() {
                continue;
            }
            for (n, is_kept) in fitting.into_iter().zip(self.kept(&entry.rules, &items)) {
                fates[n] = (!is_kept).then_some(Why::NoRule);
            }
        }
        for (fate, fact) in fates.iter_mut().zip(&facts.tags) {
            if fact.is_immutable {
                *fate = None;
            }
        }
        let gone = facts.tags.iter().zip(&fates);
        let gone = gone.filter_map(|(fact, fate)| Some((fact.tag.clone(), fact.digest.clone(), (*fate)?)));
        self.decision.tags = gone.collect();
        self.decision.tags.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        fates
    }

    /// Decides about each manifest, after the tags.
    fn manifests(&mut self, fates: &[Option<Why>]) {
        let facts = self.facts;
        let (mut tagged, mut losing) = (BTreeSet::new(), BTreeMap::new());
        for (fact, fate) in facts.tags.iter().zip(fates) {
            match fate {
                None => {
                    tagged.insert(&fact.digest);
                }
                Some(why) => {
                    losing.insert(&fact.digest, *why);
                }
            }
        }
        losing.retain(|digest, _| !tagged.contains(digest));
        let mut staying = Staying::of(facts, &losing);
        for digest in tagged {
            staying.keep(digest, Needs::SubjectToo);
        }
        // Each of the rest by itself. What is kept for its age, or by a rule, keeps what it lists.
        let mut left = Vec::new();
        for (digest, manifest) in &facts.manifests {
            if losing.contains_key(digest) || staying.has(digest) {
                continue;
            }
            let may_go = match &manifest.subject {
                Some(_) => self.policy.delete_referrers,
                None => self.policy.delete_untagged,
            };
            if !may_go || self.is_young(manifest) {
                staying.keep(digest, Needs::ListedOnly);
            } else if manifest.subject.is_none() {
                left.push(digest);
            }
        }
        left.retain(|digest| !staying.has(digest));
        if !self.policy.keep_untagged.is_empty() {
            let item = |(digest, manifest): (&'a Digest, &ManifestFact)| Item {
                name: digest.as_str(),
                pushed_ms: manifest.pushed_ms,
                pulled_ms: manifest.pulled_ms,
            };
            let items = left
                .iter()
                .filter_map(|digest| facts.manifests.get_key_value(*digest));
            let items: Vec<_> = items.map(item).collect();
            let kept = self.kept(&self.policy.keep_untagged, &items);
            for (digest, _) in left.into_iter().zip(kept).filter(|(_, is_kept)| *is_kept) {
                staying.keep(digest, Needs::ListedOnly);
            }
        }
        let gone = facts.manifests.iter().filter(|(digest, _)| !staying.has(digest));
        let why = |digest: &Digest, manifest: &ManifestFact| match (losing.get(digest), &manifest.subject) {
            (Some(why), _) => *why,
            (None, Some(_)) => Why::SubjectGone,
            (None, None) => Why::Untagged,
        };
        self.decision.manifests = gone
            .map(|(digest, manifest)| (digest.clone(), why(digest, manifest)))
            .collect();
    }

    fn is_young(&mut self, manifest: &ManifestFact) -> bool {
        let until_ms = manifest.pushed_ms.saturating_add(millis(self.delay));
        self.holds_until(until_ms)
    }

    /// Whether that time is yet to come; it is to be asked again then.
    fn holds_until(&mut self, until_ms: u64) -> bool {
        if until_ms <= self.facts.now_ms {
            return false;
        }
        let again_ms = self.decision.again_ms;
        self.decision.again_ms = Some(again_ms.map_or(until_ms, |again_ms| again_ms.min(until_ms)));
        true
    }

    /// Which of the items any of the rules keeps.
    fn kept(&mut self, rules: &KeepRules, items: &[Item<'_>]) -> Vec<bool> {
        let mut kept = vec![false; items.len()];
        let latest = |by: &dyn Fn(&Item<'_>) -> (u64, u64), count: usize| {
            let mut order: Vec<usize> = (0..items.len()).collect();
            // Of two that are equal the one whose name comes last, which is the higher version more often than not.
            let rank = |n: usize| (by(&items[n]), items[n].name);
            order.sort_unstable_by(|a, b| rank(*b).cmp(&rank(*a)));
            order.truncate(count);
            order
        };
        if let Some(count) = rules.most_recently_pushed {
            for n in latest(&|item| (item.pushed_ms, 0), count) {
                kept[n] = true;
            }
        }
        if let Some(count) = rules.most_recently_pulled {
            if self.are_pulls_unknown(RANKED) {
                kept.fill(true);
            }
            // Who is among them changes with pulls alone.
            self.holds_until(self.facts.now_ms.saturating_add(millis(RANKED)));
            for n in latest(&|item| (item.pulled_ms.unwrap_or(0), item.pushed_ms), count) {
                kept[n] = true;
            }
        }
        for (item, kept) in items.iter().zip(&mut kept) {
            if let Some(within) = rules.pushed_within {
                *kept |= self.holds_until(item.pushed_ms.saturating_add(millis(within)));
            }
            if let Some(within) = rules.pulled_within {
                *kept |= self.is_pulled_within(item, within);
            }
        }
        kept
    }

    fn is_pulled_within(&mut self, item: &Item<'_>, within: Duration) -> bool {
        let within_ms = millis(within.saturating_add(UNRECORDED));
        let used_ms = item.pushed_ms.max(item.pulled_ms.unwrap_or(0));
        if self.holds_until(used_ms.saturating_add(within_ms)) {
            return true;
        }
        self.are_pulls_unknown(within.saturating_add(UNRECORDED))
    }

    /// Whether pulls aren't recorded for so long.
    fn are_pulls_unknown(&mut self, window: Duration) -> bool {
        let is_unknown = match self.facts.pulls_since_ms {
            None => true,
            Some(since_ms) => self.holds_until(since_ms.saturating_add(millis(window))),
        };
        self.decision.lacks_pulls |= is_unknown;
        is_unknown
    }
}

/// What a manifest that is kept keeps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    /// What it lists, and what is about it.
    ListedOnly,
    /// What it is about, too.
    SubjectToo,
}

/// Manifests that are kept, with everything that is kept for them.
struct Staying<'a> {
    facts: &'a Facts,
    losing: &'a BTreeMap<&'a Digest, Why>,
    about: BTreeMap<&'a Digest, Vec<&'a Digest>>,
    kept: BTreeMap<&'a Digest, Needs>,
}

impl<'a> Staying<'a> {
    /// Nothing yet. What loses its last tag isn't kept for being about something.
    fn of(facts: &'a Facts, losing: &'a BTreeMap<&'a Digest, Why>) -> Self {
        let mut about: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (digest, manifest) in &facts.manifests {
            if let Some(subject) = &manifest.subject {
                about.entry(subject).or_default().push(digest);
            }
        }
        Self {
            facts,
            losing,
            about,
            kept: BTreeMap::new(),
        }
    }

    fn has(&self, digest: &Digest) -> bool {
        self.kept.contains_key(digest)
    }

    fn keep(&mut self, digest: &'a Digest, needs: Needs) {
        let mut wanted = vec![(digest, needs)];
        while let Some((digest, needs)) = wanted.pop() {
            let Some(manifest) = self.facts.manifests.get(digest) else {
                continue;
            };
            if self.kept.get(digest).is_some_and(|kept| *kept >= needs) {
                continue;
            }
            self.kept.insert(digest, needs);
            wanted.extend(manifest.children.iter().map(|child| (child, needs)));
            if needs == Needs::SubjectToo {
                wanted.extend(manifest.subject.iter().map(|subject| (subject, needs)));
            }
            let about = self.about.get(digest).into_iter().flatten();
            let about = about.filter(|digest| !self.losing.contains_key(*digest));
            wanted.extend(about.map(|digest| (*digest, Needs::ListedOnly)));
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
