//! `cluster`: who the members are and how they know each other.

use std::{net::IpAddr, path::PathBuf};

use super::values;
use crate::{
    config::{
        check::Checked,
        fault::FaultKind,
        model::{Cluster, Listen, MeshTls, PairSource, Storage, TlsFiles},
    },
    placement::{HashKey, MemberId},
};

const DEFAULT_MESH_PORT: u16 = 9443;
const MESH_ADDRESS: &str = "cluster.meshAddress";
const OPERATORS: &str = "cluster.tls.operators";
const ADMINISTRATORS: &str = "cluster.tls.administrators";

pub(super) fn cluster(
    c: &mut Checked,
    listen: Option<&Listen>,
    public_tls: Option<&TlsFiles>,
    storage: Option<&Storage>,
) -> Option<Cluster> {
    if !c.has("cluster") {
        if storage.is_some_and(Storage::is_shared) {
            c.warn("cluster: without it this member knows no other; give every replica on this storage the same cluster");
        }
        return None;
    }
    let hash_key = hash_key(c);
    let members = members(c, listen);
    let mesh_port = mesh_port(c, listen);
    let mesh_address = c
        .text(MESH_ADDRESS)
        .map(|text| values::listen_address(c, MESH_ADDRESS, &text));
    let tls = tls(c, public_tls);
    let listed = members.as_deref();
    identities(c, listed, tls.as_ref());
    shared(c, listed, storage);
    let members = match c.has("cluster.members") {
        true => Some(members?),
        false => None,
    };
    let mesh_address = match mesh_address {
        Some(read) => Some(read?),
        None => None,
    };
    Some(Cluster {
        members,
        hash_key: hash_key?,
        mesh_port: mesh_port?,
        mesh_address,
        tls: tls?,
    })
}

fn hash_key(c: &mut Checked) -> Option<HashKey> {
    const PATH: &str = "cluster.hashKey";
    let text = c.required(PATH, "16 bytes, the same on every member")?;
    match <[u8; 16]>::try_from(text.as_bytes()) {
        Ok(key) => Some(HashKey::new(key)),
        Err(_) => {
            c.refuse(
                FaultKind::Value,
                PATH,
                format!("expected exactly 16 bytes, got {}", text.len()),
            );
            None
        }
    }
}

/// The listed members; `None` when there is no list, or a wrong one.
fn members(c: &mut Checked, listen: Option<&Listen>) -> Option<Vec<MemberId>> {
    const PATH: &str = "cluster.members";
    let entries = c.texts(PATH)?;
    if entries.is_empty() {
        let problem = "is empty: list host:port of each member, or leave it out for dynamic membership";
        c.refuse(FaultKind::Value, PATH, problem);
        return None;
    }
    let mut members: Vec<MemberId> = Vec::new();
    let mut sound = true;
    for (i, (text, line)) in entries.into_iter().enumerate() {
        // Each member has one spelling, which is hashed; zot's users may have written another.
        let problem = match text.to_ascii_lowercase().parse::<MemberId>() {
            Err(error) => (
                FaultKind::Value,
                format!("expected host:port, got {text:?}: {error}"),
            ),
            Ok(member) => match members
                .iter()
                .find(|other| same_host(other.host(), member.host()))
            {
                None => {
                    members.push(member);
                    continue;
                }
                Some(other) => (
                    FaultKind::Contradiction,
                    format!(
                        "{member} and {other} have one host, so they would share a mesh address: give each member its own host name or address"
                    ),
                ),
            },
        };
        c.refuse_element(problem.0, PATH, i, line, problem.1);
        sound = false;
    }
    if let Some(listen) = listen
        && sound
        && !members.iter().any(|member| member.port() == listen.port)
    {
        let problem = match listen.port {
            0 => "0 takes any port, and members are known by theirs: set the port that cluster.members says"
                .to_owned(),
            port => format!(
                "is {port}, and no entry of cluster.members has that port: a member is named by its public port"
            ),
        };
        c.refuse(FaultKind::Contradiction, "http.port", problem);
    }
    sound.then_some(members)
}

/// Addresses by value (`::1` has many spellings), names without case.
fn same_host(a: &str, b: &str) -> bool {
    match (a.parse::<IpAddr>(), b.parse::<IpAddr>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a.eq_ignore_ascii_case(b),
    }
}

fn mesh_port(c: &mut Checked, listen: Option<&Listen>) -> Option<u16> {
    const PATH: &str = "cluster.meshPort";
    let port = match (c.has(PATH), c.port(PATH)) {
        (true, port) => port?,
        (false, _) => DEFAULT_MESH_PORT,
    };
    if port == 0 {
        c.refuse(
            FaultKind::Value,
            PATH,
            "0 takes any port, and members look for each other at this one: set a fixed one",
        );
        return None;
    }
    if listen.is_some_and(|listen| listen.port == port) && !c.has(MESH_ADDRESS) {
        let path = if c.has(PATH) { PATH } else { "http.port" };
        c.refuse(
            FaultKind::Contradiction,
            path,
            format!("the public port and the mesh port are both {port}: change one"),
        );
    }
    Some(port)
}

fn tls(c: &mut Checked, public: Option<&TlsFiles>) -> Option<MeshTls> {
    let ca = c.required(
        "cluster.tls.cacert",
        "the mesh speaks mutual TLS only; name the CA of the members' certificates",
    );
    let pair = pair(c, public);
    let (operators, administrators) = (sans(c, OPERATORS), sans(c, ADMINISTRATORS));
    let member_san = member_san(c);
    let (cert, key, pair) = pair?;
    Some(MeshTls {
        ca: ca?.into(),
        cert,
        key,
        pair,
        operators,
        administrators,
        member_san: member_san?,
    })
}

fn pair(c: &mut Checked, public: Option<&TlsFiles>) -> Option<(PathBuf, PathBuf, PairSource)> {
    const CERT: &str = "cluster.tls.cert";
    const KEY: &str = "cluster.tls.key";
    match (c.text(CERT), c.text(KEY)) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into(), PairSource::Cluster)),
        (None, None) => match public {
            Some(public) => {
                c.warn("cluster.tls.cert: not given, so the mesh uses the pair of http.tls: that certificate needs the clientAuth usage beside serverAuth, and the name by which cluster.members knows this member");
                Some((public.cert.clone(), public.key.clone(), PairSource::Public))
            }
            // A broken pair of http.tls has its own faults.
            None if c.has("http.tls") => None,
            None => {
                let problem = "is required, with cluster.tls.key, where http.tls has no pair to use: this member's certificate, for serverAuth and clientAuth";
                c.refuse(FaultKind::Missing, CERT, problem);
                None
            }
        },
        (cert, _) => {
            let missing = if cert.is_some() { KEY } else { CERT };
            c.required(missing, "cluster.tls.cert and cluster.tls.key go together");
            None
        }
    }
}

fn sans(c: &mut Checked, path: &'static str) -> Vec<String> {
    let mut sans: Vec<String> = Vec::new();
    for (i, (text, line)) in c.texts(path).unwrap_or_default().into_iter().enumerate() {
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '*') {
            c.refuse_element(
                FaultKind::Value,
                path,
                i,
                line,
                format!("expected one SAN, without wildcards, got {text:?}"),
            );
        } else {
            sans.push(text);
        }
    }
    sans
}

/// The SAN, or `Some(None)` when there is none; `None` when it is wrong.
fn member_san(c: &mut Checked) -> Option<Option<String>> {
    const PATH: &str = "cluster.tls.memberSan";
    let Some(text) = c.text(PATH) else {
        return Some(None);
    };
    let name = text.strip_prefix("*.").unwrap_or(&text);
    // `*.com` would let in whoever can have a certificate of this CA for anything.
    let narrow = name.len() == text.len() || name.contains('.');
    if values::is_host_name(name) && narrow {
        return Some(Some(text.to_ascii_lowercase()));
    }
    let problem = format!(
        "expected one DNS name, such as member.registry.internal or *.registry.internal, got {text:?}"
    );
    c.refuse(FaultKind::Value, PATH, problem);
    None
}

/// Who may be taken for a member, and that nobody is taken for two things.
fn identities(c: &mut Checked, members: Option<&[MemberId]>, tls: Option<&MeshTls>) {
    let listed = c.has("cluster.members");
    let san = c.has("cluster.tls.memberSan");
    if !listed && !san {
        let problem = "neither this nor cluster.tls.memberSan is given: any certificate of the CA could join and speak for any user; list the members, or name the SAN that makes one";
        c.refuse(FaultKind::Missing, "cluster.members", problem);
    }
    if listed && san {
        c.warn("cluster.tls.memberSan: has no effect while cluster.members lists the members");
    }
    let Some(tls) = tls else { return };
    let mut named = Vec::new();
    for (path, whose) in [
        (OPERATORS, "an operator's"),
        (ADMINISTRATORS, "an administrator's"),
    ] {
        let names = c.texts(path).unwrap_or_default().into_iter().enumerate();
        named.extend(names.map(|(i, (name, line))| (path, whose, i, name, line)));
    }
    for (path, whose, i, name, line) in named {
        let listed_as = members
            .unwrap_or_default()
            .iter()
            .find(|member| same_host(member.host(), &name));
        let san = tls
            .member_san
            .as_deref()
            .filter(|san| !listed && san_covers(san, &name));
        if let Some(who) = listed_as.map(MemberId::as_str).or(san) {
            let problem =
                format!("{name:?} is a member's name ({who}): {whose} certificate must not be a member's");
            c.refuse_element(FaultKind::Contradiction, path, i, line, problem);
        }
    }
}

fn san_covers(san: &str, name: &str) -> bool {
    match san.strip_prefix("*.") {
        Some(parent) => name
            .split_once('.')
            .is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
        None => san.eq_ignore_ascii_case(name),
    }
}

/// Several members need a store that they share.
fn shared(c: &mut Checked, members: Option<&[MemberId]>, storage: Option<&Storage>) {
    if storage.is_none_or(Storage::is_shared) {
        return;
    }
    let why = match members {
        Some([_]) => return,
        Some(members) => format!("{} members", members.len()),
        None if !c.has("cluster.members") => "members that come and go".to_owned(),
        None => return,
    };
    let problem = format!(
        "{why} share their storage, and what is in rootDirectory is one process's: configure storageDriver (s3) and cacheDriver (dynamodb), or list this member alone; `portolan dev` runs a whole mesh in one process"
    );
    c.refuse(FaultKind::Contradiction, "cluster", problem);
}
