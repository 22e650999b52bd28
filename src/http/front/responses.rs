//! Responses as HTTP wants them: none to HEAD has a body, and a panic has an answer, too.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::{
    Exchange,
    step::{Next, Step},
};
use crate::{
    admission::{self, Body},
    http::error,
};

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
