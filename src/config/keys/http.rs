//! Rows of `http`, but for who may do what (`auth`).

use super::row::{
    Key,
    Kind::{Duration, Int, List, Object, OneOf, Port, Text, Texts},
    Verdict::{Mapped, Own, Same},
    key,
};

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

pub(super) const HTTP: &[Key] = &[
    key(
        "http.address",
        Text,
        Mapped("one address or name to listen on, or 0.0.0.0 or ::; 127.0.0.1 by default"),
    ),
    key(
        "http.port",
        Port,
        Mapped("8080 by default; 0 takes a free one, not in a cluster"),
    ),
    key(
        "http.externalUrl",
        Text,
        Mapped(
            "how clients see the registry, `https://host` or with a port: `Location` in answers begins with it. Without it `Location` is a path, which suits clients behind any proxy; nothing that a request says (`Host`, `X-Forwarded-*`) decides. Also where clients are sent for tokens: without it to the `Host` they asked for, by `https` with http.tls or else by `http`, on loopback alone",
        ),
    ),
    key(
        "http.publicMaxAge",
        Duration,
        Own(
            "how long shared caches may keep blobs and manifests, by digest, that everybody may read: `5m` by default, at most a year; 0 lets them ask each time",
        ),
    ),
    key(
        "http.realm",
        Text,
        Mapped("what the challenge for a password says; `portolan` by default"),
    ),
    key(
        "http.allowOrigin",
        Texts,
        Mapped(
            "pages of these origins, `https://host` or with a port, may ask what extensions.search offers; all of them, as in zot, where nothing is said or `*`",
        ),
    ),
    key(
        "http.readTimeout",
        Duration,
        Mapped(
            "how long a request's head may take (zot: the whole request); 0 means our default, never none",
        ),
    ),
    key(
        "http.writeTimeout",
        Duration,
        Mapped(
            "how long a transfer may make no progress (zot: the whole request); 0 means our default, never none",
        ),
    ),
    key(
        "http.idleTimeout",
        Duration,
        Own(
            "how long a connection may idle between two requests; 620s by default, longer than Google's balancers keep theirs (600s, not to be changed); make it longer than your balancer's. 0 means our default, never none",
        ),
    ),
    key(
        "http.compat",
        Texts,
        Mapped("`docker2s2`: docker schema 2 is always accepted"),
    ),
    key("http.tls", Object, Same),
    key("http.tls.cert", Text, Same),
    key("http.tls.key", Text, Same),
    key("http.tls.cacert", Text, Same),
    key(
        "http.ratelimit",
        Object,
        Mapped(
            "each member counts by itself, a user who logged in by name, everyone else by address (an IPv6 client by its /64); more is 429 with Retry-After. Probes and `/metrics` are not counted",
        ),
    ),
    key(
        "http.ratelimit.rate",
        Int,
        Mapped("requests a second of one client, and as many at once; at least 1"),
    ),
    key(
        "http.ratelimit.methods",
        List,
        Mapped("the same for one method, beside `rate`: a request must fit into both"),
    ),
    key("http.ratelimit.methods[].method", OneOf(METHODS), Same),
    key("http.ratelimit.methods[].rate", Int, Same),
];
