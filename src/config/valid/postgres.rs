//! `storage.cacheDriver: {name: postgres}`: the servers, and how they are reached.

use tokio_postgres::config::{Host, SslMode};

use crate::config::{check::Checked, fault::FaultKind, model::PostgresConfig};

const URL: &str = "storage.cacheDriver.url";
const SCHEMA: &str = "storage.cacheDriver.schema";

/// What needs a name that isn't resolved, and what libpq calls by other names: a certificate is verified, or there is no TLS.
const VERIFIED: [&str; 2] = ["sslmode=verify-full", "sslmode=verify-ca"];

pub(super) fn postgres(c: &mut Checked) -> Option<PostgresConfig> {
    let servers = servers(c);
    let schema = schema(c);
    let authority = c.text("storage.cacheDriver.cacert").map(Into::into);
    let (servers, schema) = (servers?, schema?);
    if servers.get_ssl_mode() == SslMode::Disable && authority.is_some() {
        let problem = "contradicts sslmode=disable in url: leave out one of the two";
        c.refuse(FaultKind::Contradiction, "storage.cacheDriver.cacert", problem);
        return None;
    }
    Some(PostgresConfig {
        servers,
        authority,
        schema,
    })
}

fn servers(c: &mut Checked) -> Option<tokio_postgres::Config> {
    let url = c.required(
        URL,
        "it says where the database is: postgres://user@host/database",
    )?;
    let text = VERIFIED
        .iter()
        .fold(url, |url, verified| url.replace(verified, "sslmode=require"));
    let mut servers: tokio_postgres::Config = match text.parse() {
        Ok(servers) => servers,
        // What it says may have a piece of the password in it.
        Err(_) => {
            let problem =
                "expected postgres://user:password@host:port/database, or host=... user=... dbname=...";
            c.refuse(FaultKind::Value, URL, problem);
            return None;
        }
    };
    let missing = match &servers {
        servers if servers.get_hosts().is_empty() => Some("a host"),
        servers if servers.get_user().is_none() => Some("a user"),
        servers if servers.get_dbname().is_none() => Some("a database"),
        _ => None,
    };
    if let Some(missing) = missing {
        c.refuse(FaultKind::Value, URL, format!("names no {}", &missing[2..]));
        return None;
    }
    if let Some(password) = c.text("storage.cacheDriver.password") {
        if servers.get_password().is_some() {
            let problem = "is in url, too: leave out one of the two";
            c.refuse(FaultKind::Contradiction, "storage.cacheDriver.password", problem);
        }
        servers.password(password);
    }
    // A socket of this machine has no TLS.
    let is_here = servers
        .get_hosts()
        .iter()
        .all(|host| matches!(host, Host::Unix(_)));
    match servers.get_ssl_mode() {
        SslMode::Disable => {
            if !is_here {
                c.warn("storage.cacheDriver.url: sslmode=disable: what is in the database goes over the network as it is");
            }
        }
        _ if is_here => {
            servers.ssl_mode(SslMode::Disable);
        }
        _ => {
            servers.ssl_mode(SslMode::Require);
        }
    }
    Some(servers)
}

fn schema(c: &mut Checked) -> Option<String> {
    let schema = c.text(SCHEMA).unwrap_or_else(|| "portolan".to_owned());
    let sound = schema.len() <= 63
        && !schema.starts_with("pg_")
        && schema.starts_with(|first: char| first.is_ascii_lowercase())
        && schema
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if sound {
        return Some(schema);
    }
    let problem =
        format!("expected up to 63 lower-case letters, digits and _, a letter first, got {schema:?}");
    c.refuse(FaultKind::Value, SCHEMA, problem);
    None
}
