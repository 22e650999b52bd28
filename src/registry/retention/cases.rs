//! What zot's documentation and program say of its keys, case by case.
//!
//! Ages are in days: `v1=A@9` is a tag that came to name manifest A nine days ago (`!`: immutable), `A@9/2` a manifest pushed nine
//! days ago and pulled two days ago, `I@9>A,B` lists A and B, `S@9^A` is about A. A manifest that isn't described is as old as its
//! tag. Pulls are recorded for 1,000 days, `since@3` for three, `unrecorded` not at all.

use std::path::Path;

use super::decide::*;
use crate::{
    config,
    oci::{Algorithm, Digest, RepoName, Tag},
};

const NOW_MS: u64 = 2_000 * DAY_MS;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What the case is about, the policies, what there is, what goes.
type Case = (&'static str, &'static str, &'static str, &'static str);

/// One policy, for all repositories.
macro_rules! all {
    ($policy:literal) => {
        concat!("{repositories: [\"**\"], ", $policy, "}")
    };
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Which policy counts.
    ("without policies everything stays", "", "v1=A@9 B@9", ""),
    ("what no policy fits stays", "{repositories: [other], keepTags: [{patterns: [x]}]}", "v1=A@9 B@9", ""),
    ("the first that fits counts", "{repositories: [team/**], keepTags: [{}]}, {repositories: [\"**\"], keepTags: [{patterns: [x]}]}", "v1=A@9", ""),
    ("the first that fits, not the first", "{repositories: [other], keepTags: [{}]}, {repositories: [\"**\"], keepTags: [{patterns: [v]}]}", "v1=A@9 x=B@9", "x B"),
    ("not the one whose pattern is longest", "{repositories: [\"**\"], keepTags: [{}]}, {repositories: [team/app], keepTags: [{patterns: [x]}]}", "v1=A@9", ""),
    ("any of a policy's repositories", "{repositories: [other, \"team/*\"], keepTags: [{patterns: [v]}]}", "x=B@9", "x B"),
    ("alternatives in a pattern", "{repositories: [\"team/{web,app}\"], keepTags: [{patterns: [v]}]}", "x=B@9", "x B"),
    ("a star stops at a slash", "{repositories: [\"*\"], keepTags: [{patterns: [v]}]}", "x=B@9", ""),
    // Patterns of tags.
    ("without keepTags all tags stay", all!("deleteUntagged: true"), "v1=A@9 x=B@900", ""),
    ("with empty keepTags, too", all!("keepTags: []"), "v1=A@9 x=B@900", ""),
    ("an entry without anything keeps all", all!("keepTags: [{}]"), "v1=A@9 x=B@900", ""),
    ("a tag that no entry fits goes, with its manifest", all!("keepTags: [{patterns: [\"v.*\"]}]"), "v1=A@9 x=B@1", "x B"),
    ("a pattern fits anywhere in the tag", all!("keepTags: [{patterns: [\"v\"]}]"), "dev=A@9 x=B@9", "x B"),
    ("unless it is anchored", all!("keepTags: [{patterns: [\"^v$\"]}]"), "dev=A@9 v=B@9", "dev A"),
    ("any pattern of an entry", all!("keepTags: [{patterns: [\"^v\", \"-rc$\"]}]"), "v1=A@9 x-rc=B@9 y=C@9", "y C"),
    ("patterns tell cases apart", all!("keepTags: [{patterns: [\"V.*\"]}]"), "v1=A@9", "v1 A"),
    ("a class of characters", all!("keepTags: [{patterns: [\"^v[0-9]+\"]}]"), "v12=A@9 vx=B@9", "vx B"),
    ("the first entry that fits counts", all!("keepTags: [{patterns: [\"v.*\"], pushedWithin: 24h}, {patterns: [\".*\"]}]"), "v1=A@9 x=B@9", "v1 A"),
    ("in their order", all!("keepTags: [{patterns: [\".*\"]}, {patterns: [\"v.*\"], pushedWithin: 24h}]"), "v1=A@9 x=B@9", ""),
    ("an entry without patterns takes the rest", all!("keepTags: [{patterns: [\"v.*\"]}, {pushedWithin: 24h}]"), "v1=A@9 x=B@9 y=C@0.5", "x B"),
    ("tags of signatures are tags", all!("keepTags: [{patterns: [\"^v\"]}]"), "v1=A@9 sha256-aa.sig=S@9", "sha256-aa.sig S"),
    // mostRecentlyPushedCount.
    ("so many that were pushed last", all!("keepTags: [{mostRecentlyPushedCount: 2}]"), "a=A@9 b=B@8 c=C@7", "a A"),
    ("more than there are", all!("keepTags: [{mostRecentlyPushedCount: 9}]"), "a=A@9 b=B@8", ""),
    ("0 is no rule", all!("keepTags: [{mostRecentlyPushedCount: 0}]"), "a=A@9 b=B@8", ""),
    ("each entry counts its own", all!("keepTags: [{patterns: [\"^a\"], mostRecentlyPushedCount: 1}, {mostRecentlyPushedCount: 1}]"), "a1=A@9 a2=B@8 b1=C@99 b2=D@98", "a1 b1 A C"),
    ("of equal ones the name that comes last", all!("keepTags: [{mostRecentlyPushedCount: 1}]"), "v1=A@9 v2=B@9", "v1 A"),
    ("tags are counted, not manifests", all!("keepTags: [{mostRecentlyPushedCount: 1}]"), "v1=A@9 v2=A@8", "v1"),
    ("a tag is as old as its last move", all!("keepTags: [{mostRecentlyPushedCount: 1}]"), "a=A@1 b=B@2 A@50 B@3", "b B"),
    ("pulls don't count", all!("keepTags: [{mostRecentlyPushedCount: 1}]"), "a=A@9 b=B@8 A@9/1", "a A"),
    // mostRecentlyPulledCount.
    ("so many that were pulled last", all!("keepTags: [{mostRecentlyPulledCount: 1}]"), "a=A@9 b=B@8 A@9/1 B@8/2", "b B"),
    ("what was never pulled comes last, the newest first", all!("keepTags: [{mostRecentlyPulledCount: 2}]"), "a=A@9 b=B@8 c=C@7 A@9/8", "b B"),
    ("where no pull was recorded yet all stay", all!("keepTags: [{mostRecentlyPulledCount: 1}]"), "unrecorded a=A@9 b=B@8", ""),
    ("or hasn't been for a day", all!("keepTags: [{mostRecentlyPulledCount: 1}]"), "since@0.9 a=A@9 b=B@8", ""),
    ("a pull is its manifest's, by whichever tag", all!("keepTags: [{mostRecentlyPulledCount: 2}]"), "a=A@9 b=A@9 c=B@1 A@9/1", "c B"),
    // pulledWithin.
    ("pulled within", all!("keepTags: [{pulledWithin: 168h}]"), "a=A@90 A@90/6", ""),
    ("pulled before", all!("keepTags: [{pulledWithin: 168h}]"), "a=A@90 A@90/8", "a A"),
    ("never pulled, but pushed within", all!("keepTags: [{pulledWithin: 168h}]"), "a=A@6", ""),
    ("never pulled, and pushed before", all!("keepTags: [{pulledWithin: 168h}]"), "a=A@8", "a A"),
    ("no pull recorded yet", all!("keepTags: [{pulledWithin: 168h}]"), "unrecorded a=A@90", ""),
    ("recorded for less than asked for", all!("keepTags: [{pulledWithin: 168h}]"), "since@6 a=A@90 A@90", ""),
    ("recorded for longer than asked for", all!("keepTags: [{pulledWithin: 168h}]"), "since@8 a=A@90", "a A"),
    ("a minute that a crash may have lost", all!("keepTags: [{pulledWithin: 168h}]"), "a=A@90 A@90/7", ""),
    // pushedWithin.
    ("pushed within", all!("keepTags: [{pushedWithin: 168h}]"), "a=A@6", ""),
    ("pushed before", all!("keepTags: [{pushedWithin: 168h}]"), "a=A@8", "a A"),
    ("pushed exactly then is before", all!("keepTags: [{pushedWithin: 168h}]"), "a=A@7", "a A"),
    ("pulled within, but pushed before", all!("keepTags: [{pushedWithin: 168h}]"), "a=A@8 A@8/1", "a A"),
    // Any rule.
    ("a count or a time", all!("keepTags: [{mostRecentlyPushedCount: 1, pulledWithin: 168h}]"), "a=A@90 b=B@80 c=C@70 A@90/1", "b B"),
    ("a time or a count", all!("keepTags: [{mostRecentlyPulledCount: 1, pushedWithin: 24h}]"), "a=A@90 b=B@80 c=C@0.5 A@90/9", "b B"),
    ("all four", all!("keepTags: [{mostRecentlyPushedCount: 1, mostRecentlyPulledCount: 1, pulledWithin: 48h, pushedWithin: 24h}]"), "a=A@90 b=B@80 c=C@0.5 d=D@70 A@90/1 B@80/1.5", "d D"),
    // Manifests and their tags.
    ("a manifest stays for another tag", all!("keepTags: [{patterns: [v]}]"), "v1=A@9 x=A@9", "x"),
    ("a manifest goes once with all its tags", all!("keepTags: [{patterns: [v]}]"), "x=A@9 y=A@9", "x y A"),
    ("it goes with its last tag, however young", all!("keepTags: [{patterns: [v]}]"), "x=A@0.1", "x A"),
    ("and where untagged ones stay", all!("deleteUntagged: false, keepTags: [{patterns: [v]}]"), "x=A@9", "x A"),
    ("an immutable tag stays", all!("keepTags: [{patterns: [v]}]"), "x=A@9! y=B@9", "y B"),
    // What indexes list.
    ("what a kept index lists stays", all!("keepTags: [{}]"), "v1=I@9 I@9>A,B A@9 B@9", ""),
    ("also where it has a tag that goes", all!("keepTags: [{patterns: [v]}]"), "v1=I@9 x=A@9 I@9>A", "x"),
    ("also what an index lists that it lists", all!("keepTags: [{}]"), "v1=I@9 I@9>J J@9>A A@9", ""),
    ("what an index lists that goes has no tag then", all!("keepTags: [{patterns: [v]}]"), "x=I@9 I@9>A,B A@9 B@0.5", "x A I"),
    ("what two list stays for one", all!("keepTags: [{patterns: [v]}]"), "x=I@9 v1=J@9 I@9>A,B J@9>B A@9 B@9", "x A I"),
    // Referrers.
    ("what is about a kept manifest stays", all!("deleteReferrers: true"), "v1=A@9 S@9^A T@9^S", ""),
    ("what a kept manifest is about stays", all!("deleteReferrers: true"), "v1=S@9 S@9^A A@9", ""),
    ("what is about a manifest that goes stays by default", all!("keepTags: [{patterns: [v]}]"), "x=A@9 S@9^A", "x A"),
    ("with deleteReferrers it goes", all!("deleteReferrers: true, keepTags: [{patterns: [v]}]"), "x=A@9 S@9^A", "x A S"),
    ("but not before the delay", all!("deleteReferrers: true, keepTags: [{patterns: [v]}]"), "x=A@9 S@0.5^A", "x A"),
    ("and what is about it", all!("deleteReferrers: true, keepTags: [{patterns: [v]}]"), "x=A@9 S@9^A T@9^S", "x A S T"),
    ("a referrer whose subject never came", all!("deleteReferrers: true"), "S@9^A!", "S"),
    ("stays by default, though it has no tag", all!("deleteUntagged: true"), "S@9^A!", ""),
    ("a tagged referrer stays, and goes, by its tag", all!("deleteReferrers: true, keepTags: [{patterns: [v]}]"), "v1=S@9 S@9^A! x=T@9 T@9^B! ", "x T"),
    ("one about an untagged manifest doesn't keep it", all!("deleteReferrers: true"), "A@9 S@9^A", "A S"),
    // Untagged manifests.
    ("untagged manifests go", all!("keepTags: [{}]"), "v1=A@9 B@9", "B"),
    ("unless they are to stay", all!("deleteUntagged: false"), "v1=A@9 B@9", ""),
    ("but not before the delay", all!("deleteUntagged: true"), "B@0.5 C@1", "C"),
    ("an untagged index that stays keeps what it lists", all!("deleteUntagged: true"), "I@0.5>A A@9", ""),
    ("an untagged index that goes doesn't", all!("deleteUntagged: true"), "I@9>A A@9", "A I"),
    ("keepUntagged by pulls", all!("keepUntagged: {pulledWithin: 168h}"), "A@90/6 B@90/8", "B"),
    ("keepUntagged by count", all!("keepUntagged: {mostRecentlyPushedCount: 1}"), "A@8 B@9", "B"),
    ("keepUntagged by age", all!("keepUntagged: {pushedWithin: 168h}"), "A@6 B@8", "B"),
    ("keepUntagged where no pull was recorded", all!("keepUntagged: {mostRecentlyPulledCount: 1}"), "unrecorded A@8 B@9", ""),
    ("keepUntagged counts none that is needed", all!("keepUntagged: {mostRecentlyPushedCount: 1}"), "v1=I@9 I@9>A A@2 B@8 C@9", "C"),
    ("an index that keepUntagged keeps, keeps what it lists", all!("keepUntagged: {mostRecentlyPushedCount: 1}"), "I@8>A A@9 B@10", "B"),
    ("what lost its tag isn't untagged", all!("keepTags: [{patterns: [v]}], keepUntagged: {pushedWithin: 168h}"), "x=A@1", "x A"),
];

fn ms_ago(days: &str) -> u64 {
    let days: f64 = days.parse().unwrap();
    NOW_MS - (days * DAY_MS as f64) as u64
}

fn digest(name: &str) -> Digest {
    Digest::of(Algorithm::Sha256, name.as_bytes())
}

fn facts(text: &str) -> Facts {
    let mut facts = Facts {
        now_ms: NOW_MS,
        pulls_since_ms: Some(ms_ago("1000")),
        ..Facts::default()
    };
    for word in text.split_whitespace() {
        let word = word.trim_end_matches('!');
        if word == "unrecorded" {
            facts.pulls_since_ms = None;
        } else if let Some(days) = word.strip_prefix("since@") {
            facts.pulls_since_ms = Some(ms_ago(days));
        } else if let Some((tag, named)) = word.split_once('=') {
            let (name, days) = named.split_once('@').unwrap();
            facts.tags.push(TagFact {
                tag: Tag::parse(tag).unwrap(),
                digest: digest(name),
                pushed_ms: ms_ago(days),
                is_immutable: text.contains(&format!("{word}!")),
            });
        } else {
            let (name, rest) = word.split_once('@').unwrap();
            let end = rest.find(['/', '>', '^']).unwrap_or(rest.len());
            let (days, rest) = rest.split_at(end);
            let mut manifest = ManifestFact {
                pushed_ms: ms_ago(days),
                ..ManifestFact::default()
            };
            match rest.split_at_checked(1) {
                Some(("/", days)) => manifest.pulled_ms = Some(ms_ago(days)),
                Some((">", listed)) => manifest.children = listed.split(',').map(digest).collect(),
                Some(("^", subject)) => manifest.subject = Some(digest(subject)),
                _ => {}
            }
            facts.manifests.insert(digest(name), manifest);
        }
    }
    for tag in &facts.tags {
        let pushed_ms = tag.pushed_ms;
        facts.manifests.entry(tag.digest.clone()).or_insert(ManifestFact {
            pushed_ms,
            ..ManifestFact::default()
        });
    }
    facts
}

fn retention(policies: &str) -> config::Retention {
    let text = format!("storage: {{rootDirectory: /d, retention: {{policies: [{policies}]}}}}");
    config::parse(Path::new("c.yaml"), &text).unwrap().retention
}

fn decided(policies: &str, there: &str) -> Option<Decision> {
    let retention = retention(policies);
    let policy = retention.policy(&RepoName::parse("team/app").unwrap())?;
    Some(decide(policy, retention.delay, &facts(there)))
}

/// The names of what goes: tags in their order, then manifests in theirs.
fn gone(decision: &Decision) -> String {
    let names = ('A'..='Z').map(|letter| letter.to_string());
    let manifests = names.filter(|name| {
        let digest = digest(name);
        decision.manifests.iter().any(|(gone, _)| *gone == digest)
    });
    let tags = decision.tags.iter().map(|(tag, ..)| tag.to_string());
    tags.chain(manifests).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_goes_is_what_zot_documents() {
    assert!(CASES.len() >= 60, "{}", CASES.len());
    let mut wrong = Vec::new();
    for (about, policies, there, expected) in CASES {
        let decision = decided(policies, there).unwrap_or_default();
        let gone = gone(&decision);
        if gone != *expected {
            wrong.push(format!("{about}: {gone:?} goes, expected {expected:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn each_is_told_why() {
    let policies = all!("deleteReferrers: true, keepTags: [{patterns: [v], mostRecentlyPushedCount: 1}]");
    let decision = decided(policies, "v1=A@9 v2=B@8 x=C@9 D@9 S@9^C").unwrap();
    let whys: Vec<_> = decision
        .tags
        .iter()
        .map(|(tag, _, why)| (tag.as_str(), *why))
        .collect();
    assert_eq!(whys, [("v1", Why::NoRule), ("x", Why::NoPattern)]);
    for (name, why) in [
        ("A", Why::NoRule),
        ("C", Why::NoPattern),
        ("D", Why::Untagged),
        ("S", Why::SubjectGone),
    ] {
        assert!(
            decision.manifests.contains(&(digest(name), why)),
            "{name}: {decision:?}"
        );
    }
}

#[test]
fn it_says_when_to_ask_again_and_what_it_lacks() {
    let again = |policies, there| decided(policies, there).unwrap().again_ms;
    let by_push = all!("keepTags: [{pushedWithin: 168h}]");
    assert_eq!(again(by_push, "a=A@6 b=B@2 c=C@90"), Some(NOW_MS + DAY_MS));
    let by_pull = all!("keepTags: [{pulledWithin: 168h}]");
    assert_eq!(
        again(by_pull, "a=A@90 A@90/5"),
        Some(NOW_MS + 2 * DAY_MS + 120_000)
    );
    assert_eq!(
        again(all!("keepTags: [{mostRecentlyPushedCount: 1}]"), "a=A@90"),
        None
    );
    assert_eq!(
        again(all!("deleteUntagged: true"), "A@0.5"),
        Some(NOW_MS + DAY_MS / 2)
    );
    // At that time, and not before, it goes.
    let retention = retention(by_push);
    let policy = &retention.policies[0];
    for (ms, goes) in [(DAY_MS - 1, 0), (DAY_MS, 1)] {
        let mut facts = facts("a=A@6");
        facts.now_ms += ms;
        assert_eq!(decide(policy, retention.delay, &facts).tags.len(), goes);
    }
    let lacks = |policies, there| decided(policies, there).unwrap().lacks_pulls;
    assert!(lacks(by_pull, "unrecorded a=A@90"));
    assert!(lacks(by_pull, "since@3 a=A@90"));
    assert!(!lacks(by_pull, "since@30 a=A@90"));
    assert!(!lacks(by_push, "unrecorded a=A@90"));
}
