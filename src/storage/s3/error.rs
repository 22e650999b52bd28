//! What an error of the SDK means to a caller of the store.

use std::{error::Error, fmt};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::{
    config::{
        http::HttpResponse,
        interceptors::InterceptorContext,
        retry::{ClassifyRetry, RetryAction},
    },
    error::{ProvideErrorMetadata, SdkError},
    operation::RequestId as _,
};

use crate::storage::{StoreError, StoreErrorKind};

/// Lets a 409 be tried again, as the SDK does a 5xx. No request of ours has a condition, so a server says by it that
/// something else is at work there at the moment: `OperationAborted`; versitygw so answers a write into a folder that is
/// just going away.
#[derive(Debug)]
pub(super) struct Conflicts;

impl ClassifyRetry for Conflicts {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match context.response().map(|response| response.status().as_u16()) {
            Some(409) => RetryAction::transient_error(),
            Some(_) | None => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "Conflicts"
    }
}

/// An error that S3 answered with, all of it that helps to find out why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// S3's name of the error; none in an answer to HEAD.
    pub(super) code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
    /// Why the SDK could make nothing of it.
    unread: Option<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3 answered {}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(unread) = &self.unread {
            write!(f, ", which can't be understood: {unread}")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (its request id: {id})")?;
        }
        Ok(())
    }
}

impl Error for Answer {}

/// A request that failed: what the store's caller is told, and S3's answer, if there was one.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: StoreError,
    pub(super) answer: Option<Answer>,
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

/// `operation` failed with `error`.
pub(super) fn failed<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> Failed
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match answer(&error) {
        Some(answer) => Failed {
            error: StoreError::with_source(kind(&answer), operation, answer.clone()),
            answer: Some(answer),
        },
        None => {
            let kind = match lacks_credentials(&error) {
                true => StoreErrorKind::Denied,
                // A request that can't be built is a setting that can't be, such as acceleration with path style.
                false if matches!(error, SdkError::ConstructionFailure(_)) => StoreErrorKind::Misuse,
                false => StoreErrorKind::Unavailable,
            };
            Failed {
                error: StoreError::with_source(kind, operation, error),
                answer: None,
            }
        }
    }
}

fn answer<E: ProvideErrorMetadata + Error>(error: &SdkError<E, HttpResponse>) -> Option<Answer> {
    let SdkError::ServiceError(context) = error else {
        return None;
    };
    let meta = context.err().meta();
    Some(Answer {
        status: context.raw().status().as_u16(),
        code: meta.code().map(str::to_owned),
        message: meta.message().map(str::to_owned),
        request_id: meta.request_id().map(str::to_owned),
        unread: meta.code().is_none().then(|| unread(context.err())).flatten(),
    })
}

/// What kept the SDK from reading an answer without a code: what lies below its own error.
fn unread(error: &dyn Error) -> Option<String> {
    let causes = std::iter::successors(error.source(), |&error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    (!causes.is_empty()).then(|| causes.join(": "))
}

/// Whether there was nothing to sign with.
fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|error| {
        match error.downcast_ref::<CredentialsError>() {
            Some(
                CredentialsError::CredentialsNotLoaded(_)
                | CredentialsError::InvalidConfiguration(_)
                | CredentialsError::ProviderError(_),
            ) => true,
            Some(_) | None => false,
        }
    })
}

/// By S3's name of the error, else by its status. Servers that aren't AWS have a few names of their own.
fn kind(answer: &Answer) -> StoreErrorKind {
    match answer.code.as_deref().unwrap_or_default() {
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "ServiceUnavailable"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded" => StoreErrorKind::Throttled,
        "NoSuchKey" | "NoSuchUpload" => StoreErrorKind::NotFound,
        // Nothing of ours was deleted: somebody has to look at it.
        "NoSuchBucket" => StoreErrorKind::Unavailable,
        "InvalidPart" | "InvalidPartOrder" => StoreErrorKind::InvalidPart,
        // A read beyond the object's end: the row says otherwise.
        "InvalidRange" => StoreErrorKind::Corrupt,
        "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" => StoreErrorKind::Full,
        // What arrived isn't what was sent, or not all of it: the connection's fault.
        "RequestTimeout"
        | "BadDigest"
        | "IncompleteBody"
        | "XAmzContentChecksumMismatch"
        | "OperationAborted"
        | "InternalError" => StoreErrorKind::Unavailable,
        "NotImplemented" | "MethodNotAllowed" => StoreErrorKind::Unsupported,
        // versitygw's 404 for an access key that it doesn't know.
        "XAdminUserNotFound" => StoreErrorKind::Denied,
        _ => by_status(answer.status),
    }
}

fn by_status(status: u16) -> StoreErrorKind {
    match status {
        // It says that all is well, and isn't what was asked for.
        200..=299 | 405 | 501 => StoreErrorKind::Unsupported,
        401 | 403 => StoreErrorKind::Denied,
        404 => StoreErrorKind::NotFound,
        408 | 409 => StoreErrorKind::Unavailable,
        416 => StoreErrorKind::Corrupt,
        429 | 503 => StoreErrorKind::Throttled,
        507 => StoreErrorKind::Full,
        400..=499 => StoreErrorKind::Misuse,
        _ => StoreErrorKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::{
        error::{ConnectorError, ErrorMetadata},
        operation::{get_object::GetObjectError, head_object::HeadObjectError},
        primitives::SdkBody,
    };

    use super::*;

    fn answered(status: u16, code: Option<&str>) -> Failed {
        let mut meta = ErrorMetadata::builder().message("because");
        if let Some(code) = code {
            meta = meta.code(code);
        }
        let error = GetObjectError::generic(meta.build());
        let response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        failed("get", SdkError::service_error(error, response))
    }

    #[test]
    fn answers_are_told_apart_by_name_then_by_status() {
        use StoreErrorKind::*;
        for (status, code, expected) in [
            (503, Some("SlowDown"), Throttled),
            (503, None, Throttled),
            (429, Some("TooManyRequests"), Throttled),
            (404, Some("NoSuchKey"), NotFound),
            (404, Some("NoSuchUpload"), NotFound),
            (404, None, NotFound),
            (404, Some("NoSuchBucket"), Unavailable),
            (400, Some("InvalidPart"), InvalidPart),
            (403, Some("AccessDenied"), Denied),
            (403, None, Denied),
            (400, Some("RequestTimeout"), Unavailable),
            (400, Some("EntityTooSmall"), Misuse),
            (416, Some("InvalidRange"), Corrupt),
            (500, Some("InternalError"), Unavailable),
            (502, None, Unavailable),
            (507, Some("XMinioStorageFull"), Full),
            (409, Some("OperationAborted"), Unavailable),
            (409, Some("ExistingObjectIsDirectory"), Unavailable),
            (501, Some("NotImplemented"), Unsupported),
            (501, None, Unsupported),
            (404, Some("XAdminUserNotFound"), Denied),
            (405, Some("MethodNotAllowed"), Unsupported),
            (200, None, Unsupported),
            (200, Some("InternalError"), Unavailable),
        ] {
            let failed = answered(status, code);
            assert_eq!(failed.error.kind(), expected, "{status} {code:?}");
        }
    }

    #[test]
    fn the_answer_is_kept_as_the_source() {
        let failed = answered(403, Some("AccessDenied"));
        let source = failed.error.source().unwrap().to_string();
        assert_eq!(source, "S3 answered 403 AccessDenied: because");
    }

    #[test]
    fn why_an_answer_could_not_be_read_is_kept() {
        let error = GetObjectError::unhandled("expected one root element, found another");
        let response = HttpResponse::new(200.try_into().unwrap(), SdkBody::empty());
        let failed = failed("get", SdkError::service_error(error, response));
        assert_eq!(failed.error.kind(), StoreErrorKind::Unsupported);
        let source = failed.error.source().unwrap().to_string();
        assert_eq!(
            source,
            "S3 answered 200, which can't be understood: expected one root element, found another"
        );
    }

    #[test]
    fn without_an_answer_the_store_is_unavailable_unless_nothing_could_be_signed() {
        let dispatch = |source: Box<dyn Error + Send + Sync>| {
            failed(
                "head",
                SdkError::<HeadObjectError, _>::dispatch_failure(ConnectorError::other(source, None)),
            )
        };
        let refused = dispatch("connection refused".into());
        assert_eq!(refused.error.kind(), StoreErrorKind::Unavailable);
        assert!(refused.answer.is_none());
        let none = dispatch(CredentialsError::not_loaded("no providers").into());
        assert_eq!(none.error.kind(), StoreErrorKind::Denied);
        let slow = failed("head", SdkError::<HeadObjectError, _>::timeout_error("too slow"));
        assert_eq!(slow.error.kind(), StoreErrorKind::Unavailable);
    }
}
