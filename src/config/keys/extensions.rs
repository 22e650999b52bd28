//! Rows of `extensions`. A section that is switched off is accepted, whatever else it says.

use super::row::{
    Key,
    Kind::{Any, Bool, Duration, Int, List, Map, Number, Object, OneOf, Secret, Section, Text, Texts},
    Verdict::{self, Later, Mapped, NoEffect, Own, Refused, Same},
    key,
};

// What protects nothing is a remark until it is there; what does, as policies of tags do, is refused.
const CVE: Verdict = NoEffect("nothing is scanned; searches for vulnerabilities say so");
const LINT_LATER: Verdict = Later(
    "linting comes with a later release: leave it out or say enable: false, and check annotations before the push",
);
const TRUST_LATER: Verdict = Later(
    "signatures are stored and listed, not verified: leave it out or say enable: false, and verify where you deploy",
);
const HELPER: Verdict = Refused(
    "no credential helper runs here: put a login or a token that lives long into credentialsFile, or have something outside \
     write that file anew and restart",
);
const NO_PROXY: Verdict =
    Refused("sinks are asked directly: let events go to what can be reached without a proxy");
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
    key(
        "extensions.ui",
        Section,
        Mapped("a page for people, by every member; it needs extensions.search: docs/ui.md"),
    ),
    key("extensions.ui.enable", Bool, Same),
    key(
        "extensions.scrub",
        Section,
        Mapped("all content is read and compared with its digest, by the members together: docs/care.md"),
    ),
    key("extensions.scrub.enable", Bool, Same),
    key(
        "extensions.scrub.interval",
        Duration,
        Mapped(
            "from the begin of one reading of everything to that of the next, 24h without it; less than 2h counts as 2h, with a note",
        ),
    ),
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
    key("extensions.sync", Section, Same).idle_without("registries"),
    key("extensions.sync.enable", Bool, Same),
    key(
        "extensions.sync.credentialsFile",
        Text,
        Mapped("logins by host, as in zot; read by the start"),
    ),
    key(
        "extensions.sync.downloadDir",
        Text,
        NoEffect("content goes straight into the stores"),
    ),
    key("extensions.sync.registries", List, Same),
    key(
        "extensions.sync.registries[].urls",
        Texts,
        Mapped("in order: the next one when one fails; without a path"),
    ),
    key("extensions.sync.registries[].onDemand", Bool, Same),
    key(
        "extensions.sync.registries[].pollInterval",
        Duration,
        Mapped(
            "from one visit of a repository to the next; the first comes a few seconds after the start; needs content",
        ),
    ),
    key(
        "extensions.sync.registries[].manifestCheckInterval",
        Duration,
        Mapped(
            "a tag that is here is served at once, and looked at in the background at most that often; without it upstream is asked before each answer, for 2 s at most",
        ),
    ),
    key("extensions.sync.registries[].tlsVerify", Bool, Same),
    key(
        "extensions.sync.registries[].certDir",
        Text,
        Mapped("*.crt are trusted beside the machine's; client.cert and client.key are shown"),
    ),
    key(
        "extensions.sync.registries[].maxRetries",
        Int,
        Mapped("of one request; 2 without it"),
    ),
    key(
        "extensions.sync.registries[].retryDelay",
        Duration,
        Mapped("doubled for each further try, with jitter; 500ms without it"),
    ),
    key(
        "extensions.sync.registries[].maxRetryDelay",
        Duration,
        Mapped("10s without it"),
    ),
    key(
        "extensions.sync.registries[].syncTimeout",
        Duration,
        Mapped("for one blob; 3h without it"),
    ),
    key(
        "extensions.sync.registries[].onlySigned",
        Bool,
        Mapped(
            "true: only tags come of which it has a signature of cosign's, Sigstore's or Notation's, whosever; verify where you deploy",
        ),
    ),
    key(
        "extensions.sync.registries[].syncLegacyCosignTags",
        Bool,
        Mapped("false: tags such as sha256-….sig aren't mirrored; else they are, whatever tags says"),
    ),
    key(
        "extensions.sync.registries[].preserveDigest",
        Bool,
        Mapped("digests never change, whatever it says"),
    ),
    key(
        "extensions.sync.registries[].platforms",
        Texts,
        Mapped(
            "of an index, what is fetched ahead of time: linux/amd64, linux/arm/v7; what a client asks for is, of whatever platform",
        ),
    ),
    key(
        "extensions.sync.registries[].reqConcurrent",
        Int,
        Mapped(
            "of the whole mesh; without it 16, of each member if neither reqPerSec nor bytesPerSec is set",
        ),
    ),
    key(
        "extensions.sync.registries[].reqPerSec",
        Number,
        Mapped("of the whole mesh"),
    ),
    key(
        "extensions.sync.registries[].bytesPerSec",
        Int,
        Own("bytes of blobs that all members together read from it in a second"),
    ),
    key(
        "extensions.sync.registries[].rangesBeforeVerified",
        Bool,
        Own(
            "true: a part of a blob that doesn't reach its end is given while the blob comes in, before its digest is known to be right",
        ),
    ),
    key(
        "extensions.sync.registries[].disableHTTP2",
        Bool,
        Mapped("registries are asked by HTTP/1.1, whatever it says"),
    ),
    key(
        "extensions.sync.registries[].maxIdleConnsPerHost",
        Int,
        NoEffect("the pool of connections has its own bounds"),
    ),
    key(
        "extensions.sync.registries[].realmHosts",
        Texts,
        Own(
            "hosts that may be sent the login for a token, beside the registry's own and those of its domain",
        ),
    ),
    key("extensions.sync.registries[].credentialHelper", Text, HELPER),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper",
        Object,
        HELPER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.tokenURL",
        Text,
        HELPER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.assertionFile",
        Text,
        HELPER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.signingFile",
        Text,
        HELPER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.grantType",
        Text,
        HELPER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.clientID",
        Text,
        HELPER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.clientSecretFile",
        Text,
        HELPER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.scopes",
        Texts,
        HELPER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.username",
        Text,
        HELPER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.audience",
        Text,
        HELPER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.subjectTokenType",
        Text,
        HELPER,
    ),
    key(
        "extensions.sync.registries[].oauth2CredentialHelper.requestedTokenType",
        Text,
        HELPER,
    ),
    key(
        "extensions.sync.registries[].content",
        List,
        Mapped("without it, everything under its own name"),
    ),
    key("extensions.sync.registries[].content[].prefix", Text, Same),
    key("extensions.sync.registries[].content[].destination", Text, Same),
    key("extensions.sync.registries[].content[].stripPrefix", Bool, Same),
    key("extensions.sync.registries[].content[].tags", Object, Same),
    key("extensions.sync.registries[].content[].tags.regex", Text, Same),
    key(
        "extensions.sync.registries[].content[].tags.excludeRegex",
        Text,
        Same,
    ),
    key("extensions.sync.registries[].content[].tags.semver", Bool, Same),
];

pub(super) const REPLICATE: &[Key] = &[
    key(
        "extensions.replicate",
        Section,
        Own("every change of names is sent on to other registries: docs/replication.md"),
    )
    .idle_without("registries"),
    key(
        "extensions.replicate.enable",
        Bool,
        Own("false: nothing is sent on"),
    ),
    key(
        "extensions.replicate.credentialsFile",
        Text,
        Own("logins by host, as extensions.sync.credentialsFile has them; read by the start"),
    ),
    key(
        "extensions.replicate.registries",
        List,
        Own("who gets it, each by itself"),
    ),
    key(
        "extensions.replicate.registries[].urls",
        Texts,
        Own("in order: the next one when one fails; without a path"),
    ),
    key(
        "extensions.replicate.registries[].tlsVerify",
        Bool,
        Own("as in extensions.sync"),
    ),
    key(
        "extensions.replicate.registries[].certDir",
        Text,
        Own("as in extensions.sync"),
    ),
    key(
        "extensions.replicate.registries[].maxRetries",
        Int,
        Own("as in extensions.sync"),
    ),
    key(
        "extensions.replicate.registries[].retryDelay",
        Duration,
        Own("as in extensions.sync"),
    ),
    key(
        "extensions.replicate.registries[].maxRetryDelay",
        Duration,
        Own("as in extensions.sync"),
    ),
    key(
        "extensions.replicate.registries[].reqConcurrent",
        Int,
        Own("of each member; 16 without it"),
    ),
    key(
        "extensions.replicate.registries[].reqPerSec",
        Number,
        Own("of each member"),
    ),
    key(
        "extensions.replicate.registries[].bytesPerSec",
        Int,
        Own("bytes of blobs that each member sends to it in a second"),
    ),
    key(
        "extensions.replicate.registries[].realmHosts",
        Texts,
        Own("as in extensions.sync"),
    ),
    key(
        "extensions.replicate.registries[].content",
        List,
        Own("what is sent on; without it, everything under its own name"),
    ),
    key(
        "extensions.replicate.registries[].content[].prefix",
        Text,
        Own("repositories here, such as team/** or **"),
    ),
    key(
        "extensions.replicate.registries[].content[].destination",
        Text,
        Own("what names there begin with"),
    ),
    key(
        "extensions.replicate.registries[].content[].stripPrefix",
        Bool,
        Own("true: without the part of prefix that is no pattern"),
    ),
    key(
        "extensions.replicate.registries[].content[].tags",
        Object,
        Own("which tags; without it, all, and what has no tag"),
    ),
    key(
        "extensions.replicate.registries[].content[].tags.regex",
        Text,
        Own("those in which this is found"),
    ),
    key(
        "extensions.replicate.registries[].content[].tags.excludeRegex",
        Text,
        Own("and in which this isn't"),
    ),
    key(
        "extensions.replicate.registries[].content[].tags.semver",
        Bool,
        Own("true: and that are versions"),
    ),
];

pub(super) const EVENTS: &[Key] = &[
    key(
        "extensions.events",
        Section,
        Mapped("who is told of changes: docs/events.md"),
    ),
    key("extensions.events.enable", Bool, Same),
    key("extensions.events.source", Text, Same),
    key("extensions.events.typePrefix", Text, Same),
    key("extensions.events.sinks", List, Same),
    key("extensions.events.sinks[].type", OneOf(&["http", "nats"]), Same),
    key("extensions.events.sinks[].address", Text, Same),
    key(
        "extensions.events.sinks[].channel",
        Text,
        Mapped("the subject on NATS; over HTTP an attribute of the event"),
    ),
    key(
        "extensions.events.sinks[].timeout",
        Duration,
        Mapped("until an event is taken, 30s if it isn't said"),
    ),
    key("extensions.events.sinks[].proxy", Text, NO_PROXY),
    key("extensions.events.sinks[].headers", Map, Same),
    key("extensions.events.sinks[].headers.*", Secret, Same),
    key("extensions.events.sinks[].credentials", Object, Same),
    key("extensions.events.sinks[].credentials.username", Text, Same),
    key("extensions.events.sinks[].credentials.password", Secret, Same),
    key("extensions.events.sinks[].credentials.token", Secret, Same),
    key(
        "extensions.events.sinks[].credentials.file",
        Text,
        Mapped("NATS: a file with a user's JWT and seed, as nsc writes it"),
    ),
    key("extensions.events.sinks[].tlsConfig", Object, Same),
    key("extensions.events.sinks[].tlsConfig.caCertFile", Text, Same),
    key("extensions.events.sinks[].tlsConfig.certFile", Text, Same),
    key("extensions.events.sinks[].tlsConfig.keyFile", Text, Same),
];
