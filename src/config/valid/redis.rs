//! `storage.cacheDriver: {name: redis}`: the server, or the Sentinels that know it, and how it is reached.

use http::{Uri, uri::Authority};
use percent_encoding::percent_decode_str;

use crate::config::{
    check::Checked,
    fault::FaultKind,
    model::{Durability, RedisConfig, RedisServers, RedisTls, ServerAddress},
    secret::Secret,
};

const URL: &str = "storage.cacheDriver.url";
const ADDR: &str = "storage.cacheDriver.addr";
const MASTER: &str = "storage.cacheDriver.master_name";
const PREFIX: &str = "storage.cacheDriver.keyprefix";
const DATABASE: &str = "storage.cacheDriver.db";
const USER: &str = "storage.cacheDriver.username";
const PASSWORD: &str = "storage.cacheDriver.password";
const AUTHORITY: &str = "storage.cacheDriver.cacert";
const DURABILITY: &str = "storage.cacheDriver.durability";

const NO_CLUSTER: &str = "names a Redis Cluster, which isn't used, for a transaction's keys would be on several servers: name one server, or Sentinels with a master_name";
/// Of a Redis server.
const PORT: u16 = 6_379;
/// Of a Sentinel.
const SENTINEL_PORT: u16 = 26_379;

pub(super) fn redis(c: &mut Checked) -> Option<RedisConfig> {
    let durability = durability(c);
    let prefix = prefix(c);
    let url = match (c.has(URL), c.has(ADDR)) {
        (true, true) => {
            c.refuse(
                FaultKind::Contradiction,
                ADDR,
                "contradicts url: leave out one of the two",
            );
            return None;
        }
        (true, false) => Url::read(c)?,
        (false, _) => Url::default(),
    };
    let servers = match url.address {
        Some(address) => RedisServers::One(address),
        None => servers(c, durability)?,
    };
    if c.has(MASTER) && matches!(servers, RedisServers::One(_)) {
        let problem = "is of Sentinels: name them in addr";
        c.refuse(FaultKind::Contradiction, MASTER, problem);
    }
    let authority = c.text(AUTHORITY).map(Into::into);
    let tls = match (url.is_tls, authority) {
        (Some(false), Some(_)) => {
            let problem = "contradicts redis:// in url: say rediss://, or leave it out";
            c.refuse(FaultKind::Contradiction, AUTHORITY, problem);
            return None;
        }
        (Some(true), authority) => RedisTls::On { authority },
        (None, Some(authority)) => RedisTls::On {
            authority: Some(authority),
        },
        (Some(false) | None, None) => {
            c.warn("storage.cacheDriver: no TLS to Redis: its password and what is in it go over the network as they are");
            RedisTls::Off
        }
    };
    let user = once(c, USER, url.user, Checked::text);
    let password = once(c, PASSWORD, url.password, Checked::text);
    let database = once(c, DATABASE, url.database, Checked::int).unwrap_or(0);
    let Ok(database) = u32::try_from(database) else {
        let problem = format!("expected 0 or the number of another database, got {database}");
        c.refuse(FaultKind::Value, DATABASE, problem);
        return None;
    };
    if user.is_some() && password.is_none() {
        c.refuse(FaultKind::Missing, PASSWORD, "is required with username");
        return None;
    }
    Some(RedisConfig {
        servers,
        user,
        password: password.map(Secret::new),
        tls,
        database,
        prefix: prefix?,
        client_name: c
            .text("storage.cacheDriver.client_name")
            .unwrap_or_else(|| "portolan".to_owned()),
        durability,
    })
}

fn durability(c: &mut Checked) -> Durability {
    match c.text(DURABILITY).as_deref() {
        Some("relaxed") => {
            c.warn("storage.cacheDriver.durability: relaxed: Redis may lose what was acknowledged, so pushes and deletions may be undone");
            Durability::Relaxed
        }
        Some(_) | None => Durability::Strict,
    }
}

/// What a URL says; nothing, without one.
#[derive(Default)]
struct Url {
    address: Option<ServerAddress>,
    is_tls: Option<bool>,
    user: Option<String>,
    password: Option<String>,
    database: Option<i64>,
}

impl Url {
    fn read(c: &mut Checked) -> Option<Self> {
        let text = c.text(URL)?;
        if text.contains("addr=") {
            c.refuse(FaultKind::Value, URL, NO_CLUSTER);
            return None;
        }
        let url = Self::parse(&text);
        if url.is_none() {
            // What it says may have a piece of the password in it.
            let problem =
                "expected redis://user:password@host:6379/0, or rediss:// for TLS, and nothing after it";
            c.refuse(FaultKind::Value, URL, problem);
        }
        url
    }

    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let is_tls = match uri.scheme_str()? {
            "redis" => false,
            "rediss" => true,
            _ => return None,
        };
        let authority = uri.authority()?.as_str();
        let (login, server) = authority.rsplit_once('@').unwrap_or((":", authority));
        let (user, password) = login.split_once(':')?;
        let (user, password) = (decoded(user)?, decoded(password)?);
        let database = match uri.path().trim_matches('/') {
            "" => None,
            number => Some(number.parse().ok()?),
        };
        uri.query().is_none().then_some(())?;
        Some(Self {
            address: Some(address(server, PORT)?),
            is_tls: Some(is_tls),
            user: Some(user).filter(|user| !user.is_empty()),
            password: Some(password).filter(|password| !password.is_empty()),
            database,
        })
    }
}

fn decoded(text: &str) -> Option<String> {
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

/// A host, and a port unless it is the usual one.
fn address(text: &str, usual: u16) -> Option<ServerAddress> {
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    let port = match text.strip_prefix(host)? {
        "" => usual,
        port => port.strip_prefix(':')?.parse().ok()?,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| ServerAddress {
        host: host.to_owned(),
        port,
    })
}

/// What `addr` says.
fn servers(c: &mut Checked, durability: Durability) -> Option<RedisServers> {
    let master = c.text(MASTER);
    let port = if master.is_some() { SENTINEL_PORT } else { PORT };
    let mut addresses = Vec::new();
    for (i, (text, line)) in c.texts(ADDR).unwrap_or_default().into_iter().enumerate() {
        let Some(address) = address(&text, port) else {
            let problem = format!("expected host:port, got {text:?}");
            c.refuse_element(FaultKind::Value, ADDR, i, line, problem);
            return None;
        };
        addresses.push(address);
    }
    match (master, &addresses[..]) {
        (_, []) => {
            let problem = "is required: it says where Redis is, redis://user:password@host:6379/0";
            c.refuse(FaultKind::Missing, URL, problem);
            None
        }
        (None, [one]) => Some(RedisServers::One(one.clone())),
        (None, _) => {
            c.refuse(FaultKind::Value, ADDR, NO_CLUSTER);
            None
        }
        (Some(_), _) if durability == Durability::Strict => {
            let problem = "Sentinels may promote a replica without what was acknowledged: accept that by durability: relaxed, or name one server in url";
            c.refuse(FaultKind::Contradiction, MASTER, problem);
            None
        }
        (Some(master), _) => Some(RedisServers::Sentinels {
            addresses,
            master,
            user: c.text("storage.cacheDriver.sentinel_username"),
            password: c.text("storage.cacheDriver.sentinel_password").map(Secret::new),
        }),
    }
}

/// What is said in `url` or by `key`, but not by both.
fn once<T>(
    c: &mut Checked,
    key: &'static str,
    in_url: Option<T>,
    read: impl FnOnce(&Checked, &'static str) -> Option<T>,
) -> Option<T> {
    let said = read(c, key);
    if said.is_some() && in_url.is_some() {
        c.refuse(
            FaultKind::Contradiction,
            key,
            "is in url, too: leave out one of the two",
        );
    }
    in_url.or(said)
}

fn prefix(c: &mut Checked) -> Option<String> {
    let prefix = c.text(PREFIX).unwrap_or_else(|| "portolan".to_owned());
    let sound = prefix.len() <= 64
        && prefix
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'));
    if sound {
        return Some(prefix);
    }
    let problem = format!("expected up to 64 letters, digits, -, _, . and :, got {prefix:?}");
    c.refuse(FaultKind::Value, PREFIX, problem);
    None
}
