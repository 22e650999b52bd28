//! `/zot/auth/token`: tokens of the registry's own, by docker's token protocol. `GET` takes a login in `Authorization` (or a
//! certificate, or nothing), `POST` the name and password in a form (OAuth2, RFC 6749, 4.3).
//!
//! Any member answers, and any member knows the token. Where tokens come from elsewhere, or nobody can log in, there is no
//! such endpoint. Deliberately absent: refresh tokens; a client keeps what it logs in with.

use std::{sync::Arc, time::Duration};

use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::timeout;

use super::{
    super::exchange::{Change, Exchange},
    form::Form,
    reading::{Read, wrong_method},
};
use crate::{
    admission::{self, Body},
    auth::{Asked, Credentials, Decision, Issued, Issuer, Right, TOKEN_PATH},
    http::{
        error::{self, Answer, OAuthError},
        reply::Reply,
    },
};

/// As the log and the audit call it.
pub(in crate::http::front) const NAME: &str = "token";
/// The largest form, in bytes, as zot's.
const MAX_BODY: usize = 64 * 1024;
/// How long it may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(in crate::http::front) struct Desk(pub(in crate::http::front) Arc<Issuer>);

pub(in crate::http::front) struct Request {
    issuer: Arc<Issuer>,
    way: Way,
    shown: Credentials,
    asked: Asked,
}

/// How a token is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// In docker's.
    Query,
    /// In that of OAuth2, which has words of its own for what is wrong.
    Form,
}

impl Desk {
    pub(super) async fn read(&self, exchange: &mut Exchange) -> Read<Request> {
        if exchange.request.uri().path() != TOKEN_PATH {
            return None;
        }
        let way = match *exchange.request.method() {
            Method::GET => Way::Query,
            Method::POST => Way::Form,
            ref other => return Some(Err(wrong_method("GET, POST", other))),
        };
        let read = match way {
            Way::Query => of_query(&exchange.request),
            Way::Form => of_form(&mut exchange.request).await,
        };
        let issuer = self.0.clone();
        Some(read.map(|(shown, asked)| Request {
            issuer,
            way,
            shown,
            asked,
        }))
    }
}

impl Request {
    pub(super) fn shown(&self) -> &Credentials {
        &self.shown
    }

    /// Whether it shows a login that isn't in `Authorization`.
    pub(in crate::http::front) fn is_form(&self) -> bool {
        self.way == Way::Form
    }

    /// Who pulls without a login leaves no line: there would be one for every pull.
    pub(super) fn change(&self) -> Option<Change> {
        (self.shown != Credentials::None).then_some(Change {
            what: NAME,
            subject: None,
        })
    }

    pub(super) fn worded(&self, refusal: Answer) -> Answer {
        match self.way {
            Way::Query => refusal,
            Way::Form => refusal.with_oauth(OAuthError::InvalidGrant),
        }
    }

    pub(in crate::http::front) async fn answer(self, decision: Decision) -> Result<Response<Body>, Answer> {
        let Right::Token(login) = decision.right else {
            return Err(error::not_covered());
        };
        let issued = self.issuer.issue(login, &self.asked).await;
        let issued = issued.map_err(|error| self.worded(error::auth(&error)))?;
        Ok(reply(&issued))
    }
}

fn of_query(request: &http::Request<Body>) -> Result<(Credentials, Asked), Answer> {
    let asked = asked(Form(request.uri().query().unwrap_or_default()))?;
    Ok((Credentials::of(request.headers()), asked))
}

async fn of_form(request: &mut http::Request<Body>) -> Result<(Credentials, Asked), Answer> {
    if Credentials::of(request.headers()) != Credentials::None {
        let problem = "a login is expected in the form, and there alone";
        return Err(error::oauth(OAuthError::InvalidRequest, problem));
    }
    let body = std::mem::replace(request.body_mut(), admission::empty());
    let bytes = match timeout(BODY_WITHIN, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(_)) | Err(_) => {
            let problem = "a form of at most 64 KiB is expected";
            return Err(error::oauth(OAuthError::InvalidRequest, problem));
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let form = Form(&text);
    match form.first("grant_type").as_deref() {
        Some("password") => {}
        Some(_) => {
            let problem = "password is the only grant_type here";
            return Err(error::oauth(OAuthError::UnsupportedGrantType, problem));
        }
        None => {
            let problem = "grant_type=password, username and password are expected";
            return Err(error::oauth(OAuthError::InvalidRequest, problem));
        }
    }
    let (Some(user), Some(password)) = (form.first("username"), form.first("password")) else {
        let problem = "username and password are expected, once each";
        return Err(error::oauth(OAuthError::InvalidRequest, problem));
    };
    Ok((Credentials::Basic { user, password }, asked(form)?))
}

fn asked(form: Form<'_>) -> Result<Asked, Answer> {
    let scopes: Vec<String> = form.all("scope").collect();
    Asked::parse(scopes.iter().map(String::as_str))
        .map_err(|problem| error::oauth(OAuthError::InvalidScope, problem.to_string()))
}

/// In the words of docker's protocol and of OAuth2 both: clients of each read the answers of the other.
fn reply(issued: &Issued) -> Response<Body> {
    let when = i64::try_from(issued.issued_at).ok();
    let when = when.and_then(|when| OffsetDateTime::from_unix_timestamp(when).ok());
    let value = json!({
        "token": issued.token,
        "access_token": issued.token,
        "token_type": "Bearer",
        "expires_in": issued.expires_in,
        "issued_at": when.and_then(|when| when.format(&Rfc3339).ok()),
    });
    Reply::new(StatusCode::OK).no_store().json(&value)
}
