//! What conditions of policies may ask about a request: zot's variable `req`.
//!
//! A condition is asked for each action and repository that a request needs something in, and for each tag or digest that it
//! names, so that no part of a request goes by what holds for another. All that comes from clients is bounded here, and with it what
//! asking costs; a request that says more than that fulfils no condition.

use std::{collections::HashMap, net::IpAddr};

use cel::Value;
use chrono::DateTime;
use http::{HeaderMap, Method, header};
use rustls::ProtocolVersion;

use super::Caller;
use crate::{
    clock,
    config::{access::REQUEST_NAME, expression::value_of},
    oci::{Action, Reference, RepoName, Route},
};

/// Most bytes of `User-Agent`; most of `X-Forwarded-For`, and addresses in it.
const MAX_USER_AGENT: usize = 1024;
const MAX_FORWARDED: usize = 4 * 1024;
const MAX_FORWARDED_ADDRESSES: usize = 32;

/// A request, as conditions may ask about it.
#[derive(Clone, Debug)]
pub(super) struct Circumstances {
    at_ms: u64,
    method: Method,
    user_agent: String,
    forwarded_for: Vec<String>,
    client: IpAddr,
    tls: Option<ProtocolVersion>,
    /// What a workload's token says.
    claims: Option<serde_json::Value>,
    /// What it names: one manifest in some ways, or none.
    references: Vec<Reference>,
    /// What it says too much of.
    excess: Option<&'static str>,
}

/// What one question is about.
pub(super) struct Question<'a> {
    pub(super) action: Action,
    /// `None` where it isn't about a repository.
    pub(super) repository: Option<&'a RepoName>,
    pub(super) reference: Option<&'a Reference>,
    pub(super) user: &'a str,
    pub(super) groups: &'a [String],
    /// Whether the user is an administrator, if under conditions.
    pub(super) is_admin: bool,
}

impl Circumstances {
    /// Those of a request for `route`, if it is for one.
    pub(super) fn of(caller: &Caller<'_>, route: Option<&Route>) -> Self {
        let user_agent = caller.headers.get(header::USER_AGENT);
        let user_agent = user_agent.map(|value| String::from_utf8_lossy(value.as_bytes()));
        let user_agent = user_agent.unwrap_or_default().into_owned();
        let forwarded_for = forwarded(caller.headers);
        let excess = if user_agent.len() > MAX_USER_AGENT {
            Some("User-Agent")
        } else {
            forwarded_for.is_none().then_some("X-Forwarded-For")
        };
        Self {
            at_ms: clock::now_ms(),
            method: caller.method.clone(),
            user_agent,
            forwarded_for: forwarded_for.unwrap_or_default(),
            client: caller.client,
            tls: caller.tls,
            claims: None,
            references: route.map(Route::references).unwrap_or_default(),
            excess,
        }
    }

    /// The same, of who says this in a token.
    pub(super) fn with_claims(self, claims: Option<serde_json::Value>) -> Self {
        Self { claims, ..self }
    }

    /// What is to be asked about one by one: the manifests that the request names, or that it names none.
    pub(super) fn references(&self) -> Vec<Option<&Reference>> {
        match self.references.as_slice() {
            [] => vec![None],
            some => some.iter().map(Some).collect(),
        }
    }

    /// What conditions are asked with.
    ///
    /// # Errors
    /// The request says too much.
    pub(super) fn bindings(&self, question: &Question<'_>) -> Result<[(&'static str, Value); 1], String> {
        if let Some(what) = self.excess {
            return Err(format!("the request's {what} is too long"));
        }
        Ok([(REQUEST_NAME, self.request(question))])
    }

    /// [`REQUEST`](crate::config::access::REQUEST) says which fields there are.
    fn request(&self, question: &Question<'_>) -> Value {
        let (kind, tag, digest) = match question.reference {
            None => ("", String::new(), String::new()),
            Some(Reference::Tag(tag)) => ("tag", tag.to_string(), String::new()),
            Some(Reference::Digest(digest)) => ("digest", String::new(), digest.to_string()),
        };
        let at = i64::try_from(self.at_ms)
            .ok()
            .and_then(DateTime::from_timestamp_millis);
        let at = at.unwrap_or_default().fixed_offset();
        let tls = match self.tls {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            Some(_) | None => "",
        };
        let texts = |texts: &[String]| {
            Value::from(
                texts
                    .iter()
                    .map(|text| text.as_str().into())
                    .collect::<Vec<Value>>(),
            )
        };
        object([
            ("time", Value::Timestamp(at)),
            ("method", self.method.as_str().into()),
            ("userAgent", self.user_agent.as_str().into()),
            ("action", question.action.as_str().into()),
            ("repository", question.repository.map_or("", AsRef::as_ref).into()),
            // One of them is empty.
            ("reference", format!("{tag}{digest}").into()),
            ("referenceType", kind.into()),
            ("tag", tag.into()),
            ("digest", digest.into()),
            (
                "user",
                object([
                    ("username", question.user.into()),
                    ("groups", texts(question.groups)),
                ]),
            ),
            (
                "auth",
                object([
                    ("anonymous", Value::Bool(question.user.is_empty())),
                    ("admin", Value::Bool(question.is_admin)),
                ]),
            ),
            (
                "client",
                object([
                    ("ip", self.client.to_canonical().to_string().into()),
                    ("forwardedFor", texts(&self.forwarded_for)),
                ]),
            ),
            (
                "tls",
                object([
                    ("enabled", Value::Bool(self.tls.is_some())),
                    ("version", tls.into()),
                ]),
            ),
            (
                "claims",
                match &self.claims {
                    Some(claims) => value_of(claims),
                    None => object([]),
                },
            ),
        ])
    }
}

fn object<const N: usize>(fields: [(&'static str, Value); N]) -> Value {
    Value::from(HashMap::from(fields))
}

/// The addresses of `X-Forwarded-For`, as they stand; `None` where they are too many.
fn forwarded(headers: &HeaderMap) -> Option<Vec<String>> {
    let values = headers.get_all("x-forwarded-for").iter();
    let texts: Vec<_> = values
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    let addresses = texts.iter().flat_map(|text| text.split(','));
    let addresses: Vec<String> = addresses
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .take(MAX_FORWARDED_ADDRESSES + 1)
        .map(str::to_owned)
        .collect();
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    (addresses.len() <= MAX_FORWARDED_ADDRESSES && bytes <= MAX_FORWARDED).then_some(addresses)
}
