//! A permit lives as long as the body it admits.
//!
//! Deliberately absent: the pools. Front and replay each own theirs.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};

pin_project_lite::pin_project! {
    /// A body that holds a guard (an [`OwnedSemaphorePermit`](tokio::sync::OwnedSemaphorePermit), an entry in a
    /// register) until it ends, fails or is dropped.
    #[derive(Debug)]
    pub struct Held<B, G> {
        #[pin]
        body: B,
        guard: Option<G>,
    }
}

/// Makes `body` hold `guard` until it ends, fails or is dropped.
pub fn hold<B, G>(body: B, guard: G) -> Held<B, G> {
    Held {
        body,
        guard: Some(guard),
    }
}

impl<B: Body, G> Body for Held<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let polled = ready!(this.body.poll_frame(cx));
        if !matches!(polled, Some(Ok(_))) {
            *this.guard = None;
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::admission::full;

    #[tokio::test]
    async fn the_permit_comes_back_with_the_end_of_the_body_or_its_drop() {
        let pool = Arc::new(Semaphore::new(1));
        let held = || hold(full("abc".into()), pool.clone().try_acquire_owned().unwrap());

        let mut body = held();
        assert_eq!(pool.available_permits(), 0);
        assert!(body.frame().await.is_some());
        assert_eq!(pool.available_permits(), 0, "the end wasn't seen yet");
        assert!(body.frame().await.is_none());
        assert_eq!(pool.available_permits(), 1);
        drop(body);

        drop(held());
        assert_eq!(pool.available_permits(), 1);
    }
}
