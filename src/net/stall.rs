//! A body whose source makes no progress for too long is aborted.
//!
//! The clock runs only while someone asks for the next piece and there is none. A *reader* that stops asking is seen
//! elsewhere: by the connection's write time-out ([`IoSettings::write_stall`](super::IoSettings)) and, between members,
//! by the replay, which counts the time a piece waits to be taken.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::admission::BodyError;

/// A timer that runs while someone waits and starts anew with every progress.
#[derive(Debug)]
pub struct Patience {
    duration: Duration,
    // Made when someone first waits; most never do.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl Patience {
    /// One that is over after `duration` without progress.
    #[must_use]
    pub fn new(duration: Duration) -> Self {
        Self {
            duration,
            timer: None,
            is_waiting: false,
        }
    }

    /// There was progress: nobody waits.
    pub fn progressed(&mut self) {
        self.is_waiting = false;
    }

    /// Someone waits; ready when they have waited too long.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.duration)));
        if !self.is_waiting {
            self.is_waiting = true;
            timer.as_mut().reset(Instant::now() + self.duration);
        }
        timer.as_mut().poll(cx)
    }

    /// How long it lasts.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }
}

pin_project_lite::pin_project! {
    /// See [`abort_when_stalled`].
    #[derive(Debug)]
    pub struct Stalling<B> {
        #[pin]
        body: B,
        patience: Patience,
        is_over: bool,
    }
}

/// Makes `body` end with [`BodyError::Stalled`] when it has nothing to give for `patience`.
pub fn abort_when_stalled<B>(body: B, patience: Duration) -> Stalling<B> {
    Stalling {
        body,
        patience: Patience::new(patience),
        is_over: false,
    }
}

impl<B: Body<Error = BodyError>> Body for Stalling<B> {
    type Data = B::Data;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        if *this.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            this.patience.progressed();
            *this.is_over = !matches!(frame, Some(Ok(_)));
            return Poll::Ready(frame);
        }
        this.patience.poll_over(cx).map(|()| {
            *this.is_over = true;
            Some(Err(BodyError::Stalled(this.patience.duration())))
        })
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
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn slow_is_fine_and_stalled_is_not() {
        let slow = tokio_stream::iter(0..5).then(async |_| {
            sleep(Duration::from_secs(40)).await;
            Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x")))
        });
        let stalled = slow.chain(futures_util::stream::pending());
        let mut body = Box::pin(abort_when_stalled(
            StreamBody::new(stalled),
            Duration::from_secs(60),
        ));
        for _ in 0..5 {
            assert!(body.frame().await.unwrap().is_ok());
        }
        let before = Instant::now();
        assert!(matches!(body.frame().await, Some(Err(BodyError::Stalled(_)))));
        assert_eq!(before.elapsed().as_secs(), 60);
        assert!(body.frame().await.is_none());
    }
}
