//! What a failed request means: the one table from the SDK's errors and DynamoDB's to what can be done about them.
//!
//! The question that matters for a write is whether it may have had an effect. It can't have had one if it was never
//! sent, or if DynamoDB says why it refused it. Whatever else went wrong after the first byte left us, an answer that is
//! late, cut off or a fault of the server, leaves it open.

use std::error::Error;

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    types::CancellationReason,
};

use crate::storage::{StoreError, StoreErrorKind};

/// A request that failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) class: Class,
    source: Box<dyn Error + Send + Sync>,
}

/// What there is to know about a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It didn't leave this machine: nobody listens, or there are no credentials.
    Unsent,
    /// Refused: too many requests.
    Throttled,
    /// Refused: a transaction is at work on one of the items.
    Conflict,
    /// Refused: the same transaction, sent before, is still at work.
    InProgress,
    /// It may have had its effect, or may have it yet.
    Unsure,
    /// It was answered as if all were well, by what can't be understood: it may have had its effect.
    Garbled,
    /// Refused: no right, or credentials that don't count.
    Denied,
    /// Refused: there is no such table.
    Missing,
    /// Refused: there is such a table, or it is being made or deleted.
    Exists,
    /// Refused: the server doesn't know such a request.
    Unsupported,
    /// Refused as wrong: a mistake of ours.
    Misuse,
    /// Refused for a reason that this release doesn't know.
    Refused,
}

/// Whether a request has left this machine, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    No,
    Perhaps,
}

impl Fault {
    pub(super) fn new(class: Class, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            class,
            source: source.into(),
        }
    }

    /// Of a request that may be repeated, so that it doesn't matter whether it has left.
    pub(super) fn of_read<E>(error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        Self::of(error, Left::Perhaps)
    }

    pub(super) fn of<E>(error: SdkError<E>, left: Left) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let class = match &error {
            SdkError::ConstructionFailure(_) => Class::Misuse,
            SdkError::ServiceError(answer) if answer.raw().status().is_success() => Class::Garbled,
            SdkError::ServiceError(answer) => {
                let status = answer.raw().status().as_u16();
                answer
                    .err()
                    .code()
                    .map_or(by_status(status), |code| by_code(code, status))
            }
            SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) if left == Left::No => Class::Unsent,
            SdkError::DispatchFailure(_) if is_of_connecting(&error) => Class::Unsent,
            // An answer that is late or cut off; and what later releases of the SDK may think of.
            _ => Class::Unsure,
        };
        Self::new(class, chain(&error))
    }

    /// Of a transaction that was cancelled for this reason, which had no effect.
    pub(super) fn cancelled(reason: Option<&CancellationReason>) -> Self {
        let Some(reason) = reason else {
            return Self::new(
                Class::Refused,
                "the transaction was cancelled for no reason given",
            );
        };
        let code = reason.code().unwrap_or_default();
        let message = reason.message().unwrap_or_default();
        // The status of a cancelled transaction.
        let class = by_code(code, 400);
        Self::new(class, format!("the transaction was cancelled: {code} {message}"))
    }

    pub(super) fn into_store_error(self, operation: &'static str) -> StoreError {
        let kind = match self.class {
            Class::Unsent | Class::Unsure | Class::Missing | Class::Exists | Class::Refused => {
                StoreErrorKind::Unavailable
            }
            Class::Throttled => StoreErrorKind::Throttled,
            Class::Conflict | Class::InProgress => StoreErrorKind::Contended,
            Class::Denied => StoreErrorKind::Denied,
            Class::Garbled | Class::Unsupported => StoreErrorKind::Unsupported,
            Class::Misuse => StoreErrorKind::Misuse,
        };
        StoreError::with_source(kind, operation, self.source)
    }
}

/// Whether it is a reason: there is one for each operation of a cancelled transaction, those that harmed nobody too.
pub(super) fn is_named(reason: &CancellationReason) -> bool {
    reason.code().is_some_and(|code| code != "None")
}

/// The causes as one text, without the answer's bytes, which the SDK's own rendering shows.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Whether connecting failed. Nothing of a request is sent before that is done.
fn is_of_connecting(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source())
        .filter_map(|error| error.downcast_ref::<hyper_util::client::legacy::Error>())
        .any(hyper_util::client::legacy::Error::is_connect)
}

/// By the names that DynamoDB gives its errors, alone or as reasons of a cancelled transaction.
fn by_code(code: &str, status: u16) -> Class {
    match code {
        "ProvisionedThroughputExceededException"
        | "ProvisionedThroughputExceeded"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "ThrottlingException"
        | "ThrottlingError"
        | "Throttling"
        | "TooManyRequestsException"
        | "SlowDown" => Class::Throttled,
        "TransactionConflictException" | "TransactionConflict" | "ReplicatedWriteConflictException" => {
            Class::Conflict
        }
        "TransactionInProgressException" => Class::InProgress,
        "AccessDeniedException"
        | "AccessDenied"
        | "ExpiredTokenException"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "OptInRequired"
        | "UnrecognizedClientException" => Class::Denied,
        "ResourceNotFoundException" => Class::Missing,
        "ResourceInUseException" => Class::Exists,
        "UnknownOperationException" | "NotImplemented" | "NotImplementedException" => Class::Unsupported,
        "DuplicateItem"
        | "IdempotentParameterMismatchException"
        | "ItemCollectionSizeLimitExceeded"
        | "ItemCollectionSizeLimitExceededException"
        | "SerializationException"
        | "ValidationError"
        | "ValidationException" => Class::Misuse,
        _ => by_status(status),
    }
}

/// By HTTP's status, which may be that of a proxy between DynamoDB and us.
fn by_status(status: u16) -> Class {
    match status {
        429 => Class::Throttled,
        401 | 403 => Class::Denied,
        408 => Class::Unsure,
        405 | 501 => Class::Unsupported,
        400..=499 => Class::Refused,
        _ => Class::Unsure,
    }
}
