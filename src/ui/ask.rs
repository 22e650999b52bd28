//! Questions to the registry, as the visitor would ask them: each is a request of its own, from the visitor's address and
//! with what they showed of themselves.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use crate::admission::{self, Body};

/// Answers a request as it would one that came in by the visitor's connection. Method, path, query, headers and body are as
/// given; all else is the visitor's.
pub type Inside = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Where zot's search API is.
const SEARCH: &str = "/v2/_zot/ext/search";
/// The largest answer that is shown, in bytes: a manifest has 4 MiB at most, a page of a search less.
const MOST: usize = 8 << 20;

/// Asks.
#[derive(Clone)]
pub struct Ask(pub Inside);

/// Why there is nothing to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The status of the answer, and of the page that says so.
    pub status: StatusCode,
    /// For people.
    pub message: String,
}

impl Trouble {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, message }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
}

/// An answer that is one.
pub(super) struct Said {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Said {
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// As JSON; what isn't is nothing.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What a search found.
pub(super) struct Found {
    pub(super) data: Value,
    /// Something was left out.
    pub(super) is_partial: bool,
}

impl Ask {
    pub(super) async fn get(&self, target: &str) -> Result<Said, Trouble> {
        self.send(Method::GET, target, &[(header::ACCEPT, "*/*")], None)
            .await
    }

    /// All bytes of what is told whole or in part: of a range nobody is sent elsewhere for, where no page could follow.
    pub(super) async fn bytes(&self, target: &str) -> Result<Said, Trouble> {
        let all = [(header::ACCEPT, "*/*"), (header::RANGE, "bytes=0-")];
        self.send(Method::GET, target, &all, None).await
    }

    /// Counts as no pull.
    pub(super) async fn head(&self, target: &str) -> Result<Said, Trouble> {
        self.send(Method::HEAD, target, &[(header::ACCEPT, "*/*")], None)
            .await
    }

    pub(super) async fn delete(&self, target: &str) -> Result<Said, Trouble> {
        self.send(Method::DELETE, target, &[], None).await
    }

    pub(super) async fn post(&self, target: &str, value: &Value) -> Result<Said, Trouble> {
        let json = [(header::CONTENT_TYPE, "application/json")];
        self.send(Method::POST, target, &json, Some(value.to_string()))
            .await
    }

    /// Has something done that takes no more words.
    pub(super) async fn order(&self, target: &str) -> Result<Said, Trouble> {
        self.send(Method::POST, target, &[], None).await
    }

    /// Asks zot's search API. A question without an answer is `null`, as one about what isn't there.
    pub(super) async fn search(&self, query: &str, variables: Value) -> Result<Found, Trouble> {
        let question = json!({ "query": query, "variables": variables });
        let mut answer = self.post(SEARCH, &question).await?.json();
        Ok(Found {
            is_partial: answer["extensions"]["partial"] == json!(true),
            data: answer["data"].take(),
        })
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(HeaderName, &str)],
        body: Option<String>,
    ) -> Result<Said, Trouble> {
        let unreadable = || {
            Trouble::new(
                StatusCode::BAD_GATEWAY,
                "The registry's answer could not be read.",
            )
        };
        let mut request = Request::new(match body {
            Some(body) => admission::full(body.into()),
            None => admission::empty(),
        });
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().map_err(|_| unreadable())?;
        for (name, value) in headers {
            let value = HeaderValue::try_from(*value).map_err(|_| unreadable())?;
            request.headers_mut().insert(name, value);
        }
        let (head, body) = (self.0)(request).await.into_parts();
        let body = Limited::new(body, MOST).collect().await;
        let body = body.map_err(|_| unreadable())?.to_bytes();
        match head.status.is_success() {
            true => Ok(Said {
                headers: head.headers,
                body,
            }),
            false => Err(Trouble::new(head.status, message(&body))),
        }
    }
}

/// What the specification's error body says.
pub fn message(body: &[u8]) -> String {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = said["errors"][0]["message"]
        .as_str()
        .unwrap_or("No reason was given.");
    let mut message: String = message.chars().take(1000).collect();
    if let Some(first) = message.get(..1).map(str::to_uppercase) {
        message.replace_range(..1, &first);
    }
    if !message.ends_with('.') {
        message.push('.');
    }
    message
}
