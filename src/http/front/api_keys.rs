//! `/zot/auth/apikey`: a user's API keys, with zot's paths and names. `GET` lists them, `POST` makes one, `DELETE` with
//! `?id=` revokes one.
//!
//! Any member answers: keys are rows, not content. Without `http.auth.apikey` there is no such endpoint.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::timeout;

use super::{
    Change, Exchange,
    admit::{caller, turn_away},
    step::{Next, Step},
};
use crate::{
    admission::{self, Body, Identity},
    auth::{ApiKey, ApiKeys, Gate, NewApiKey, Wanted},
    http::error::{self, Answer, FrontError},
};

const PATH: &str = "/zot/auth/apikey";
/// The largest body, in bytes.
const MAX_BODY: usize = 8 * 1024;
/// How long it may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How zot says that a key never ends.
const NEVER: &str = "0001-01-01T00:00:00Z";

#[derive(Clone)]
pub(super) struct KeyDesk {
    pub(super) gate: Arc<Gate>,
}

impl Step for KeyDesk {
    type In = Exchange;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, exchange: Exchange, next: N) -> Response<Body> {
        let keys = match self.gate.api_keys() {
            Some(keys) if exchange.request.uri().path() == PATH => keys.clone(),
            Some(_) | None => return next.go(exchange).await,
        };
        let id = exchange.id.clone();
        exchange.notes.lock().route = Some("api_keys");
        let identity = match self.gate.decide(caller(&exchange), Wanted::ApiKeys).await {
            Ok(decision) => decision.identity,
            Err(refusal) => return turn_away(refusal, &exchange),
        };
        exchange.notes.lock().user.clone_from(&identity.user);
        match answer(&keys, exchange, identity).await {
            Ok(response) => response,
            Err(answer) => answer.into_response(&id),
        }
    }
}

async fn answer(keys: &ApiKeys, exchange: Exchange, identity: Identity) -> Result<Response<Body>, Answer> {
    let user = identity.user.as_deref().unwrap_or_default();
    let notes = exchange.notes.clone();
    let change = |what, subject: &str| {
        notes.lock().change = Some(Change {
            what,
            subject: Some(subject.to_owned()),
        });
    };
    match *exchange.request.method() {
        Method::GET | Method::HEAD => {
            let keys = keys
                .list(user)
                .await
                .map_err(|error| error::store(error.kind()))?;
            let keys: Vec<Value> = keys.iter().map(described).collect();
            Ok(reply(StatusCode::OK, &json!({ "apiKeys": keys })))
        }
        Method::POST => {
            change("api_key_create", "");
            let new = read(exchange.request.into_body()).await?;
            let (key, text) = keys
                .create(user, new)
                .await
                .map_err(|error| error::api_key(&error))?;
            change("api_key_create", &key.id);
            let mut value = described(&key);
            value["apiKey"] = json!(text);
            Ok(reply(StatusCode::CREATED, &value))
        }
        Method::DELETE => {
            let query = exchange.request.uri().query().unwrap_or_default();
            let id = query.split('&').find_map(|part| part.strip_prefix("id="));
            let id = id.filter(|id| !id.is_empty() && id.len() <= 64);
            let id = id.ok_or_else(|| error::bad_api_key_request("the key's id is expected: ?id="))?;
            change("api_key_revoke", id);
            keys.revoke(user, id)
                .await
                .map_err(|error| error::api_key(&error))?;
            Ok(reply(StatusCode::OK, &json!({})))
        }
        _ => Err(error::front(
            &FrontError::Route(crate::oci::RouteError::MethodNotAllowed {
                allow: "GET, HEAD, POST, DELETE",
            }),
            exchange.request.method(),
        )),
    }
}

/// What a key is to be, in zot's words.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wish {
    #[serde(default)]
    label: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    expiration_date: Option<String>,
}

async fn read(body: Body) -> Result<NewApiKey, Answer> {
    let whole = timeout(BODY_WITHIN, Limited::new(body, MAX_BODY).collect()).await;
    let bytes = match whole {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(_)) | Err(_) => {
            return Err(error::bad_api_key_request(
                "a JSON object of at most 8 KiB is expected",
            ));
        }
    };
    let wish: Wish = serde_json::from_slice(&bytes).map_err(|_| {
        error::bad_api_key_request("a JSON object is expected, with label, scopes and expirationDate")
    })?;
    let expires_ms = match wish.expiration_date.as_deref() {
        None | Some("" | NEVER) => None,
        Some(text) => {
            let end = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
                error::bad_api_key_request(
                    "expirationDate is expected in RFC 3339, such as 2030-01-02T15:04:05Z",
                )
            })?;
            Some(u64::try_from(end.unix_timestamp_nanos() / 1_000_000).unwrap_or(1))
        }
    };
    Ok(NewApiKey {
        label: wish.label,
        scopes: wish.scopes,
        expires_ms,
    })
}

fn described(key: &ApiKey) -> Value {
    json!({
        "uuid": key.id,
        "label": key.label,
        "scopes": key.scopes,
        "createdAt": at(key.created_ms),
        "expirationDate": key.expires_ms.map_or_else(|| NEVER.to_owned(), at),
        "isExpired": key.is_expired(),
        "generatedBy": "manual",
    })
}

fn at(ms: u64) -> String {
    let when = i128::from(ms) * 1_000_000;
    let when = OffsetDateTime::from_unix_timestamp_nanos(when).ok();
    let text = when.and_then(|when| when.format(&Rfc3339).ok());
    text.unwrap_or_else(|| NEVER.to_owned())
}

fn reply(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(admission::full(value.to_string().into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
