//! Who is told, and what they say to it.

use std::time::Duration;

use super::{
    error::{SinkError, Untold},
    event::CloudEvent,
    nats::{self, Nats},
    webhook::Webhook,
};
use crate::config::{EventSink, SinkKind};

/// Somebody who is told.
#[derive(Debug)]
pub(super) enum Sink {
    Http(Box<Webhook>),
    Nats(Nats),
}

/// One way to a sink, on which events go one after the other.
#[derive(Debug, Default)]
pub(super) struct Line {
    nats: Option<nats::Connection>,
}

impl Sink {
    pub(super) fn new(config: &EventSink, connect: Duration) -> Result<Self, SinkError> {
        Ok(match config.kind {
            SinkKind::Http => Self::Http(Box::new(Webhook::new(config, connect)?)),
            SinkKind::Nats => Self::Nats(Nats::new(config)?),
        })
    }

    /// Tells of an event: it was taken, if this is no error. Else it may have been.
    pub(super) async fn tell(&self, line: &mut Line, event: &CloudEvent) -> Result<(), Untold> {
        match self {
            Self::Http(webhook) => webhook.tell(event).await,
            Self::Nats(nats) => Ok(nats.tell(&mut line.nats, event).await?),
        }
    }
}
