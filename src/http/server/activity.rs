//! What goes on on one connection, and how long that may take: its first request, a head, a client that takes nothing of
//! its answers, nothing at all.
//!
//! hyper bounds a head and the wait for it together, and only on HTTP/1; but a balancer keeps a connection for ten minutes,
//! and nobody needs that long for a head. So it is all done here, for both versions, and hyper is told no bound.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{future::BoxFuture, task::AtomicWaker};
use http::{Response, Version};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep, sleep};

use crate::config::limits::ServerLimits;
use crate::{
    admission::{Body, BodyError},
    net::{Received, Slot},
};

/// The requests of one connection. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    // All that ever came, and whether they were of HTTP/2.
    begun: AtomicU64,
    has_streams: AtomicBool,
    // Under way: from the head to the end of the answer's body.
    requests: AtomicUsize,
    // Of these, those whose next step is the client's: it has to take what is there.
    answered: AtomicUsize,
    // Pieces of answers that were taken.
    taken: AtomicU64,
    // The connection's own task.
    waker: AtomicWaker,
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    shared: Arc<Shared>,
    is_answered: bool,
}

impl Activity {
    /// A request has come.
    pub(super) fn begin(&self, version: Version) -> UnderWay {
        let shared = self.0.clone();
        shared.begun.fetch_add(1, Ordering::Relaxed);
        shared
            .has_streams
            .store(version >= Version::HTTP_2, Ordering::Relaxed);
        shared.requests.fetch_add(1, Ordering::Relaxed);
        UnderWay {
            shared,
            is_answered: false,
        }
    }

    /// Whether HTTP/2 is spoken, as far as that is known.
    pub(super) fn has_streams(&self) -> bool {
        self.0.has_streams.load(Ordering::Relaxed)
    }

    /// Whether none is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.0.requests.load(Ordering::Relaxed) == 0
    }
}

impl UnderWay {
    /// The request is under way until its answer's body is at its end, or dropped.
    pub(super) fn answer(mut self, response: Response<Body>) -> Response<Body> {
        self.turn(true);
        self.shared.waker.wake();
        response.map(|body| {
            let body = Answering { body, request: self };
            body.boxed_unsync()
        })
    }

    fn turn(&mut self, is_clients: bool) {
        match (self.is_answered, is_clients) {
            (false, true) => self.shared.answered.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.shared.answered.fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => return,
        };
        self.is_answered = is_clients;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.turn(false);
        self.shared.requests.fetch_sub(1, Ordering::Relaxed);
        self.shared.waker.wake();
    }
}

struct Answering {
    body: Body,
    request: UnderWay,
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.request.turn(false);
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.request.shared.taken.fetch_add(1, Ordering::Relaxed);
        self.request.turn(true);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// No request came, or only the beginning of one, or nobody takes the answers: nothing is lost with it.
    Dead,
    /// It has idled for long, or others need its place.
    Idle,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    FirstRequest,
    // Of which one: so many came before.
    RestOfAHead(u64),
    AnyRequest(u64),
    Us,
    ClientToTake(u64),
}

/// Sees to it that a connection waits for nothing too long. To be polled whenever the connection has been.
pub(super) struct Watch {
    activity: Activity,
    received: Received,
    limits: ServerLimits,
    stall: Duration,
    waits: Waits,
    timer: Pin<Box<Sleep>>,
    idling: Option<Idling>,
}

/// While a connection idles.
struct Idling {
    // So many bytes had come before.
    before: u64,
    its_place_is_wanted: BoxFuture<'static, ()>,
}

impl Watch {
    pub(super) fn new(activity: Activity, received: Received, limits: ServerLimits, stall: Duration) -> Self {
        Self {
            activity,
            received,
            limits,
            stall,
            waits: Waits::FirstRequest,
            timer: Box::pin(sleep(limits.head_timeout)),
            idling: None,
        }
    }

    /// Comes when the connection, whose place is `slot`, is to end.
    pub(super) async fn over(&mut self, slot: &Slot) -> Over {
        std::future::poll_fn(|cx| self.poll_over(slot, cx)).await
    }

    fn poll_over(&mut self, slot: &Slot, cx: &mut Context<'_>) -> Poll<Over> {
        self.activity.0.waker.register(cx.waker());
        let waits = self.waits();
        if waits != self.waits {
            self.waits = waits;
            if let Some(patience) = self.patience() {
                self.timer.as_mut().reset(Instant::now() + patience);
            }
            // The former one goes first: it was idle for longer.
            self.idling = None;
            if let Waits::AnyRequest(_) = waits {
                let rest = slot.rest();
                self.idling = Some(Idling {
                    before: self.received.bytes(),
                    its_place_is_wanted: Box::pin(async move { rest.is_over().await }),
                });
            }
        }
        if let Some(idling) = &mut self.idling
            && idling.its_place_is_wanted.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Over::Idle);
        }
        if self.patience().is_none() {
            return Poll::Pending;
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(match self.waits {
            Waits::AnyRequest(_) => Over::Idle,
            Waits::FirstRequest | Waits::RestOfAHead(_) | Waits::Us | Waits::ClientToTake(_) => Over::Dead,
        })
    }

    fn waits(&self) -> Waits {
        let Shared {
            begun,
            requests,
            answered,
            taken,
            ..
        } = &*self.activity.0;
        let requests = requests.load(Ordering::Relaxed);
        if requests > 0 {
            return match answered.load(Ordering::Relaxed) == requests {
                true => Waits::ClientToTake(taken.load(Ordering::Relaxed)),
                false => Waits::Us,
            };
        }
        let begun = begun.load(Ordering::Relaxed);
        if begun == 0 {
            return Waits::FirstRequest;
        }
        // A whole request may have come and gone since the last look.
        let has_more = match (self.waits, &self.idling) {
            (Waits::AnyRequest(before), Some(idling)) if before == begun => {
                self.received.bytes() > idling.before
            }
            (waits, _) => waits == Waits::RestOfAHead(begun),
        };
        // Bytes of HTTP/2 may be anything.
        match has_more && !self.activity.has_streams() {
            true => Waits::RestOfAHead(begun),
            false => Waits::AnyRequest(begun),
        }
    }

    fn patience(&self) -> Option<Duration> {
        match self.waits {
            Waits::FirstRequest | Waits::RestOfAHead(_) => Some(self.limits.head_timeout),
            Waits::AnyRequest(_) => Some(self.limits.idle_timeout),
            Waits::ClientToTake(_) => Some(self.stall),
            Waits::Us => None,
        }
    }
}
