//! What HTTP wants of a server that answers in part, or in a panic.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use http::{HeaderValue, Method, Response, header};
use http_body::Body as _;

use super::{
    Exchange,
    step::{Next, Step},
};
use crate::{
    admission::{self, Body},
    http::error,
};

/// A response to HEAD has the head of the response to GET, and no body. (hyper sees to it on HTTP/1 only.)
#[derive(Clone)]
pub(super) struct Bodiless;

impl Step for Bodiless {
    type In = Exchange;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, exchange: Exchange, next: N) -> Response<Body> {
        let is_head = exchange.request.method() == Method::HEAD;
        let mut response = next.go(exchange).await;
        if !is_head || response.body().is_end_stream() {
            return response;
        }
        if let Some(length) = response.body().size_hint().exact() {
            response
                .headers_mut()
                .entry(header::CONTENT_LENGTH)
                .or_insert(HeaderValue::from(length));
        }
        response.map(|_| admission::empty())
    }
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
