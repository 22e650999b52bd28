//! `http.ratelimit`, and what answers say of the registry.

use std::{num::NonZeroU32, time::Duration};

use http::Method;

use super::{nodes::member, values};
use crate::config::{
    check::Checked,
    fault::FaultKind,
    limits::Limits,
    model::RateLimits,
    tree::{Node, Value},
};

const EXTERNAL_URL: &str = "http.externalUrl";
const ALLOW_ORIGIN: &str = "http.allowOrigin";
const PUBLIC_MAX_AGE: &str = "http.publicMaxAge";
const RATE: &str = "http.ratelimit.rate";
/// Nothing is cached for longer (RFC 9111 has no bound, caches do).
const LONGEST_MAX_AGE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const METHODS: &str = "http.ratelimit.methods";

/// How clients see the registry, without a slash at the end.
pub(super) fn external_url(c: &mut Checked) -> Option<String> {
    let text = c.text(EXTERNAL_URL)?;
    let url = text.trim_end_matches('/');
    if url.parse().is_ok_and(|uri| values::is_bare_endpoint(&uri)) {
        return Some(url.to_owned());
    }
    let problem =
        "expected https://host or https://host:port (or http), and no path: clients ask for /v2/ at the root";
    c.refuse(FaultKind::Value, EXTERNAL_URL, problem);
    None
}

/// Origins whose pages may ask; none where all may.
pub(super) fn origins(c: &mut Checked) -> Vec<String> {
    let mut origins = Vec::new();
    for (i, (text, line)) in c.texts(ALLOW_ORIGIN).unwrap_or_default().into_iter().enumerate() {
        let origin = text.trim().trim_end_matches('/');
        if origin == "*" || origin.parse().is_ok_and(|uri| values::is_bare_endpoint(&uri)) {
            origins.push(origin.to_owned());
        } else {
            let problem = format!("expected * or https://host, or with a port (or http), got {text:?}");
            c.refuse_element(FaultKind::Value, ALLOW_ORIGIN, i, line, problem);
        }
    }
    origins
}

/// How long shared caches may keep content that everybody may read.
pub(super) fn public_max_age(c: &mut Checked, limits: &mut Limits) {
    let Some(age) = c.duration(PUBLIC_MAX_AGE) else {
        return;
    };
    let age = age.unwrap_or_default();
    if age > LONGEST_MAX_AGE {
        c.refuse(
            FaultKind::Value,
            PUBLIC_MAX_AGE,
            "expected at most a year (8760h)",
        );
    }
    limits.front.public_max_age = age;
}

pub(super) fn rate_limits(c: &mut Checked) -> RateLimits {
    let all = c.int(RATE).and_then(|wanted| {
        let rate = rate(wanted);
        if rate.is_none() {
            c.refuse(FaultKind::Value, RATE, expected(wanted));
        }
        rate
    });
    let mut methods = Vec::new();
    for (i, element) in c.elements(METHODS).iter().enumerate() {
        let path = format!("{METHODS}[{i}]");
        let Some((method, rate)) = of_method(c, &path, element) else {
            continue;
        };
        if methods.iter().any(|(other, _)| *other == method) {
            let problem = format!("{method} has a rate already: keep one");
            c.refuse_at(
                FaultKind::Contradiction,
                &format!("{path}.method"),
                element.line,
                problem,
            );
            continue;
        }
        methods.push((method, rate));
    }
    RateLimits { all, methods }
}

/// What has another type than the table says has its fault already.
fn of_method(c: &mut Checked, path: &str, element: &Node) -> Option<(Method, NonZeroU32)> {
    let (method, wanted) = (member(element, "method"), member(element, "rate"));
    for (key, is_there) in [("method", method.is_some()), ("rate", wanted.is_some())] {
        if !is_there {
            let problem = "is required: each method has its rate".to_owned();
            c.refuse_at(
                FaultKind::Missing,
                &format!("{path}.{key}"),
                element.line,
                problem,
            );
        }
    }
    let wanted = values::int(wanted?)?;
    let rate = rate(wanted);
    if rate.is_none() {
        c.refuse_at(
            FaultKind::Value,
            &format!("{path}.rate"),
            element.line,
            expected(wanted),
        );
    }
    let Value::Str(method) = &method?.value else {
        return None;
    };
    let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).ok()?;
    Some((method, rate?))
}

fn rate(wanted: i64) -> Option<NonZeroU32> {
    u32::try_from(wanted).ok().and_then(NonZeroU32::new)
}

fn expected(wanted: i64) -> String {
    format!("expected requests a second, at least 1, got {wanted}; leave it out for no limit")
}
