//! A body that comes too slowly ends when others wait for the permit that it holds.
//!
//! Silence has a bound of its own ([`abort_when_stalled`](super::abort_when_stalled)); who sends a byte now and then keeps
//! to that for ever. Deliberately absent: any bound while nobody waits. Then a slow body is no harm.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::Manners;
use crate::admission::{BodyError, Pace, Went};

/// Makes `body` end with [`BodyError::Slow`] when it comes more slowly than `pace` and somebody with fewer permits waits
/// for one.
pub fn give_way_when_slow<B>(body: B, pace: Pace, manners: Manners) -> Paced<B> {
    Paced {
        body,
        pace,
        manners,
        waits: None,
        is_over: false,
    }
}

pin_project_lite::pin_project! {
    /// See [`give_way_when_slow`].
    #[derive(Debug)]
    pub struct Paced<B> {
        #[pin]
        body: B,
        pace: Pace,
        manners: Manners,
        // Since when, and until when the window lasts.
        waits: Option<(Instant, Pin<Box<Sleep>>)>,
        is_over: bool,
    }
}

impl<B: Body<Data = Bytes, Error = BodyError>> Body for Paced<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.project();
        if *this.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            if let Some((since, _)) = this.waits.take() {
                this.pace.waited(since.elapsed());
            }
            if let Some(Ok(frame)) = &frame {
                this.pace.came(frame.data_ref().map_or(0, Bytes::len));
            }
            return Poll::Ready(frame);
        }
        loop {
            let left = this.pace.left();
            let (since, over) = this
                .waits
                .get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
            ready!(over.as_mut().poll(cx));
            this.pace.waited(since.elapsed());
            *this.waits = None;
            if this.pace.judge() == Some(Went::Slowly) && this.manners.should_give_way() {
                *this.is_over = true;
                return Poll::Ready(Some(Err(BodyError::Slow)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::net::{Caller, Purpose, Shares, Supply};

    fn clients() -> Vec<Caller> {
        let client = |n: u8| Caller::of(None, Some(([10, 0, 0, n], 1).into()));
        (0..=255).map(client).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_crawling_body_goes_on_for_ever_until_somebody_waits() {
        let clients = clients();
        let shares = Shares::new(Supply { all: 4, uploads: 1 });
        let permit = shares.try_take(&clients[1], Purpose::Upload).unwrap();
        let crawling = tokio_stream::iter(0..1000).then(async |_| {
            tokio::time::sleep(Duration::from_secs(3)).await;
            Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x")))
        });
        let pace = Pace::new(1000, Duration::from_secs(5));
        let mut body = Box::pin(give_way_when_slow(
            StreamBody::new(crawling),
            pace,
            permit.manners(),
        ));
        for _ in 0..100 {
            assert!(body.frame().await.unwrap().is_ok(), "nobody waits");
        }
        let waiting = shares.take(&clients[2], Purpose::Upload);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        let before = Instant::now();
        let error = loop {
            match body.frame().await.unwrap() {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, BodyError::Slow), "{error}");
        assert!(before.elapsed() <= Duration::from_secs(10));
        assert!(body.frame().await.is_none());
        drop(permit);
        drop(waiting.await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_fast_enough_or_that_nobody_reads_stays() {
        let clients = clients();
        let shares = Shares::new(Supply { all: 4, uploads: 1 });
        let permit = shares.try_take(&clients[1], Purpose::Upload).unwrap();
        let waiting = shares.take(&clients[2], Purpose::Upload);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        let steady = tokio_stream::iter(0..100).then(async |_| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, BodyError>(Frame::data(Bytes::from_static(&[0; 1000])))
        });
        let pace = Pace::new(1000, Duration::from_secs(5));
        let mut body = Box::pin(give_way_when_slow(
            StreamBody::new(steady),
            pace,
            permit.manners(),
        ));
        while let Some(frame) = body.frame().await {
            assert!(frame.is_ok());
            tokio::time::sleep(Duration::from_secs(7)).await;
        }
    }
}
