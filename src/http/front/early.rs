//! What HTTP wants of a server that answers early, in part, or in a panic.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, Response, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::{
    Exchange,
    step::{Next, Step},
};
use crate::{
    admission::{self, Body, BodyError},
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

/// On HTTP/1 a server that answers before it has read the body has to close the connection, and closing with bytes
/// unread resets it: a client that is still writing may never see the answer. So what nobody wanted of a body is read
/// first, up to a bound.
///
/// A client that waits for `100 Continue` hasn't sent anything and doesn't have to: reading is what tells it to go on,
/// so such a body is left alone unless someone began to read it.
#[derive(Clone)]
pub(super) struct Leftovers {
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

impl Step for Leftovers {
    type In = Exchange;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, mut exchange: Exchange, next: N) -> Response<Body> {
        let request = &exchange.request;
        if request.body().is_end_stream() || request.version() > Version::HTTP_11 {
            return next.go(exchange).await;
        }
        let waits = waits_for_continue(request.headers());
        let returned = Arc::new(Mutex::new(None));
        let lend = |body| Lent {
            body: Some(body),
            is_begun: false,
            owner: returned.clone(),
        };
        exchange.request = exchange.request.map(|body| lend(body).boxed_unsync());
        let response = next.go(exchange).await;
        let leftover = returned.lock().take();
        if let Some(leftover) = leftover
            && (leftover.is_begun || !waits)
        {
            self.read(leftover.body).await;
        }
        response
    }
}

impl Leftovers {
    async fn read(&self, mut body: Body) {
        let read = async {
            let mut left = self.bytes;
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                left = left.saturating_sub(length);
                if left == 0 {
                    break;
                }
            }
        };
        // What didn't come in time stays unread.
        let _ = timeout(self.time, read).await;
    }
}

fn waits_for_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// A body that comes back when it is dropped before its end.
struct Lent {
    body: Option<Body>,
    is_begun: bool,
    owner: Arc<Mutex<Option<Leftover>>>,
}

struct Leftover {
    body: Body,
    is_begun: bool,
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.is_begun = true;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && !body.is_end_stream()
        {
            *self.owner.lock() = Some(Leftover {
                body,
                is_begun: self.is_begun,
            });
        }
    }
}
