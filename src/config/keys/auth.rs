//! Rows of `http.auth` and `http.accessControl`. `Section` where zot takes mere presence for "on".

use super::row::{
    Key,
    Kind::{Any, Bool, Duration, Int, List, Map, Object, Port, Secret, Section, Text, Texts},
    Verdict::{self, Later, Mapped, NoEffect, Own, Same},
    key,
};

const OPENID: Verdict = Later(
    "OpenID Connect comes with a later release: leave it out, and log in by htpasswd, by client certificates or by a token service",
);
const TOKENS: Verdict = Later(
    "only tokens of the docker protocol are known, by bearer.cert or bearer.jwks: leave it out until a later release",
);
const SESSIONS: Verdict = NoEffect("there is no web interface, so there are no sessions");
const CONDITIONS: Verdict = Later(
    "conditions come with a later release, and without them the policy would allow more than it says: write the policy without them",
);

pub(super) const AUTH: &[Key] = &[
    key("http.auth", Object, Same),
    key(
        "http.auth.failDelay",
        Int,
        Mapped("seconds that a failed login waits for its answer, 0 to 60; 0 by default"),
    ),
    key("http.auth.htpasswd", Object, Same),
    key(
        "http.auth.htpasswd.path",
        Text,
        Mapped(
            "names and hashes of passwords (`htpasswd -B`, `-2`, `-5`), read again when it changes; a line with another hash is left out with a warning",
        ),
    ),
    key(
        "http.auth.apikey",
        Bool,
        Mapped("users who log in by password or certificate make keys of their own at `/zot/auth/apikey`"),
    ),
    key(
        "http.auth.token",
        Object,
        Own(
            "tokens that the registry itself gives at `/zot/auth/token`, where there is a login and no `bearer`",
        ),
    ),
    key(
        "http.auth.token.enable",
        Bool,
        Own(
            "true by default; false asks for passwords alone, and docker pulls nothing from an open repository without one",
        ),
    ),
    key("http.auth.secureSession", Bool, SESSIONS),
    key("http.auth.sessionKeysFile", Text, SESSIONS),
    key("http.auth.sessionDriver", Any, SESSIONS),
    key(
        "http.auth.mtls",
        Section,
        Mapped(
            "which name of a client's certificate is its holder's; certificates count wherever http.tls.cacert is given",
        ),
    ),
    key(
        "http.auth.mtls.identityAttributes",
        Texts,
        Mapped(
            "`CommonName` (`CN`), `DNSName` (`DNS`), `URI` (`URL`), `Email` (`rfc822name`): the first that the certificate has; CommonName by default",
        ),
    ),
    key(
        "http.auth.mtls.uriSanPattern",
        Text,
        Mapped(
            "a regular expression over the whole URI (zot: any part of it, so one without ^ and $ has a note); its first group is the name",
        ),
    ),
    key("http.auth.mtls.uriSanIndex", Int, Same),
    key("http.auth.mtls.dnsSanIndex", Int, Same),
    key("http.auth.mtls.emailSanIndex", Int, Same),
    key(
        "http.auth.ldap",
        Section,
        Mapped(
            "names and passwords of a directory: it is searched for the name, and what is found binds by the password",
        ),
    ),
    key(
        "http.auth.ldap.credentialsFile",
        Text,
        Mapped(
            "a file of JSON with `bindDN` and `bindPassword`, as whom is searched; read again when it changes; without it the search is anonymous",
        ),
    ),
    key(
        "http.auth.ldap.bindDN",
        Text,
        Mapped("instead of credentialsFile, with bindPassword"),
    ),
    key("http.auth.ldap.bindPassword", Secret, Same),
    key(
        "http.auth.ldap.address",
        Texts,
        Mapped("required: a host, or several of them (zot: one), which are tried in this order"),
    ),
    key(
        "http.auth.ldap.port",
        Port,
        Mapped("of each of them; 636 by default, and 389 with insecure"),
    ),
    key(
        "http.auth.ldap.insecure",
        Bool,
        Mapped("true begins without TLS; false, the default, is LDAPS"),
    ),
    key(
        "http.auth.ldap.startTLS",
        Bool,
        Mapped(
            "with insecure: StartTLS before anything is said; without insecure it has no effect, as in zot, and a note",
        ),
    ),
    key(
        "http.auth.ldap.skipVerify",
        Bool,
        Mapped("true takes any certificate, with a warning"),
    ),
    key(
        "http.auth.ldap.subtreeSearch",
        Bool,
        Mapped("true searches everything below baseDN; false, the default, what is directly below it"),
    ),
    key("http.auth.ldap.baseDN", Text, Mapped("required: where users are")),
    key(
        "http.auth.ldap.userAttribute",
        Text,
        Mapped(
            "required: the attribute that is the user's name (`uid`, `sAMAccountName`), in the directory's spelling",
        ),
    ),
    key(
        "http.auth.ldap.userGroupAttribute",
        Text,
        Mapped(
            "the attribute of a user whose values are their groups, as they stand (`memberOf`: whole names); without it nobody has any",
        ),
    ),
    key(
        "http.auth.ldap.userFilter",
        Text,
        Mapped("what a user must fit, beside the name (RFC 4515), with or without parentheses around it"),
    ),
    key(
        "http.auth.ldap.caCert",
        Text,
        Mapped("a PEM file of authorities; without it those of this machine are trusted"),
    ),
    key(
        "http.auth.bearer",
        Object,
        Mapped(
            "tokens of an external service; what a token's `access` says is what its bearer may do, whatever accessControl says",
        ),
    ),
    key(
        "http.auth.bearer.realm",
        Text,
        Mapped("required: the URL at which clients get tokens"),
    ),
    key(
        "http.auth.bearer.service",
        Text,
        Mapped("required: this registry's name at the service; tokens must have it as their audience"),
    ),
    key(
        "http.auth.bearer.cert",
        Text,
        Mapped(
            "a PEM file of certificates or public keys (RSA, P-256, Ed25519) that sign tokens, read again when it changes",
        ),
    ),
    key(
        "http.auth.bearer.jwks",
        Text,
        Own("instead of cert: a file with a JSON Web Key Set, read again when it changes"),
    ),
    key("http.auth.bearer.awsSecretsManager", Object, TOKENS),
    key("http.auth.bearer.awsSecretsManager.region", Text, TOKENS),
    key("http.auth.bearer.awsSecretsManager.secretName", Text, TOKENS),
    key(
        "http.auth.bearer.awsSecretsManager.refreshInterval",
        Duration,
        TOKENS,
    ),
    key("http.auth.bearer.oidc", List, TOKENS),
    key("http.auth.bearer.oidc[].issuer", Text, TOKENS),
    key("http.auth.bearer.oidc[].audiences", Texts, TOKENS),
    key("http.auth.bearer.oidc[].claimMapping", Object, TOKENS),
    key("http.auth.bearer.oidc[].claimMapping.variables", Any, TOKENS),
    key("http.auth.bearer.oidc[].claimMapping.validations", Any, TOKENS),
    key("http.auth.bearer.oidc[].claimMapping.username", Text, TOKENS),
    key("http.auth.bearer.oidc[].claimMapping.groups", Text, TOKENS),
    key("http.auth.bearer.oidc[].certificateAuthority", Text, TOKENS),
    key("http.auth.bearer.oidc[].certificateAuthorityFile", Text, TOKENS),
    key("http.auth.bearer.oidc[].skipIssuerVerification", Bool, TOKENS),
    key("http.auth.bearer.upstreamTokenEndpoint", Object, TOKENS),
    key("http.auth.bearer.upstreamTokenEndpoint.realm", Text, TOKENS),
    key("http.auth.bearer.upstreamTokenEndpoint.service", Text, TOKENS),
    key(
        "http.auth.bearer.upstreamTokenEndpoint.allowInsecureHttp",
        Bool,
        TOKENS,
    ),
    key("http.auth.openid", Object, OPENID),
    key("http.auth.openid.callbackAllowOrigins", Texts, OPENID),
    key("http.auth.openid.providers", Map, OPENID),
    key("http.auth.openid.providers.*", Object, OPENID),
    key("http.auth.openid.providers.*.credentialsFile", Text, OPENID),
    key("http.auth.openid.providers.*.clientid", Text, OPENID),
    key("http.auth.openid.providers.*.clientsecret", Secret, OPENID),
    key("http.auth.openid.providers.*.name", Text, OPENID),
    key("http.auth.openid.providers.*.keypath", Text, OPENID),
    key("http.auth.openid.providers.*.issuer", Text, OPENID),
    key("http.auth.openid.providers.*.authurl", Text, OPENID),
    key("http.auth.openid.providers.*.tokenurl", Text, OPENID),
    key("http.auth.openid.providers.*.scopes", Texts, OPENID),
    key("http.auth.openid.providers.*.claimMapping", Object, OPENID),
    key("http.auth.openid.providers.*.claimMapping.username", Text, OPENID),
    key("http.auth.openid.providers.*.claimMapping.groups", Text, OPENID),
];

const ACTIONS: Verdict = Mapped("`read`, `create`, `update`, `delete`");

pub(super) const ACCESS_CONTROL: &[Key] = &[
    key(
        "http.accessControl",
        Section,
        Mapped(
            "as in zot, and read again when this file changes; without it, and where it is `{}`, who has logged in may do everything, and nobody else anything",
        ),
    ),
    key(
        "http.accessControl.repositories",
        Map,
        Mapped(
            "by patterns of names; the longest that matches counts, alone (of equally long ones the first in byte order); one that no name can match is refused",
        ),
    ),
    key("http.accessControl.repositories.*", Object, Same),
    key("http.accessControl.repositories.*.policies", List, Same),
    key("http.accessControl.repositories.*.policies[].users", Texts, Same),
    key("http.accessControl.repositories.*.policies[].groups", Texts, Same),
    key(
        "http.accessControl.repositories.*.policies[].actions",
        Texts,
        ACTIONS,
    ),
    key(
        "http.accessControl.repositories.*.policies[].conditions",
        List,
        CONDITIONS,
    ),
    key(
        "http.accessControl.repositories.*.policies[].conditions[].expression",
        Text,
        CONDITIONS,
    ),
    key(
        "http.accessControl.repositories.*.policies[].conditions[].message",
        Text,
        CONDITIONS,
    ),
    key("http.accessControl.repositories.*.defaultPolicy", Texts, ACTIONS),
    key(
        "http.accessControl.repositories.*.anonymousPolicy",
        Texts,
        ACTIONS,
    ),
    key("http.accessControl.adminPolicy", Section, Same),
    key("http.accessControl.adminPolicy.users", Texts, Same),
    key("http.accessControl.adminPolicy.groups", Texts, Same),
    key("http.accessControl.adminPolicy.actions", Texts, ACTIONS),
    key("http.accessControl.adminPolicy.conditions", List, CONDITIONS),
    key(
        "http.accessControl.adminPolicy.conditions[].expression",
        Text,
        CONDITIONS,
    ),
    key(
        "http.accessControl.adminPolicy.conditions[].message",
        Text,
        CONDITIONS,
    ),
    key("http.accessControl.groups", Map, Same),
    key("http.accessControl.groups.*", Object, Same),
    key("http.accessControl.groups.*.users", Texts, Same),
    key(
        "http.accessControl.metrics",
        Section,
        Mapped("who may read /metrics; without it nobody may where accessControl is given"),
    ),
    key("http.accessControl.metrics.users", Texts, Same),
    key(
        "http.accessControl.metrics.anonymousPolicy",
        Texts,
        Mapped("`read` lets everybody read /metrics"),
    ),
];
