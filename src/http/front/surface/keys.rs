//! `/zot/auth/apikey`: API keys, with zot's paths and names. `GET` lists a user's own, `POST` makes one, `DELETE` with `?id=`
//! revokes one. Administrators list those of anybody (`?user=`) and everybody (`?all=true`), revoke them, and make those of
//! robots (`?robot=`).
//!
//! Any member answers: keys are rows, not content. Without `http.auth.apikey` there is no such endpoint.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::timeout;

use super::{
    super::exchange::{Change, Exchange},
    reading::{Read, wrong_method},
};
use crate::{
    admission::Body,
    auth::{ApiKey, ApiKeyError, ApiKeys, Decision, KeyMaker, KeysOf, NewApiKey, Right},
    http::{
        error::{self, Answer},
        reply::Reply,
    },
    oci::{Action, Effect},
};

/// As the log calls it.
pub(in crate::http::front) const NAME: &str = "api_keys";

const PATH: &str = "/zot/auth/apikey";
/// The largest body, in bytes.
const MAX_BODY: usize = 8 * 1024;
/// How long it may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How zot says that a key never ends.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// Users whose keys are in one answer about everybody's.
const USERS_A_PAGE: usize = 50;

#[derive(Clone)]
pub(in crate::http::front) struct Desk(pub(in crate::http::front) Arc<ApiKeys>);

pub(in crate::http::front) struct Request {
    keys: Arc<ApiKeys>,
    errand: Errand,
}

impl Desk {
    pub(super) fn read(&self, request: &http::Request<Body>) -> Read<Request> {
        if request.uri().path() != PATH {
            return None;
        }
        let errand = Errand::read(request.method(), request.uri().query());
        let keys = self.0.clone();
        Some(errand.map(|errand| Request { keys, errand }))
    }
}

impl Request {
    pub(super) fn whose(&self) -> KeysOf {
        match self.errand {
            Errand::List { of: None } | Errand::Create { robot: None } | Errand::Revoke { of: None, .. } => {
                KeysOf::Oneself
            }
            Errand::Create { robot: Some(_) } => KeysOf::Robots,
            Errand::List { of: Some(_) } | Errand::ListAll { .. } => KeysOf::Others(Action::Read),
            Errand::Revoke { of: Some(_), .. } | Errand::RevokeAll { .. } => KeysOf::Others(Action::Delete),
        }
    }

    pub(super) fn effect(&self) -> Effect {
        match self.errand {
            Errand::List { .. } | Errand::ListAll { .. } => Effect::Safe,
            Errand::Create { .. } | Errand::Revoke { .. } | Errand::RevokeAll { .. } => Effect::Unsafe,
        }
    }

    pub(super) fn change(&self) -> Option<Change> {
        let (what, subject) = match &self.errand {
            Errand::List { .. } | Errand::ListAll { .. } => return None,
            Errand::Create { robot } => (CREATE, robot.as_ref().map(|name| format!("of robot {name}"))),
            Errand::RevokeAll { of } => (REVOKE, Some(format!("all of {of}"))),
            Errand::Revoke { of: None, id } => (REVOKE, Some(id.clone())),
            Errand::Revoke { of: Some(user), id } => (REVOKE, Some(of(id, user))),
        };
        Some(Change { what, subject })
    }

    pub(in crate::http::front) async fn answer(
        self,
        exchange: Exchange,
        decision: Decision,
    ) -> Result<Response<Body>, Answer> {
        let Right::Keys(caller) = decision.right else {
            return Err(error::not_covered());
        };
        answer(&self.keys, exchange, caller, self.errand).await
    }
}

/// As the audit calls them.
const CREATE: &str = "api_key_create";
const REVOKE: &str = "api_key_revoke";

/// A key of somebody else's.
fn of(id: &str, user: &str) -> String {
    format!("{id} of {user}")
}

/// What is asked for.
enum Errand {
    /// Keys of the caller, or of somebody else.
    List { of: Option<String> },
    /// Everybody's, of the users after this one.
    ListAll { after: Option<String> },
    /// A new key of the caller's, or of a robot.
    Create { robot: Option<String> },
    /// To end all keys of somebody.
    RevokeAll { of: String },
    /// To end a key of the caller's, or of somebody else's.
    Revoke { of: Option<String>, id: String },
}

impl Errand {
    fn read(method: &Method, query: Option<&str>) -> Result<Self, Answer> {
        let value = |name: &str| {
            let mut pairs = query.unwrap_or_default().split('&');
            let found = pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
            Some(percent_decode_str(found).decode_utf8_lossy().into_owned()).filter(|value| !value.is_empty())
        };
        let said = |name: &str| {
            let mut pairs = query.unwrap_or_default().split('&');
            pairs.any(|pair| pair.split('=').next() == Some(name))
        };
        match *method {
            Method::GET | Method::HEAD => match value("all").as_deref() {
                None | Some("false") => Ok(Self::List { of: value("user") }),
                Some("true") => Ok(Self::ListAll { after: value("last") }),
                Some(_) => Err(error::bad_api_key_request("?all= is true or false")),
            },
            // A robot without a name is refused: nobody who asks for one means a key of their own.
            Method::POST => Ok(Self::Create {
                robot: said("robot").then(|| value("robot").unwrap_or_default()),
            }),
            Method::DELETE if value("all").is_some_and(|all| all != "false") => {
                match (value("user"), value("id"), value("all").as_deref()) {
                    (Some(of), None, Some("true")) => Ok(Self::RevokeAll { of }),
                    _ => Err(error::bad_api_key_request(
                        "all keys end of one user: ?user=...&all=true, without an id",
                    )),
                }
            }
            Method::DELETE => {
                let id = value("id").filter(|id| id.len() <= 64);
                let id = id.ok_or_else(|| error::bad_api_key_request("the key's id is expected: ?id="))?;
                Ok(Self::Revoke {
                    of: value("user"),
                    id,
                })
            }
            _ => Err(wrong_method("GET, HEAD, POST, DELETE", method)),
        }
    }
}

async fn answer(
    keys: &ApiKeys,
    exchange: Exchange,
    caller: KeyMaker,
    errand: Errand,
) -> Result<Response<Body>, Answer> {
    match errand {
        Errand::List { of: None } => {
            let keys = list(keys, &caller.user).await?;
            let keys: Vec<Value> = keys.iter().map(described).collect();
            Ok(reply(StatusCode::OK, &json!({ "apiKeys": keys })))
        }
        Errand::List { of: Some(user) } => {
            let keys = list(keys, &user).await?;
            let keys: Vec<Value> = keys.iter().map(|key| described_of(&user, key)).collect();
            Ok(reply(StatusCode::OK, &json!({ "apiKeys": keys })))
        }
        Errand::ListAll { after } => list_all(keys, after.as_deref()).await,
        Errand::Create { robot } => {
            let notes = exchange.notes.clone();
            let (new, groups) = read(exchange.request.into_body()).await?;
            let refused = |error: ApiKeyError| error::api_key(&error);
            let maker = match (&robot, groups) {
                (Some(name), groups) => KeyMaker::robot(name, groups.unwrap_or_default()).map_err(refused)?,
                (None, None) => caller,
                (None, Some(_)) => return Err(error::bad_api_key_request("groups are for robots: ?robot=")),
            };
            let (key, text) = keys.create(&maker, new).await.map_err(refused)?;
            let change = Change {
                what: CREATE,
                subject: Some(match robot {
                    Some(_) => of(&key.id, &maker.user),
                    None => key.id.clone(),
                }),
            };
            notes.lock().change = Some(change);
            let mut value = match robot {
                Some(_) => described_of(&maker.user, &key),
                None => described(&key),
            };
            value["apiKey"] = json!(text);
            Ok(reply(StatusCode::CREATED, &value))
        }
        Errand::RevokeAll { of } => {
            let revoked = keys.revoke_all(&of).await;
            revoked.map_err(|error| error::api_key(&error))?;
            Ok(reply(StatusCode::OK, &json!({})))
        }
        Errand::Revoke { of, id } => {
            let revoked = keys.revoke(of.as_ref().unwrap_or(&caller.user), &id).await;
            revoked.map_err(|error| error::api_key(&error))?;
            Ok(reply(StatusCode::OK, &json!({})))
        }
    }
}

async fn list(keys: &ApiKeys, user: &str) -> Result<Vec<ApiKey>, Answer> {
    keys.list(user).await.map_err(|error| error::store(error.kind()))
}

/// Everybody's keys, some users at a time: where there are more, `Link` says where to go on, as in the catalogue.
async fn list_all(keys: &ApiKeys, after: Option<&str>) -> Result<Response<Body>, Answer> {
    let holders = keys.holders(after, USERS_A_PAGE).await;
    let (users, more) = holders.map_err(|error| error::store(error.kind()))?;
    let mut all = Vec::new();
    for user in &users {
        let keys = list(keys, user).await?;
        all.extend(keys.iter().map(|key| described_of(user, key)));
    }
    let mut response = reply(StatusCode::OK, &json!({ "apiKeys": all }));
    if let (true, Some(last)) = (more, users.last()) {
        let last = utf8_percent_encode(last, NON_ALPHANUMERIC);
        let link = format!("<{PATH}?all=true&last={last}>; rel=\"next\"");
        // Percent-encoded, it is ASCII.
        let link = HeaderValue::try_from(link).ok();
        response
            .headers_mut()
            .extend(link.map(|link| (header::LINK, link)));
    }
    Ok(response)
}

/// What a key is to be, in zot's words. A word that isn't one of them could have been meant to bound the key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wish {
    #[serde(default)]
    label: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    expiration_date: Option<String>,
    /// Of a robot.
    #[serde(default)]
    groups: Option<Vec<String>>,
}

/// What a key is to be, and a robot's groups.
async fn read(body: Body) -> Result<(NewApiKey, Option<Vec<String>>), Answer> {
    let whole = timeout(BODY_WITHIN, Limited::new(body, MAX_BODY).collect()).await;
    let bytes = match whole {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(_)) | Err(_) => {
            return Err(error::bad_api_key_request(
                "a JSON object of at most 8 KiB is expected",
            ));
        }
    };
    // A list would be read as the values in their order.
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    let wish: Wish = serde_json::from_slice(&bytes)
        .ok()
        .filter(|_| is_object)
        .ok_or_else(|| {
            error::bad_api_key_request(
                "a JSON object is expected, with label, scopes and expirationDate, written so, and nothing else",
            )
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
    let new = NewApiKey {
        label: wish.label,
        scopes: wish.scopes,
        expires_ms,
    };
    Ok((new, wish.groups))
}

fn described(key: &ApiKey) -> Value {
    json!({
        "uuid": key.id,
        "label": key.label,
        "scopes": key.scopes,
        "createdAt": at(key.created_ms),
        "expirationDate": key.expires_ms.map_or_else(|| NEVER.to_owned(), at),
        "isExpired": key.is_expired(),
        "lastUsed": key.used_ms.map_or_else(|| NEVER.to_owned(), at),
        "generatedBy": "manual",
    })
}

/// A key that isn't the caller's own says whose it is, and which groups it has for itself.
fn described_of(user: &str, key: &ApiKey) -> Value {
    let mut value = described(key);
    value["user"] = json!(user);
    value["groups"] = json!(key.groups);
    value
}

fn at(ms: u64) -> String {
    let when = i128::from(ms) * 1_000_000;
    let when = OffsetDateTime::from_unix_timestamp_nanos(when).ok();
    let text = when.and_then(|when| when.format(&Rfc3339).ok());
    text.unwrap_or_else(|| NEVER.to_owned())
}

fn reply(status: StatusCode, value: &Value) -> Response<Body> {
    Reply::new(status).no_store().json(value)
}
