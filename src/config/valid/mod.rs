//! From settings of the right types to a configuration that makes sense: defaults, contradictions, what is missing.
//!
//! Each part adds its faults and goes on, so that one run names them all.

mod access;
mod cluster;
mod delivery;
mod events;
mod http;
mod immutable;
mod ldap;
mod nodes;
mod openid;
mod postgres;
mod quota;
mod redis;
mod retention;
mod storage;
mod sync;
mod values;
mod workload;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    access::Logins,
    check::Checked,
    fault::{ConfigErrors, Fault, FaultKind},
    limits::Limits,
    model::{
        Config, Extensions, Listen, ListenAddress, Log, LogLevel, LogOutput, Searching, TlsFiles,
        UserInterface,
    },
    tree::Node,
};

/// zot's default when there is a file.
const DEFAULT_PORT: u16 = 8080;

/// Checks and validates a whole file.
pub(crate) fn config(source: &Path, root: &Node) -> Result<Config, ConfigErrors> {
    let mut c = Checked::walk(root);
    spec_version(&mut c);
    let listen = listen(&mut c);
    let public_tls = public_tls(&mut c);
    let openid = openid::openid(&mut c);
    let logins = Logins {
        workloads: workload::workloads(&mut c),
        ..access::logins(&mut c, public_tls.as_ref(), openid)
    };
    let access = access::access_control(&mut c, &logins);
    access::open_door(&mut c, listen.as_ref(), &logins, access.as_ref());
    let mut limits = Limits::default();
    timeouts(&mut c, &mut limits);
    let rate_limits = http::rate_limits(&mut c);
    let external_url = http::external_url(&mut c);
    let can_tell = public_tls.is_some() || external_url.is_some();
    access::plain_door(&mut c, listen.as_ref(), can_tell, &logins);
    openid::way_back(
        &mut c,
        logins.openid.as_ref(),
        can_tell || access::is_local(listen.as_ref()),
    );
    http::public_max_age(&mut c, &mut limits);
    let extensions = extensions(&mut c);
    let log = log(&mut c);
    compat(&mut c);
    metrics(&mut c);
    let storage = storage::storage(&mut c);
    let quotas = quota::quotas(&mut c);
    let immutable_tags = immutable::rules(&mut c);
    let verify_reads = c.bool("storage.verifyReads").unwrap_or_default();
    let collecting = storage::collecting(&mut c);
    storage::limits(&mut c, &mut limits);
    let delivery = delivery::delivery(&mut c, verify_reads, &limits.registry);
    let retention = retention::retention(&mut c);
    let sparse_indexes = storage::sparse_indexes(&mut c);
    let (sync, replicate) = (sync::sync(&mut c), sync::replicate(&mut c));
    let cluster = cluster::cluster(&mut c, listen.as_ref(), public_tls.as_ref(), storage.as_ref());
    match (listen, storage) {
        (Some(listen), Some(storage)) if c.faults.is_empty() => Ok(Config {
            source: Some(source.to_owned()),
            listen,
            public_tls,
            logins,
            access,
            storage,
            quotas,
            immutable_tags,
            verify_reads,
            delivery,
            collecting,
            limits,
            retention,
            sparse_indexes,
            sync,
            replicate,
            rate_limits,
            external_url,
            extensions,
            log,
            cluster,
            warnings: c.warnings,
        }),
        _ => Err(ConfigErrors::new(source.to_owned(), faults(c))),
    }
}

/// Never empty, so that a part that gave nothing and said nothing can't look like success.
fn faults(c: Checked) -> Vec<Fault> {
    match c.faults.is_empty() {
        true => vec![Fault::new(
            FaultKind::Missing,
            "",
            "is incomplete, and we can't say where: please report this",
        )],
        false => c.faults,
    }
}

fn spec_version(c: &mut Checked) {
    if let Some(version) = c.text("distSpecVersion")
        && version != "1.1"
        && !version.starts_with("1.1.")
    {
        c.warn(format!(
            "distSpecVersion: {version:?} is asked for, 1.1 is served"
        ));
    }
}

fn listen(c: &mut Checked) -> Option<Listen> {
    let port = c.port("http.port").unwrap_or(DEFAULT_PORT);
    let address = match c.text("http.address") {
        Some(text) => values::listen_address(c, "http.address", &text)?,
        None if c.has("http.address") => {
            c.refuse(
                FaultKind::Value,
                "http.address",
                "expected an address, got nothing: say 0.0.0.0 or :: for all",
            );
            return None;
        }
        None => ListenAddress::Ip(std::net::Ipv4Addr::LOCALHOST.into()),
    };
    Some(Listen { address, port })
}

fn public_tls(c: &mut Checked) -> Option<TlsFiles> {
    if !c.has("http.tls") {
        return None;
    }
    let cert = c.required("http.tls.cert", "http.tls has a certificate and its key");
    let key = c.required("http.tls.key", "http.tls has a certificate and its key");
    let client_ca = c.text("http.tls.cacert").map(PathBuf::from);
    Some(TlsFiles {
        cert: cert?.into(),
        key: key?.into(),
        client_ca,
    })
}

fn timeouts(c: &mut Checked, limits: &mut Limits) {
    for (key, timeout) in [
        ("http.readTimeout", &mut limits.server.head_timeout),
        ("http.writeTimeout", &mut limits.net.stall),
        ("http.idleTimeout", &mut limits.server.idle_timeout),
    ] {
        match c.duration(key) {
            None => {}
            Some(Some(wanted)) => *timeout = wanted,
            Some(None) => c.warn(format!(
                "{key}: there is no way to have none, {} s it is",
                timeout.as_secs()
            )),
        }
    }
}

fn log(c: &mut Checked) -> Log {
    let level = match c.text("log.level").as_deref() {
        Some("trace") => LogLevel::Trace,
        Some("debug") => LogLevel::Debug,
        Some("warn" | "warning") => LogLevel::Warn,
        Some("error" | "fatal" | "panic") => LogLevel::Error,
        Some("disabled") => LogLevel::Off,
        Some(_) | None => LogLevel::default(),
    };
    let output = c.text("log.output");
    let output = output.map_or(LogOutput::Stdout, |file| log_output(&file));
    let audit = c.text("log.audit").map(|file| log_output(&file));
    let audit_required = c.bool("log.auditRequired") == Some(true);
    if audit_required && audit.is_none() {
        let problem = "there is no audit: say where it goes in log.audit";
        c.refuse(FaultKind::Contradiction, "log.auditRequired", problem);
    }
    Log {
        level,
        output,
        audit,
        audit_required,
    }
}

fn log_output(file: &str) -> LogOutput {
    match file {
        "/dev/stdout" => LogOutput::Stdout,
        "/dev/stderr" => LogOutput::Stderr,
        file => LogOutput::File(file.into()),
    }
}

fn compat(c: &mut Checked) {
    for (i, (name, line)) in c.texts("http.compat").unwrap_or_default().into_iter().enumerate() {
        if name != "docker2s2" {
            let problem = format!("expected docker2s2, the only one there is, got {name:?}");
            c.refuse_element(FaultKind::Value, "http.compat", i, line, problem);
        }
    }
}

fn extensions(c: &mut Checked) -> Extensions {
    let searches = c.has("extensions.search") && c.bool("extensions.search.enable") != Some(false);
    let shows = c.has("extensions.ui") && c.bool("extensions.ui.enable") != Some(false);
    if shows && !searches {
        let problem = "the page asks extensions.search: switch that on, too, as zot wants it";
        c.refuse(FaultKind::Contradiction, "extensions.ui", problem.to_owned());
    }
    Extensions {
        search: if searches { Searching::On } else { Searching::Off },
        ui: if shows {
            UserInterface::On
        } else {
            UserInterface::Off
        },
        origins: http::origins(c),
        events: events::events(c),
        scrub: scrub(c),
    }
}

/// zot's default, and the least that it does.
fn scrub(c: &mut Checked) -> Option<Duration> {
    const INTERVAL: &str = "extensions.scrub.interval";
    const DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
    const LEAST: Duration = Duration::from_secs(2 * 60 * 60);
    let is_on = c.has("extensions.scrub") && c.bool("extensions.scrub.enable") != Some(false);
    let interval = c.duration(INTERVAL).flatten().unwrap_or(DEFAULT);
    if is_on && interval < LEAST {
        c.warn(format!("{INTERVAL}: two hours are the least, as in zot"));
    }
    is_on.then_some(interval.max(LEAST))
}

fn metrics(c: &mut Checked) {
    if c.bool("extensions.metrics.enable") == Some(false) {
        c.warn("extensions.metrics.enable: /metrics is served all the same");
    }
}
