//! What conditions of policies may ask about a request: zot's variable `req`.
//!
//! A condition is asked for each action and repository that a request needs something in, and for each tag or digest that it
//! names, so that no part of a request goes by what holds for another. All that comes from clients is bounded here, and with it what
//! asking costs; a request that says more than that fulfils no condition.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use cel::{
    Value,
    objects::{Key, Map},
};
use chrono::DateTime;
use http::{HeaderMap, Method, header};
use rustls::ProtocolVersion;

use super::{Caller, authenticator::Lacks};
use crate::{
    clock,
    config::{
        access::{Condition, REQUEST_NAME},
        expression::{Binding, value_of},
    },
    oci::{Action, Reference, References, RepoName, Route},
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
    /// The manifests that it is about.
    references: References,
    /// What it says too much of.
    excess: Option<&'static str>,
    /// What isn't known of who asks.
    lacks: Lacks,
}

/// Which manifest a question is about.
#[derive(Clone, Debug)]
pub(super) enum About {
    /// None: a blob, or a list.
    None,
    /// This one.
    This(Reference),
    /// Some that the request doesn't name.
    Untold,
}

/// What one question is about, beside the repository.
pub(super) struct Question<'a> {
    pub(super) action: Action,
    pub(super) about: &'a About,
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
            references: route.map_or(References::Named(Vec::new()), Route::references),
            excess,
            lacks: Lacks::default(),
        }
    }

    /// The same, of who says this in a token, which may lack something.
    pub(super) fn with_claims(self, claims: Option<serde_json::Value>, lacks: Lacks) -> Self {
        Self {
            claims,
            lacks,
            ..self
        }
    }

    /// What is to be asked about one by one: the manifests that the request names, or that it names none.
    pub(super) fn about(&self) -> Vec<About> {
        match &self.references {
            References::Untold => vec![About::Untold],
            References::Named(none) if none.is_empty() => vec![About::None],
            References::Named(some) => some.iter().cloned().map(About::This).collect(),
        }
    }

    /// What a condition may ask for that isn't known of who asks.
    pub(super) fn lacks_for(&self, condition: &Condition) -> Option<&'static str> {
        match self.lacks {
            Lacks { groups: true, .. } if condition.may_ask_groups() => Some("groups"),
            Lacks { claims: true, .. } if condition.may_ask_claims() => Some("claims"),
            Lacks { .. } => None,
        }
    }

    /// What conditions are asked with.
    ///
    /// # Errors
    /// The request says too much.
    pub(super) fn fields(&self, question: &Question<'_>) -> Result<Fields, String> {
        match self.excess {
            Some(what) => Err(format!("the request's {what} is too long")),
            None => Ok(self.request(question)),
        }
    }

    /// [`REQUEST`](crate::config::access::REQUEST) says which fields there are.
    fn request(&self, question: &Question<'_>) -> Fields {
        let (kind, tag, digest) = match question.about {
            About::None | About::Untold => ("", String::new(), String::new()),
            About::This(Reference::Tag(tag)) => ("tag", tag.to_string(), String::new()),
            About::This(Reference::Digest(digest)) => ("digest", String::new(), digest.to_string()),
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
        Fields(map([
            ("time", Value::Timestamp(at)),
            ("method", self.method.as_str().into()),
            ("userAgent", self.user_agent.as_str().into()),
            ("action", question.action.as_str().into()),
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
        ]))
    }
}

/// All that conditions are asked with but the repository.
pub(super) struct Fields(Map);

impl Fields {
    /// Of this repository; `None` where a question isn't about one. A copy of the map: one does for all conditions.
    pub(super) fn of(&self, repository: Option<&RepoName>) -> [Binding; 1] {
        let mut fields = HashMap::clone(&self.0.map);
        let name = repository.map_or("", AsRef::as_ref);
        fields.insert(Key::from("repository"), name.into());
        let map = Arc::new(fields);
        [(REQUEST_NAME, Value::Map(Map { map }))]
    }
}

fn object<const N: usize>(fields: [(&'static str, Value); N]) -> Value {
    Value::Map(map(fields))
}

fn map<const N: usize>(fields: [(&'static str, Value); N]) -> Map {
    HashMap::from(fields).into()
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
