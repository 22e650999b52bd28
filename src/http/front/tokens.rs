//! `/zot/auth/token`: tokens of the registry's own, by docker's token protocol. `GET` takes a login in `Authorization` (or a
//! certificate, or nothing), `POST` the name and password in a form (OAuth2, RFC 6749, 4.3).
//!
//! Any member answers, and any member knows the token. Where tokens come from elsewhere, or nobody can log in, there is no
//! such endpoint. Deliberately absent: refresh tokens; a client keeps what it logs in with.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::percent_decode_str;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::timeout;

use super::{
    Change, Exchange,
    admit::{caller, log_refusal},
    ratelimit::Rates,
    step::{Next, Step},
};
use crate::{
    admission::{self, Body},
    auth::{Asked, Credentials, Gate, Issued, Refusal, TOKEN_PATH},
    http::error::{self, Answer, FrontError, OAuthError},
    oci::RouteError,
};

/// The largest form, in bytes, as zot's.
const MAX_BODY: usize = 64 * 1024;
/// How long it may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct TokenDesk {
    pub(super) gate: Arc<Gate>,
    pub(super) rates: Arc<Rates>,
}

impl Step for TokenDesk {
    type In = Exchange;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, mut exchange: Exchange, next: N) -> Response<Body> {
        if !self.gate.issues() || exchange.request.uri().path() != TOKEN_PATH {
            return next.go(exchange).await;
        }
        exchange.notes.lock().route = Some("token");
        let id = exchange.id.clone();
        let answered = match *exchange.request.method() {
            Method::GET => self.answer_query(&mut exchange).await,
            Method::POST => self.answer_form(&mut exchange).await,
            ref other => Err(error::front(
                &FrontError::Route(RouteError::MethodNotAllowed { allow: "GET, POST" }),
                other,
            )),
        };
        match answered {
            Ok(issued) => reply(&issued),
            Err(answer) => answer.into_response(&id),
        }
    }
}

impl TokenDesk {
    async fn answer_query(&self, exchange: &mut Exchange) -> Result<Issued, Answer> {
        let asked = asked(Form(exchange.request.uri().query().unwrap_or_default()))?;
        let credentials = Credentials::of(exchange.request.headers());
        let issued = self.issue(exchange, credentials, &asked).await;
        issued.map_err(|denial| error::front(&denial.into(), &Method::GET))
    }

    async fn answer_form(&self, exchange: &mut Exchange) -> Result<Issued, Answer> {
        if Credentials::of(exchange.request.headers()) != Credentials::None {
            let problem = "a login is expected in the form, and there alone";
            return Err(error::oauth(OAuthError::InvalidRequest, problem));
        }
        let body = std::mem::replace(exchange.request.body_mut(), admission::empty());
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
        let asked = asked(form)?;
        let issued = self
            .issue(exchange, Credentials::Basic { user, password }, &asked)
            .await;
        issued.map_err(|denial| {
            error::front(&denial.into(), &Method::POST).with_oauth(OAuthError::InvalidGrant)
        })
    }

    async fn issue(
        &self,
        exchange: &mut Exchange,
        credentials: Credentials,
        asked: &Asked,
    ) -> Result<Issued, Denial> {
        // Who pulls without a login leaves no line: there would be one for every pull.
        if credentials != Credentials::None {
            exchange.notes.lock().change = Some(Change {
                what: "token",
                subject: None,
            });
        }
        let issued = match self.gate.issue(caller(exchange), credentials, asked).await {
            Ok(issued) => issued,
            Err(refusal) => {
                log_refusal(&refusal, exchange);
                return Err(Denial::Refused(refusal));
            }
        };
        exchange.notes.lock().user.clone_from(&issued.user);
        self.rates
            .count(
                issued.user.as_deref(),
                exchange.client.ip(),
                exchange.request.method(),
            )
            .map_err(Denial::TooFast)?;
        Ok(issued)
    }
}

/// Why nobody gets a token now.
enum Denial {
    Refused(Refusal),
    TooFast(Duration),
}

impl From<Denial> for FrontError {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Refused(refusal) => refusal.error.into(),
            Denial::TooFast(wait) => Self::TooFast(wait),
        }
    }
}

fn asked(form: Form<'_>) -> Result<Asked, Answer> {
    let scopes: Vec<String> = form.all("scope").collect();
    Asked::parse(scopes.iter().map(String::as_str))
        .map_err(|problem| error::oauth(OAuthError::InvalidScope, problem.to_string()))
}

/// `name=value` pairs joined by `&`, with `+` for a space (application/x-www-form-urlencoded).
#[derive(Clone, Copy)]
struct Form<'a>(&'a str);

impl<'a> Form<'a> {
    fn all(self, name: &str) -> impl Iterator<Item = String> {
        self.0.split('&').filter_map(move |pair| {
            let (found, value) = pair.split_once('=')?;
            (decoded(found) == name).then(|| decoded(value))
        })
    }

    /// The value of a name that is there once: of two nobody knows which counts.
    fn first(self, name: &str) -> Option<String> {
        let mut all = self.all(name);
        all.next().filter(|_| all.next().is_none())
    }
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
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
    let mut response = Response::new(admission::full(value.to_string().into()));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_browsers_and_clients_write_it() {
        let form = Form(
            "scope=repository%3Aa%3Apull+repository:b:push&scope=x&user=a%2Bb&p=%20&twice=1&twice=2&e&n=",
        );
        assert_eq!(
            form.all("scope").collect::<Vec<_>>(),
            ["repository:a:pull repository:b:push", "x"]
        );
        assert_eq!(form.first("user").as_deref(), Some("a+b"));
        assert_eq!(form.first("p").as_deref(), Some(" "));
        assert_eq!(form.first("n").as_deref(), Some(""));
        assert_eq!((form.first("twice"), form.first("e")), (None, None));
    }
}
