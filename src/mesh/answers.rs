//! The two sides of a stream as the owner has them: the frames of the request, and those of the response.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::Stream;
use hyper::body::Incoming;
use tokio::{sync::mpsc, time::timeout};
use tonic::Status;

use super::{
    pb::{self, response::Kind},
    wire::{Item, Reader},
};

/// The frames of a request.
pub(super) type Requests = Reader<Incoming, pb::Request>;

/// Frames that leave together.
type Batch = Vec<Item<pb::Response>>;

/// The response's side of a stream: frames gather until they are flushed, and a front that doesn't take them is given
/// up.
#[derive(Debug)]
pub(super) struct Answers {
    sender: mpsc::Sender<Batch>,
    batch: Batch,
    stall: Duration,
}

/// The front is gone, or takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Answers {
    pub(super) fn new(stall: Duration) -> (Self, Batches) {
        let (sender, receiver) = mpsc::channel(1);
        (
            Self {
                sender,
                batch: Vec::new(),
                stall,
            },
            Batches {
                receiver,
                ready: VecDeque::new(),
            },
        )
    }

    /// Where they go: closed when the front has given the stream up.
    pub(super) fn sender(&self) -> mpsc::Sender<Batch> {
        self.sender.clone()
    }

    /// Adds a frame.
    pub(super) fn push(&mut self, kind: Kind) {
        self.batch.push(Item::Message(pb::Response { kind: Some(kind) }));
    }

    /// Hands over what has gathered, once there is room for it.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        match timeout(self.stall, self.sender.send(batch)).await {
            Ok(sent) => sent.map_err(|_| Gone),
            Err(_) => Err(Gone),
        }
    }

    /// Whether the front gave the stream up.
    pub(super) fn is_abandoned(&self) -> bool {
        self.sender.is_closed()
    }

    /// Hands over the last frames; it no longer matters whether they arrive.
    pub(super) async fn last(&mut self) {
        let _ = self.flush().await;
    }

    pub(super) async fn refuse(mut self, status: Status) {
        self.batch.push(Item::Status(status));
        self.last().await;
    }
}

/// The frames of [`Answers`], for the connection.
#[derive(Debug)]
pub(super) struct Batches {
    receiver: mpsc::Receiver<Batch>,
    ready: VecDeque<Item<pb::Response>>,
}

impl Stream for Batches {
    type Item = Result<Item<pb::Response>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(item)));
            }
            match ready!(self.receiver.poll_recv(cx)) {
                Some(batch) => self.ready = batch.into(),
                None => return Poll::Ready(None),
            }
        }
    }
}
