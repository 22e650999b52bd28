//! Rows of `log` and `cluster`.

use super::row::{
    Key,
    Kind::{Bool, Object, OneOf, Port, Secret, Text, Texts},
    Verdict::{Mapped, Own, Same},
    key,
};

const LEVELS: &[&str] = &[
    "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic", "disabled",
];

pub(super) const LOG: &[Key] = &[
    key(
        "log.level",
        OneOf(LEVELS),
        Mapped("info by default (zot: debug); fatal and panic mean error"),
    ),
    key(
        "log.output",
        Text,
        Mapped("a file to append to; standard output by default, also /dev/stdout and /dev/stderr"),
    ),
    key(
        "log.audit",
        Text,
        Mapped(
            "a file for one line for every change that was asked for, whatever came of it (zot: only those that succeeded); also /dev/stdout",
        ),
    ),
    key(
        "log.auditRequired",
        Bool,
        Own("a member isn't ready (`/readyz`) while it can't write its audit; false by default"),
    ),
];

pub(super) const CLUSTER: &[Key] = &[
    key(
        "cluster.members",
        Texts,
        Mapped(
            "host:port of each member's public port, in any order; a changed list is taken up without a restart; left out, membership is the lease table and cluster.tls.memberSan is required",
        ),
    ),
    key(
        "cluster.hashKey",
        Secret,
        Mapped("exactly 16 bytes; keys rendezvous hashing, not a modulo"),
    ),
    key(
        "cluster.meshPort",
        Port,
        Own("the port of the mesh on every member; 9443 by default"),
    ),
    key(
        "cluster.meshAddress",
        Text,
        Own("the address the mesh listens on; http.address by default"),
    ),
    key("cluster.tls", Object, Same),
    key(
        "cluster.tls.cacert",
        Text,
        Mapped("required: the CA that members' certificates chain to"),
    ),
    key(
        "cluster.tls.cert",
        Text,
        Mapped(
            "this member's certificate, for both directions; without it, the pair of http.tls, which then needs the clientAuth usage too",
        ),
    ),
    key("cluster.tls.key", Text, Same),
    key(
        "cluster.tls.operators",
        Texts,
        Own("SANs of certificates that may read diagnostics, and nothing else"),
    ),
    key(
        "cluster.tls.administrators",
        Texts,
        Own("SANs of certificates that may read diagnostics and drain members"),
    ),
    key(
        "cluster.tls.memberSan",
        Text,
        Own(
            "without members: the SAN that makes a certificate a member's; a first label `*` stands for any one",
        ),
    ),
];
