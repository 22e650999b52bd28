//! Whether a request's body was read to its end.
//!
//! On HTTP/1 an answer that comes before has to say `Connection: close`: what is left of the body stands in the way of
//! the next request, so the connection ends, and a client that isn't told would send its next request into that.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::admission::{Body, BodyError};

/// What was seen of one request's body.
pub(super) struct Unread {
    is_at_end: Option<Arc<AtomicBool>>,
}

impl Unread {
    /// Watches the body of `request`, if what is left of it would matter.
    pub(super) fn watch(request: Request<Body>) -> (Request<Body>, Self) {
        if request.version() > Version::HTTP_11 || request.body().is_end_stream() {
            return (request, Self { is_at_end: None });
        }
        let is_at_end = Arc::new(AtomicBool::new(false));
        let seen = is_at_end.clone();
        let request = request.map(|body| {
            Watched {
                body,
                is_at_end: seen,
            }
            .boxed_unsync()
        });
        (
            request,
            Self {
                is_at_end: Some(is_at_end),
            },
        )
    }

    /// Says in the answer's head what becomes of the connection.
    pub(super) fn tell(self, mut response: Response<Body>) -> Response<Body> {
        let is_left = |is_at_end: Arc<AtomicBool>| !is_at_end.load(Ordering::Relaxed);
        if self.is_at_end.is_some_and(is_left) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}

struct Watched {
    body: Body,
    is_at_end: Arc<AtomicBool>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        // Where the length is known, nobody asks for more after the last byte.
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.is_at_end.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
