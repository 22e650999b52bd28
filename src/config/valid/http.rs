//! `http.ratelimit`.

use std::num::NonZeroU32;

use http::Method;

use super::{access::member, values};
use crate::config::{
    check::Checked,
    fault::FaultKind,
    model::RateLimits,
    tree::{Node, Value},
};

const RATE: &str = "http.ratelimit.rate";
const METHODS: &str = "http.ratelimit.methods";

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
