//! Rows of `extensions`. A section that is switched off is accepted, whatever else it says.

use super::row::{
    Key,
    Kind::{Any, Bool, Duration, Int, List, Map, Number, Object, OneOf, Secret, Section, Text, Texts},
    Verdict::{self, Later, Mapped, NoEffect, Same},
    key,
};

// What protects nothing is a remark until it is there; what does, as policies of tags do, is refused.
const CVE: Verdict = NoEffect("nothing is scanned; searches for vulnerabilities say so");
const UI: Verdict = NoEffect("a user interface comes with a later release; until then there is none");
const SCRUB: Verdict =
    NoEffect("scrubbing comes with a later release; until then content is only looked at when it is read");
const LINT_LATER: Verdict = Later(
    "linting comes with a later release: leave it out or say enable: false, and check annotations before the push",
);
const TRUST_LATER: Verdict = Later(
    "signatures are stored and listed, not verified: leave it out or say enable: false, and verify where you deploy",
);
const SYNC_LATER: Verdict = Later(
    "mirroring comes with a later release: leave it out or say enable: false, and run regsync or skopeo sync beside it",
);
const EVENTS_LATER: Verdict = Later("events come with a later release: leave it out or say enable: false");
const LEGACY: Verdict = NoEffect("zot ignores it too");

pub(super) const EXTENSIONS: &[Key] = &[
    key(
        "extensions.metrics",
        Section,
        Mapped("/metrics is always served, by every member for itself"),
    ),
    key(
        "extensions.metrics.enable",
        Bool,
        Mapped("true; with false they are served all the same, with a warning"),
    ),
    key("extensions.metrics.prometheus", Object, Same),
    key(
        "extensions.metrics.prometheus.path",
        OneOf(&["/metrics"]),
        Mapped("/metrics only"),
    ),
    key(
        "extensions.search",
        Section,
        Mapped("zot's search API, its management and its preferences, by every member: docs/search.md"),
    ),
    key("extensions.search.enable", Bool, Same),
    key("extensions.search.cve", Object, CVE),
    key("extensions.search.cve.updateInterval", Duration, CVE),
    key("extensions.search.cve.trivy", Object, CVE),
    key("extensions.search.cve.trivy.dbRepository", Text, CVE),
    key("extensions.search.cve.trivy.javaDBRepository", Text, CVE),
    key("extensions.search.cve.trivy.vulnSeveritySources", Texts, CVE),
    key("extensions.search.cve.trivy.sbom", Section, CVE),
    key("extensions.search.cve.trivy.sbom.enable", Bool, CVE),
    key(
        "extensions.search.cve.trivy.sbom.format",
        OneOf(&["spdx-json", "cyclonedx"]),
        CVE,
    ),
    key("extensions.ui", Section, UI),
    key("extensions.ui.enable", Bool, UI),
    key("extensions.scrub", Section, SCRUB),
    key("extensions.scrub.enable", Bool, SCRUB),
    key("extensions.scrub.interval", Duration, SCRUB),
    key("extensions.lint", Section, LINT_LATER),
    key("extensions.lint.enable", Bool, LINT_LATER),
    key("extensions.lint.mandatoryAnnotations", Texts, LINT_LATER),
    key("extensions.trust", Section, TRUST_LATER),
    key("extensions.trust.enable", Bool, TRUST_LATER),
    key("extensions.trust.cosign", Bool, TRUST_LATER),
    key("extensions.trust.notation", Bool, TRUST_LATER),
    key("extensions.mgmt", Any, LEGACY),
    key("extensions.apikey", Any, LEGACY),
];

pub(super) const SYNC: &[Key] = &[
    key("extensions.sync", Section, SYNC_LATER).idle_without("registries"),
    key("extensions.sync.enable", Bool, SYNC_LATER),
    key("extensions.sync.credentialsFile", Text, SYNC_LATER),
    key("extensions.sync.downloadDir", Text, SYNC_LATER),
    key("extensions.sync.registries", List, SYNC_LATER),
    key("extensions.sync.registries[].urls", Texts, SYNC_LATER),
    key("extensions.sync.registries[].onDemand", Bool, SYNC_LATER),
    key("extensions.sync.registries[].pollInterval", Duration, SYNC_LATER),
    key(
        "extensions.sync.registries[].manifestCheckInterval",
        Duration,
        SYNC_LATER,
    ),
    key("extensions.sync.registries[].tlsVerify", Bool, SYNC_LATER),
    key("extensions.sync.registries[].certDir", Text, SYNC_LATER),
    key("extensions.sync.registries[].maxRetries", Int, SYNC_LATER),
    key("extensions.sync.registries[].retryDelay", Duration, SYNC_LATER),
    key("extensions.sync.registries[].maxRetryDelay", Duration, SYNC_LATER),
    key("extensions.sync.registries[].syncTimeout", Duration, SYNC_LATER),
    key("extensions.sync.registries[].onlySigned", Bool, SYNC_LATER),
    key(
        "extensions.sync.registries[].syncLegacyCosignTags",
        Bool,
        SYNC_LATER,
    ),
    key("extensions.sync.registries[].preserveDigest", Bool, SYNC_LATER),
    key("extensions.sync.registries[].reqConcurrent", Int, SYNC_LATER),
    key("extensions.sync.registries[].reqPerSec", Number, SYNC_LATER),
    key("extensions.sync.registries[].disableHTTP2", Bool, SYNC_LATER),
    key(
        "extensions.sync.registries[].maxIdleConnsPerHost",
        Int,
        SYNC_LATER,
    ),
    key("extensions.sync.registries[].credentialHelper", Text, SYNC_LATER),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper",
        Object,
        SYNC_LATER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.tokenURL",
        Text,
        SYNC_LATER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.assertionFile",
        Text,
        SYNC_LATER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.signingFile",
        Text,
        SYNC_LATER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.grantType",
        Text,
        SYNC_LATER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.clientID",
        Text,
        SYNC_LATER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.clientSecretFile",
        Text,
        SYNC_LATER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.scopes",
        Texts,
        SYNC_LATER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.username",
        Text,
        SYNC_LATER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.audience",
        Text,
        SYNC_LATER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.subjectTokenType",
        Text,
        SYNC_LATER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.requestedTokenType",
        Text,
        SYNC_LATER,
    ),
    key("extensions.sync.registries[].content", List, SYNC_LATER),
    key("extensions.sync.registries[].content[].prefix", Text, SYNC_LATER),
    key(
        "extensions.sync.registries[].content[].destination",
        Text,
        SYNC_LATER,
    ),
    key(
        "extensions.sync.registries[].content[].stripPrefix",
        Bool,
        SYNC_LATER,
    ),
    key("extensions.sync.registries[].content[].tags", Object, SYNC_LATER),
    key(
        "extensions.sync.registries[].content[].tags.regex",
        Text,
        SYNC_LATER,
    ),
    key(
        "extensions.sync.registries[].content[].tags.excludeRegex",
        Text,
        SYNC_LATER,
    ),
    key(
        "extensions.sync.registries[].content[].tags.semver",
        Bool,
        SYNC_LATER,
    ),
];

pub(super) const EVENTS: &[Key] = &[
    key("extensions.events", Section, EVENTS_LATER).idle_without("sinks"),
    key("extensions.events.enable", Bool, EVENTS_LATER),
    key("extensions.events.source", Text, EVENTS_LATER),
    key("extensions.events.typePrefix", Text, EVENTS_LATER),
    key("extensions.events.sinks", List, EVENTS_LATER),
    key("extensions.events.sinks[].type", Text, EVENTS_LATER),
    key("extensions.events.sinks[].address", Text, EVENTS_LATER),
    key("extensions.events.sinks[].channel", Text, EVENTS_LATER),
    key("extensions.events.sinks[].timeout", Duration, EVENTS_LATER),
    key("extensions.events.sinks[].proxy", Text, EVENTS_LATER),
    key("extensions.events.sinks[].headers", Map, EVENTS_LATER),
    key("extensions.events.sinks[].headers.*", Secret, EVENTS_LATER),
    key("extensions.events.sinks[].credentials", Object, EVENTS_LATER),
    key(
        "extensions.events.sinks[].credentials.username",
        Text,
        EVENTS_LATER,
    ),
    key(
        "extensions.events.sinks[].credentials.password",
        Secret,
        EVENTS_LATER,
    ),
    key(
        "extensions.events.sinks[].credentials.token",
        Secret,
        EVENTS_LATER,
    ),
    key("extensions.events.sinks[].credentials.file", Text, EVENTS_LATER),
    key("extensions.events.sinks[].tls", Any, EVENTS_LATER),
    key("extensions.events.sinks[].tlsConfig", Any, EVENTS_LATER),
];
