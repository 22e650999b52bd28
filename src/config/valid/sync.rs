//! `extensions.sync` and `extensions.replicate`.

use std::{collections::BTreeSet, net::IpAddr, num::NonZeroU64, time::Duration};

use http::Uri;
use regex_lite::Regex;

use super::{nodes::member, values};
use crate::{
    config::{
        check::{Checked, Setting, setting},
        fault::FaultKind,
        keys::Kind,
        limits::Limits,
        sync::{
            ContentRule, Platform, Remote, Replicate, ReplicateRegistry, Sync, SyncRegistry, TagRule,
            UpstreamUrl,
        },
        tree::{Node, Value},
    },
    oci::{RepoName, RepoPattern},
};

const SYNC: &str = "extensions.sync";
const REGISTRIES: &str = "extensions.sync.registries";
const REPLICATE: &str = "extensions.replicate";
const TARGETS: &str = "extensions.replicate.registries";

/// What is mirrored; `None` where nothing is.
pub(super) fn sync(c: &mut Checked) -> Option<Sync> {
    if !c.has(SYNC) || c.bool("extensions.sync.enable") == Some(false) {
        return None;
    }
    let credentials = c.text("extensions.sync.credentialsFile").map(Into::into);
    let mut registries = Vec::new();
    for (i, node) in c.elements(REGISTRIES).iter().enumerate() {
        let path = format!("{REGISTRIES}[{i}]");
        let row = Row { node, path: &path };
        let (on_demand, poll_interval) = (row.bool("onDemand") == Some(true), poll_interval(c, row));
        if !on_demand && poll_interval.is_none() {
            c.warn(format!(
                "{path}: nothing is mirrored from it without onDemand: true or pollInterval"
            ));
            continue;
        }
        registries.push(registry(c, row, on_demand, poll_interval));
    }
    (!registries.is_empty()).then_some(Sync {
        credentials,
        registries,
    })
}

/// What is sent on; `None` where nothing is.
pub(super) fn replicate(c: &mut Checked) -> Option<Replicate> {
    if !c.has(REPLICATE) || c.bool("extensions.replicate.enable") == Some(false) {
        return None;
    }
    let credentials = c.text("extensions.replicate.credentialsFile").map(Into::into);
    let mut registries: Vec<ReplicateRegistry> = Vec::new();
    for (i, node) in c.elements(TARGETS).iter().enumerate() {
        let path = format!("{TARGETS}[{i}]");
        let row = Row { node, path: &path };
        let (remote, content) = (remote(c, row), content(c, row));
        // Where one stands in the feed of changes is noted by the first address.
        if let Some(url) = remote.urls.first()
            && registries
                .iter()
                .any(|other| other.remote.urls.first() == Some(url))
        {
            let problem =
                format!("{url} stands here twice: put all content that goes there below one of them");
            row.refuse(c, FaultKind::Contradiction, "urls", problem);
        }
        registries.push(ReplicateRegistry { remote, content });
    }
    (!registries.is_empty()).then_some(Replicate {
        credentials,
        registries,
    })
}

/// An object and where it stands. What has another type than the table says has its fault already.
#[derive(Clone, Copy)]
struct Row<'a> {
    node: &'a Node,
    path: &'a str,
}

impl<'a> Row<'a> {
    fn get(self, name: &str) -> Option<&'a Node> {
        member(self.node, name).filter(|node| !matches!(&node.value, Value::Null))
    }

    fn read(self, name: &str, kind: Kind) -> Option<Setting> {
        setting(kind, &self.get(name)?.value)
    }

    fn text(self, name: &str) -> Option<String> {
        match self.read(name, Kind::Text) {
            Some(Setting::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    fn texts(self, name: &str) -> Vec<String> {
        match self.read(name, Kind::Texts) {
            Some(Setting::Texts(texts)) => texts.into_iter().map(|(text, _)| text).collect(),
            _ => Vec::new(),
        }
    }

    fn bool(self, name: &str) -> Option<bool> {
        match self.read(name, Kind::Bool) {
            Some(Setting::Bool(bool)) => Some(bool),
            _ => None,
        }
    }

    /// zot's "none" is none.
    fn duration(self, name: &str) -> Option<Duration> {
        match self.read(name, Kind::Duration) {
            Some(Setting::Duration(duration)) => duration,
            _ => None,
        }
    }

    fn refuse(self, c: &mut Checked, kind: FaultKind, name: &str, problem: impl Into<String>) {
        let line = self.get(name).unwrap_or(self.node).line;
        c.refuse_at(kind, &format!("{}.{name}", self.path), line, problem.into());
    }
}

/// As in zot, nothing is mirrored ahead of time that no rule names.
fn poll_interval(c: &mut Checked, row: Row<'_>) -> Option<Duration> {
    let interval = row
        .duration("pollInterval")
        .filter(|interval| !interval.is_zero())?;
    let has_rules =
        matches!(row.get("content").map(|node| &node.value), Some(Value::List(rules)) if !rules.is_empty());
    if !has_rules {
        let path = row.path;
        c.warn(format!(
            "{path}.pollInterval: nothing is mirrored ahead of time without content"
        ));
        return None;
    }
    Some(interval)
}

fn platforms(c: &mut Checked, row: Row<'_>) -> Vec<Platform> {
    let texts = row.texts("platforms");
    let read = |text: &String| {
        let platform = Platform::parse(text);
        if platform.is_none() {
            let problem = format!("expected platforms such as linux/amd64 or linux/arm/v7, got {text:?}");
            row.refuse(c, FaultKind::Value, "platforms", problem);
        }
        platform
    };
    texts.iter().filter_map(read).collect()
}

fn registry(c: &mut Checked, row: Row<'_>, on_demand: bool, poll_interval: Option<Duration>) -> SyncRegistry {
    let limits = Limits::default();
    SyncRegistry {
        remote: remote(c, row),
        on_demand,
        poll_interval,
        platforms: platforms(c, row),
        check_interval: row.duration("manifestCheckInterval"),
        timeout: row.duration("syncTimeout").unwrap_or(limits.upstream.blob_time),
        ranges_before_verified: row.bool("rangesBeforeVerified") == Some(true),
        cosign_tags: row.bool("syncLegacyCosignTags") != Some(false),
        only_signed: row.bool("onlySigned") == Some(true),
        content: content(c, row),
    }
}

fn content(c: &mut Checked, row: Row<'_>) -> Vec<ContentRule> {
    let content = row.get("content").map(|node| &node.value);
    let Some(Value::List(elements)) = content else {
        return Vec::new();
    };
    let rules = elements.iter().enumerate();
    rules
        .filter_map(|(i, node)| {
            let path = format!("{}.content[{i}]", row.path);
            rule(c, Row { node, path: &path })
        })
        .collect()
}

/// Where a registry is, and how it is asked.
fn remote(c: &mut Checked, row: Row<'_>) -> Remote {
    let limits = Limits::default();
    let urls: Vec<_> = row
        .texts("urls")
        .iter()
        .filter_map(|text| url(c, row, text))
        .collect();
    if row.texts("urls").is_empty() {
        row.refuse(
            c,
            FaultKind::Missing,
            "urls",
            "is required: where the registry is",
        );
    }
    let verify_certificate = row.bool("tlsVerify") != Some(false);
    let certificates = row.text("certDir");
    if let (false, Some(_)) = (verify_certificate, &certificates) {
        let problem = "with tlsVerify: false no certificate is looked at: leave out one of them";
        row.refuse(c, FaultKind::Contradiction, "certDir", problem);
    }
    let retries =
        number(c, row, "maxRetries", 0, 100).map_or(limits.upstream.retries, |number| number as u32);
    let concurrent = number(c, row, "reqConcurrent", 1, 10_000);
    let realm_hosts = row.texts("realmHosts");
    let realm_hosts: BTreeSet<_> = realm_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    if let Some(host) = realm_hosts
        .iter()
        .find(|host| !values::is_host_name(host) && host.parse::<IpAddr>().is_err())
    {
        let problem = format!("expected hosts, without scheme and port, got {host:?}");
        row.refuse(c, FaultKind::Value, "realmHosts", problem);
    }
    Remote {
        urls,
        verify_certificate,
        certificates: certificates.map(Into::into),
        retries,
        retry_delay: row.duration("retryDelay").unwrap_or(limits.upstream.retry_delay),
        retry_delay_max: row
            .duration("maxRetryDelay")
            .unwrap_or(limits.upstream.retry_delay_max),
        concurrent: concurrent.map(|number| number as usize),
        spacing: spacing(c, row),
        bytes_per_second: number(c, row, "bytesPerSec", 1, 1_000_000_000_000).and_then(NonZeroU64::new),
        realm_hosts,
    }
}

fn number(c: &mut Checked, row: Row<'_>, name: &str, least: u64, most: u64) -> Option<u64> {
    let wanted = values::int(row.get(name)?)?;
    let number = u64::try_from(wanted).ok();
    let number = number.filter(|number| (least..=most).contains(number));
    if number.is_none() {
        let problem = format!("expected {least} to {most}, got {wanted}");
        row.refuse(c, FaultKind::Value, name, problem);
    }
    number
}

/// `reqPerSec` as the time from one request to the next.
fn spacing(c: &mut Checked, row: Row<'_>) -> Option<Duration> {
    let wanted = match &row.get("reqPerSec")?.value {
        Value::Float(wanted) => *wanted,
        Value::Int(wanted) => *wanted as f64,
        Value::Str(wanted) => wanted.parse().ok()?,
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Object(_) => return None,
    };
    if wanted == 0.0 {
        return None;
    }
    let spacing = Duration::try_from_secs_f64(wanted.recip());
    let spacing = spacing
        .ok()
        .filter(|spacing| *spacing <= Duration::from_secs(3600));
    if spacing.is_none() {
        let problem =
            format!("expected requests a second, more than 0, got {wanted}; leave it out for no limit");
        row.refuse(c, FaultKind::Value, "reqPerSec", problem);
    }
    spacing
}

/// Docker Hub is where its users say it is, and elsewhere.
fn url(c: &mut Checked, row: Row<'_>, text: &str) -> Option<UpstreamUrl> {
    let bare = text.trim_end_matches('/');
    let uri = bare.parse::<Uri>().ok().filter(values::is_bare_endpoint);
    let Some(uri) = uri else {
        let got = match text.contains('@') {
            true => "something with an @ (logins belong into credentialsFile)".to_owned(),
            false => format!("{text:?}"),
        };
        let problem = format!(
            "expected http(s)://host or http(s)://host:port, got {got}; what of a registry is mirrored stands in content"
        );
        row.refuse(c, FaultKind::Value, "urls", problem);
        return None;
    };
    let scheme = if uri.scheme_str() == Some("http") {
        "http"
    } else {
        "https"
    };
    let authority = uri.authority()?.as_str().to_ascii_lowercase();
    let authority = match authority.as_str() {
        "docker.io" | "index.docker.io" | "www.docker.io" | "registry.hub.docker.com" => {
            "registry-1.docker.io".to_owned()
        }
        _ => authority,
    };
    Some(UpstreamUrl { scheme, authority })
}

fn rule(c: &mut Checked, row: Row<'_>) -> Option<ContentRule> {
    let Some(text) = row.text("prefix") else {
        let problem = "is required: which repositories, such as library/** or **";
        row.refuse(c, FaultKind::Missing, "prefix", problem);
        return None;
    };
    let text = text.trim_matches('/');
    let prefix = RepoPattern::parse(text).map_err(|error| {
        row.refuse(c, FaultKind::Value, "prefix", format!("{text:?}: {error}"));
    });
    let is_literal = |part: &&str| !part.contains(['*', '?', '[', '{', '\\']);
    let base: Vec<_> = text.split('/').take_while(is_literal).collect();
    let destination = row.text("destination").unwrap_or_default();
    let destination = destination.trim_matches('/').to_owned();
    if !destination.is_empty() && RepoName::parse(&destination).is_err() {
        let problem = format!(
            "expected the beginning of a repository's name, such as mirror or hub/library, got {destination:?}"
        );
        row.refuse(c, FaultKind::Value, "destination", problem);
    }
    let tags_path = format!("{}.tags", row.path);
    let tags = row.get("tags").map(|node| {
        let tags = Row {
            node,
            path: &tags_path,
        };
        TagRule {
            regex: regex(c, tags, "regex"),
            exclude: regex(c, tags, "excludeRegex"),
            semver: tags.bool("semver") == Some(true),
        }
    });
    Some(ContentRule {
        prefix: prefix.ok()?,
        base: base.join("/"),
        destination,
        strip_prefix: row.bool("stripPrefix") == Some(true),
        tags: tags.unwrap_or_default(),
    })
}

fn regex(c: &mut Checked, row: Row<'_>, name: &str) -> Option<Regex> {
    let text = row.text(name)?;
    let regex = Regex::new(&text);
    if let Err(error) = &regex {
        row.refuse(
            c,
            FaultKind::Value,
            name,
            format!("isn't a regular expression: {error}"),
        );
    }
    regex.ok()
}
