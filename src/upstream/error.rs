//! Why another registry didn't give what it was asked for.

use std::{io, time::Duration};

use http::StatusCode;

use crate::{oci::Digest, outbound::OutboundError};

/// Why another registry didn't give what it was asked for. What it said is never repeated but for what is a type of ours.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// It doesn't have it.
    #[error("the upstream registry doesn't have it")]
    NotFound,
    /// It has been asked too often.
    #[error("the upstream registry limits requests")]
    Limited {
        /// When it may be asked again, as it says.
        retry_after: Option<Duration>,
    },
    /// It wants a login, or another one.
    #[error("the upstream registry denies access ({0}): look at credentialsFile")]
    Denied(StatusCode),
    /// Any other status.
    #[error("the upstream registry answered {0}")]
    Status(StatusCode),
    /// It refused what was pushed.
    #[error("the registry refuses it ({status}): {message}")]
    Refused {
        /// With this status.
        status: StatusCode,
        /// In its words, without control characters.
        message: String,
    },
    /// What is to be pushed can't be read.
    #[error("it can't be read")]
    Source(#[source] io::Error),
    /// It wants its login to be shown to a stranger.
    #[error(
        "the upstream registry sends for a token to {0}, which gets no login of ours: if that is right, name it in \
         extensions.sync.registries[].realmHosts"
    )]
    Realm(String),
    /// It leads in circles, or where one mustn't go.
    #[error("the upstream registry redirects {0}")]
    Redirect(&'static str),
    /// It answers as no registry does.
    #[error("the upstream registry sent {0}")]
    Nonsense(&'static str),
    /// The content isn't what its digest says.
    #[error("the upstream registry sent content with the digest {actual}, not {expected}")]
    Digest {
        /// As it was asked for, or as a header said.
        expected: Digest,
        /// Of what came.
        actual: Digest,
    },
    /// The blob is of another length than before.
    #[error("the upstream registry sent a blob of {now} bytes that had {before}")]
    Length {
        /// As the first answer said.
        before: u64,
        /// As a later one says.
        now: u64,
    },
    /// It took too long in all.
    #[error("the upstream registry didn't answer in time")]
    Late,
    /// There is no answer, or no more of it.
    #[error("the upstream registry can't be read")]
    Outbound(#[from] OutboundError),
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// It is the answer.
    GiveUp,
    /// Ask the next address.
    Next,
    /// Ask the same one again, then the next.
    Again,
}

impl OutboundError {
    /// Whether asking again gives the same.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Address(_) | Self::Private(_) | Self::TooLong(_) => true,
            Self::Failed(_) | Self::Late(_) | Self::Body(_) | Self::Stalled(_) => false,
        }
    }
}

impl UpstreamError {
    /// What a status other than success means.
    pub(super) fn of(status: StatusCode, retry_after: Option<Duration>) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::TOO_MANY_REQUESTS => Self::Limited { retry_after },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Denied(status),
            status => Self::Status(status),
        }
    }

    pub(super) fn course(&self) -> Course {
        match self {
            Self::NotFound
            | Self::Digest { .. }
            | Self::Length { .. }
            | Self::Late
            | Self::Refused { .. }
            | Self::Source(_) => Course::GiveUp,
            Self::Denied(_) | Self::Realm(_) | Self::Redirect(_) | Self::Nonsense(_) => Course::Next,
            Self::Limited { .. } => Course::Again,
            Self::Status(status) if status.is_server_error() => Course::Again,
            Self::Status(_) => Course::Next,
            Self::Outbound(error) if error.is_final() => Course::Next,
            Self::Outbound(_) => Course::Again,
        }
    }

    /// Whether what it was asked for is nothing that it knows.
    pub(super) fn is_unknown_to_it(&self) -> bool {
        matches!(self, Self::NotFound) || matches!(self, Self::Status(status) if status.is_client_error())
    }

    /// Whether what else is asked of it would fail, too.
    pub fn is_everywhere(&self) -> bool {
        match self {
            Self::Limited { .. } | Self::Outbound(OutboundError::Failed(_)) => true,
            Self::Status(status) => status.is_server_error(),
            Self::NotFound
            | Self::Denied(_)
            | Self::Realm(_)
            | Self::Redirect(_)
            | Self::Nonsense(_)
            | Self::Digest { .. }
            | Self::Length { .. }
            | Self::Late
            | Self::Refused { .. }
            | Self::Source(_)
            | Self::Outbound(_) => false,
        }
    }

    /// The status that it answered with, where that is the reason.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::NotFound => Some(StatusCode::NOT_FOUND),
            Self::Limited { .. } => Some(StatusCode::TOO_MANY_REQUESTS),
            Self::Denied(status) | Self::Status(status) | Self::Refused { status, .. } => Some(*status),
            Self::Source(_)
            | Self::Realm(_)
            | Self::Redirect(_)
            | Self::Nonsense(_)
            | Self::Digest { .. }
            | Self::Length { .. }
            | Self::Late
            | Self::Outbound(_) => None,
        }
    }

    /// Whether the reason is what it was asked about: it would take, or give, something else.
    pub fn is_of_this(&self) -> bool {
        match self {
            Self::NotFound
            | Self::Denied(_)
            | Self::Digest { .. }
            | Self::Length { .. }
            | Self::Refused { .. }
            | Self::Source(_) => true,
            Self::Status(status) => status.is_client_error(),
            Self::Limited { .. }
            | Self::Realm(_)
            | Self::Redirect(_)
            | Self::Nonsense(_)
            | Self::Late
            | Self::Outbound(_) => false,
        }
    }

    /// For metrics: out of a fixed set.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::NotFound => "absent",
            Self::Limited { .. } => "limited",
            Self::Denied(_) | Self::Realm(_) => "denied",
            Self::Late => "late",
            Self::Refused { .. } => "refused",
            Self::Status(_)
            | Self::Redirect(_)
            | Self::Nonsense(_)
            | Self::Digest { .. }
            | Self::Length { .. }
            | Self::Source(_)
            | Self::Outbound(_) => "failed",
        }
    }
}
