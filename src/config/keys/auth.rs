//! Rows of `http.auth` and `http.accessControl`. `Section` where zot takes mere presence for "on".

use super::row::{
    Key,
    Kind::{Bool, Driver, Duration, Int, List, Map, Object, Port, Secret, Section, Text, Texts},
    Verdict::{self, Later, Mapped, Own, Refused, Same},
    key,
};

const TOKENS: Verdict = Later(
    "this isn't there: use bearer.cert, bearer.jwks or bearer.oidc, and leave it out until a later release",
);
const NOT_REDIS: Verdict = Refused(
    "sessions are cookies that every member opens, so nothing keeps them: leave it out, or say {name: local}",
);
const CLAIMS: Verdict = Mapped(
    "CEL over `claims` and `vars`: at most 4 KiB, and two macros in each other; `claims.iss + '/' + claims.sub` is the username by default",
);
const CONDITIONS: Verdict = Mapped(
    "what must hold of a request for the policy to count, all of them, at most 16: CEL over zot's `req`, at most 4 KiB, and two macros in each other (docs/access.md)",
);
const MESSAGE: Verdict = Mapped("what is said to who asks where the condition doesn't hold");

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
        Mapped(
            "users who log in by password, certificate or openid make keys of their own at `/zot/auth/apikey`",
        ),
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
    key(
        "http.auth.secureSession",
        Bool,
        Mapped(
            "session cookies are for https alone; they are in any case where clients come by https (http.tls, or an https http.externalUrl)",
        ),
    ),
    key(
        "http.auth.sessionKeysFile",
        Text,
        Mapped(
            "a JSON file with `hashKey` (32 bytes or more) and perhaps `encryptKey`, the same at every member; by these cookies of sessions are signed; without it members make keys themselves, which they replace every hour",
        ),
    ),
    key(
        "http.auth.sessionLength",
        Duration,
        Own("how long a session lasts: 1s to 720h, 2h by default, as in zot"),
    ),
    key(
        "http.auth.sessionDriver",
        Driver(&["local", "redis"]),
        Mapped("sessions are cookies that every member opens; nothing keeps them"),
    ),
    key(
        "http.auth.sessionDriver.name",
        Text,
        Mapped("`local`; `redis` is refused, for there is nothing to keep"),
    ),
    key("http.auth.sessionDriver.url", Secret, NOT_REDIS).of("redis"),
    key("http.auth.sessionDriver.keyprefix", Text, NOT_REDIS).of("redis"),
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
    key(
        "http.auth.bearer.oidc",
        List,
        Mapped(
            "issuers whose tokens are logins by themselves, as a bearer token or as the password beside any name; accessControl says what they may",
        ),
    ),
    key(
        "http.auth.bearer.oidc[].issuer",
        Text,
        Mapped("required: its name (`iss`), an https URL; its keys are fetched from below it"),
    ),
    key(
        "http.auth.bearer.oidc[].audiences",
        Texts,
        Mapped("required: a token must be for one of them (`aud`)"),
    ),
    key("http.auth.bearer.oidc[].claimMapping", Object, Same),
    key("http.auth.bearer.oidc[].claimMapping.variables", List, Same),
    key(
        "http.auth.bearer.oidc[].claimMapping.variables[].name",
        Text,
        Same,
    ),
    key(
        "http.auth.bearer.oidc[].claimMapping.variables[].expression",
        Text,
        CLAIMS,
    ),
    key("http.auth.bearer.oidc[].claimMapping.validations", List, Same),
    key(
        "http.auth.bearer.oidc[].claimMapping.validations[].expression",
        Text,
        CLAIMS,
    ),
    key(
        "http.auth.bearer.oidc[].claimMapping.validations[].message",
        Text,
        Same,
    ),
    key("http.auth.bearer.oidc[].claimMapping.username", Text, CLAIMS),
    key("http.auth.bearer.oidc[].claimMapping.groups", Text, CLAIMS),
    key(
        "http.auth.bearer.oidc[].certificateAuthority",
        Text,
        Verdict::Refused(
            "a certificate in the configuration isn't read: write it into a file and name that in certificateAuthorityFile",
        ),
    ),
    key(
        "http.auth.bearer.oidc[].certificateAuthorityFile",
        Text,
        Mapped("a PEM file of authorities; without it those of this machine are trusted"),
    ),
    key(
        "http.auth.bearer.oidc[].skipIssuerVerification",
        Bool,
        Verdict::Refused(
            "tokens that name another issuer aren't believed: give the issuer as it stands in tokens",
        ),
    ),
    key("http.auth.bearer.upstreamTokenEndpoint", Object, TOKENS),
    key("http.auth.bearer.upstreamTokenEndpoint.realm", Text, TOKENS),
    key("http.auth.bearer.upstreamTokenEndpoint.service", Text, TOKENS),
    key(
        "http.auth.bearer.upstreamTokenEndpoint.allowInsecureHttp",
        Bool,
        TOKENS,
    ),
    key(
        "http.auth.openid",
        Object,
        Mapped(
            "people log in at an identity provider by a browser, at `/zot/auth/login?provider=NAME`; makes `apikey` true unless that is given",
        ),
    ),
    key(
        "http.auth.openid.callbackAllowOrigins",
        Texts,
        Refused("a login leads back to the registry's own pages alone: leave it out"),
    ),
    key(
        "http.auth.openid.providers",
        Map,
        Mapped("by name: `oidc`, `google`, `gitlab`, `github`"),
    ),
    key("http.auth.openid.providers.*", Object, Same),
    key(
        "http.auth.openid.providers.*.credentialsFile",
        Text,
        Mapped("a JSON file with `clientid` and `clientsecret`, read at the start"),
    ),
    key("http.auth.openid.providers.*.clientid", Text, Same),
    key("http.auth.openid.providers.*.clientsecret", Secret, Same),
    key("http.auth.openid.providers.*.name", Text, Same),
    key(
        "http.auth.openid.providers.*.keypath",
        Text,
        Mapped("empty; a key is refused: use clientsecret"),
    ),
    key(
        "http.auth.openid.providers.*.issuer",
        Text,
        Mapped(
            "the provider's URL, to the letter as in its discovery document; google and gitlab have defaults, github has none",
        ),
    ),
    key(
        "http.auth.openid.providers.*.authurl",
        Text,
        Mapped("of github, for a GitHub Enterprise"),
    ),
    key(
        "http.auth.openid.providers.*.tokenurl",
        Text,
        Mapped("of github, for a GitHub Enterprise"),
    ),
    key(
        "http.auth.openid.providers.*.scopes",
        Texts,
        Mapped(
            "openid, profile and email by default, and openid always; of github read:user, user:email and read:org",
        ),
    ),
    key(
        "http.auth.openid.providers.*.certificateAuthorityFile",
        Text,
        Own("a PEM file of who signs the provider's certificate; those whom the machine trusts by default"),
    ),
    key("http.auth.openid.providers.*.claimMapping", Object, Same),
    key(
        "http.auth.openid.providers.*.claimMapping.username",
        Text,
        Mapped("the claim that is the user's name: email by default; of github email or login"),
    ),
    key(
        "http.auth.openid.providers.*.claimMapping.groups",
        Text,
        Mapped("the claim that lists their groups: groups by default; of github these are organisations"),
    ),
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
        MESSAGE,
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
        MESSAGE,
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
