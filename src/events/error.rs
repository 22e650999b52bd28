//! What goes wrong with sinks.

use std::{io, path::PathBuf, time::Duration};

use http::StatusCode;

use crate::outbound::{OutboundError, TrustError};

/// A sink can't be told of anything, as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Its certificates.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Its credentials.
    #[error("{} has no login for NATS", path.display())]
    Login {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why an event wasn't taken, as far as one knows.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untold {
    /// The sink takes everything else, as far as one can tell.
    #[error("the event was refused with {0}")]
    Refused(StatusCode),
    /// The sink takes none for now.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// There was no answer.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// Nor on NATS.
    #[error(transparent)]
    Nats(#[from] NatsError),
}

/// Why a message wasn't taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum NatsError {
    /// No connection, or it broke.
    #[error("no connection to NATS")]
    Socket(#[from] io::Error),
    /// In time.
    #[error("NATS didn't answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// It speaks something else.
    #[error("NATS said what isn't its protocol: {0}")]
    Protocol(String),
    /// It said no.
    #[error("NATS said: {0}")]
    Server(String),
    /// The stream of the subject didn't keep it.
    #[error("the stream didn't keep it: {0}")]
    Stream(String),
}
