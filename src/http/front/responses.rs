//! Responses as clients want them: all say that this is a registry, none to HEAD has a body, and a panic has an answer, too.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::{
    exchange::Exchange,
    step::{Next, Step},
};
use crate::{
    admission::{self, Body},
    http::error,
};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// By this zot's page says who asks: it has a form for logins, and a browser that is challenged would show one of its own.
const API_CLIENT: HeaderName = HeaderName::from_static("x-zot-api-client");

/// What every answer of the API says, whoever makes it: that this is a registry, by which clients tell it from a proxy's
/// page, the 401 first of all; and a `Location` that names scheme and host, where it is configured how clients see them.
///
/// Nothing in a request decides about that: `Host` and `X-Forwarded-*` are what a client says.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) external_url: Option<Arc<str>>,
}

impl Step for Api {
    type In = Exchange;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, exchange: Exchange, next: N) -> Response<Body> {
        let path = exchange.request.uri().path();
        let is_api = path == "/v2" || path.starts_with("/v2/");
        let is_page = exchange
            .request
            .headers()
            .get(API_CLIENT)
            .is_some_and(|client| client == "zot-ui");
        let mut response = next.go(exchange).await;
        if !is_api {
            return response;
        }
        let headers = response.headers_mut();
        if is_page {
            headers.remove(header::WWW_AUTHENTICATE);
        }
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        let location = headers.get(header::LOCATION).and_then(|path| path.to_str().ok());
        // What leads to the store is a URL already.
        let location = location.filter(|path| path.starts_with('/'));
        if let (Some(external_url), Some(path)) = (&self.external_url, location)
            && let Ok(absolute) = HeaderValue::try_from(format!("{external_url}{path}"))
        {
            headers.insert(header::LOCATION, absolute);
        }
        response
    }
}

/// A response to HEAD has the head of the response to GET, and no body. (hyper sees to it on HTTP/1 only.)
///
/// hyper drops a body that it won't send. One that comes from another member is read to its end here, where nothing is
/// to be read but the end: a stream that is dropped before would be reset, and resets are counted against the
/// connection.
#[derive(Clone)]
pub(super) struct Bodiless;

/// How long an end may take that comes right behind its head.
const END_WITHIN: Duration = Duration::from_secs(5);

impl Step for Bodiless {
    type In = Exchange;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, exchange: Exchange, next: N) -> Response<Body> {
        let is_head = exchange.request.method() == Method::HEAD;
        let mut response = next.go(exchange).await;
        if response.body().is_end_stream() || !(is_head || is_empty(&response)) {
            return response;
        }
        if let (true, Some(length)) = (
            is_head && !has_none(&response),
            response.body().size_hint().exact(),
        ) {
            response
                .headers_mut()
                .entry(header::CONTENT_LENGTH)
                .or_insert(HeaderValue::from(length));
        }
        let (parts, mut body) = response.into_parts();
        let end = async { while let Some(Ok(_)) = body.frame().await {} };
        // What isn't there can't be cut short: the answer is whole whatever comes of it.
        let _ = timeout(END_WITHIN, end).await;
        Response::from_parts(parts, admission::empty())
    }
}

/// Whether the head says that nothing follows.
fn is_empty(response: &Response<Body>) -> bool {
    has_none(response)
        || response
            .headers()
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length == "0")
}

/// Whether no response of this status has a body, so that none says its length.
fn has_none(response: &Response<Body>) -> bool {
    matches!(
        response.status(),
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    )
}

/// A panic answers 500 and leaves the connection, and on HTTP/2 everything else on it, alone.
#[derive(Clone)]
pub(super) struct Contain;

impl Step for Contain {
    type In = Exchange;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, exchange: Exchange, next: N) -> Response<Body> {
        let id = exchange.id.clone();
        let answered = AssertUnwindSafe(next.go(exchange)).catch_unwind().await;
        answered.unwrap_or_else(|_| {
            // The panic hook has written the message and the place.
            tracing::error!(request_id = %id, "a request panicked");
            error::panicked().into_response(&id)
        })
    }
}
