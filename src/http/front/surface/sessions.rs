//! `/zot/auth/login`, `/zot/auth/callback/PROVIDER` and `/zot/auth/logout`: logging in by a browser at an identity provider, with
//! zot's paths and names.
//!
//! Any member answers: what one began another ends. Without `http.auth.openid` there are no such endpoints.

use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

use super::{
    super::exchange::{Change, Exchange},
    form::Form,
    reading::{Read, wrong_method},
};
use crate::{
    admission::Body,
    auth::{
        Decision, Right, Wanted,
        oidc::{CALLBACK_PATH, People, Returned},
    },
    config::openid::ProviderKind,
    http::{
        error::{self, Answer},
        reply::Reply,
    },
    oci::Effect,
};

/// As the log calls them.
pub(in crate::http::front) const NAME: &str = "session";

const LOGIN: &str = "/zot/auth/login";
const LOGOUT: &str = "/zot/auth/logout";

#[derive(Clone)]
pub(in crate::http::front) struct Desk(pub(in crate::http::front) Arc<People>);

pub(in crate::http::front) struct Request {
    people: Arc<People>,
    errand: Errand,
}

enum Errand {
    /// To a provider.
    Begin {
        provider: Option<String>,
        back: Option<String>,
    },
    /// Back from one.
    Finish(Box<Returned>),
    Leave,
}

impl Desk {
    pub(super) fn read(&self, request: &http::Request<Body>) -> Read<Request> {
        let (path, method) = (request.uri().path(), request.method());
        let form = Form(request.uri().query().unwrap_or_default());
        let errand = match (path, method) {
            (LOGIN, &Method::GET) => Errand::Begin {
                provider: form.first("provider"),
                back: form.first("callback_ui"),
            },
            (LOGIN, other) => return Some(Err(wrong_method("GET", other))),
            (LOGOUT, &Method::POST) => Errand::Leave,
            (LOGOUT, other) => return Some(Err(wrong_method("POST", other))),
            _ => {
                let provider = path.strip_prefix(CALLBACK_PATH)?;
                if method != Method::GET {
                    return Some(Err(wrong_method("GET", method)));
                }
                Errand::Finish(Box::new(Returned {
                    provider: ProviderKind::parse(provider),
                    cookie: self.0.kept(request.headers()),
                    state: form.first("state"),
                    code: form.first("code"),
                    issuer: form.first("iss"),
                    error: form.first("error"),
                }))
            }
        };
        let people = self.0.clone();
        Some(Ok(Request { people, errand }))
    }
}

impl Request {
    pub(super) fn wanted(&self) -> Wanted<'_> {
        match &self.errand {
            Errand::Begin { .. } => Wanted::Open,
            Errand::Finish(returned) => Wanted::Return(returned),
            Errand::Leave => Wanted::Leave,
        }
    }

    /// Whether it ends a login.
    pub(in crate::http::front) fn is_return(&self) -> bool {
        matches!(self.errand, Errand::Finish(_))
    }

    pub(super) fn effect(&self) -> Effect {
        match self.errand {
            Errand::Begin { .. } | Errand::Finish(_) => Effect::Safe,
            Errand::Leave => Effect::Unsafe,
        }
    }

    pub(super) fn change(&self) -> Option<Change> {
        let what = match self.errand {
            Errand::Begin { .. } => return None,
            Errand::Finish(_) => "login",
            Errand::Leave => "logout",
        };
        Some(Change { what, subject: None })
    }

    pub(in crate::http::front) async fn answer(
        self,
        exchange: Exchange,
        decision: Decision,
    ) -> Result<Response<Body>, Answer> {
        match (self.errand, decision.right) {
            (Errand::Begin { provider, back }, _) => {
                let base = self.people.base(&exchange.caller());
                let begun = self
                    .people
                    .begin(base.as_deref(), provider.as_deref(), back.as_deref());
                let begun = begun.await;
                let begun = begun.map_err(|error| error::auth(&error))?;
                let reply = Reply::new(StatusCode::FOUND).no_store().location(begun.location);
                Ok(with_cookies(reply.empty(), [begun.cookie]))
            }
            (Errand::Finish(_), Right::Arrive(arrived)) => {
                // As zot does: somewhere else, or nowhere.
                let reply = match arrived.back {
                    Some(back) => Reply::new(StatusCode::FOUND).location(back),
                    None => Reply::new(StatusCode::CREATED),
                };
                Ok(with_cookies(reply.no_store().empty(), arrived.cookies))
            }
            (Errand::Leave, Right::Leave(session)) => {
                let left = self.people.leave(&session).await;
                let (cookie, elsewhere) = left.map_err(|error| error::auth(&error))?;
                let body = match elsewhere {
                    Some(url) => json!({ "endSessionUrl": url }),
                    None => json!({}),
                };
                let reply = Reply::new(StatusCode::OK).no_store().json(&body);
                Ok(with_cookies(reply, cookie))
            }
            (Errand::Finish(_) | Errand::Leave, _) => Err(error::not_covered()),
        }
    }
}

fn with_cookies(
    mut response: Response<Body>,
    cookies: impl IntoIterator<Item = HeaderValue>,
) -> Response<Body> {
    let headers = response.headers_mut();
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
    response
}
