//! A request on its way through the front, and what is found out about it for the log.

use std::{net::SocketAddr, sync::Arc};

use http::{Request, Response};
use parking_lot::Mutex;
use rustls::{ProtocolVersion, pki_types::CertificateDer};

use crate::{
    admission::{Body, RequestId},
    auth::Caller,
    http::error::{self, Answer, FrontError},
    oci::RepoName,
};

/// A request as it came in by a client's connection.
pub struct Arrival {
    /// The request. Its body fails when the connection does.
    pub request: Request<Body>,
    /// The client's address.
    pub client: SocketAddr,
    /// The certificates the client proved to hold, its own first.
    pub certificates: Option<Arc<[CertificateDer<'static>]>>,
    /// The version of TLS by which it came; `None` is no TLS.
    pub tls: Option<ProtocolVersion>,
}

/// A request with its name.
pub(super) struct Exchange {
    pub(super) request: Request<Body>,
    pub(super) client: SocketAddr,
    pub(super) certificates: Option<Arc<[CertificateDer<'static>]>>,
    pub(super) tls: Option<ProtocolVersion>,
    pub(super) id: RequestId,
    /// What the log will say of it.
    pub(super) notes: Arc<Mutex<Notes>>,
}

impl Exchange {
    /// What it shows of who sends it.
    pub(super) fn caller(&self) -> Caller<'_> {
        Caller {
            method: self.request.method(),
            uri: self.request.uri(),
            headers: self.request.headers(),
            certificates: self.certificates.as_deref(),
            client: self.client.ip(),
            tls: self.tls,
        }
    }

    /// The answer to a request that goes no further.
    pub(super) fn refuse(&self, error: &FrontError) -> Response<Body> {
        refuse(error, error::front(error, self.request.method()), &self.id)
    }
}

/// `answer`, which says `error`. What is our fault leaves a line in the log.
pub(super) fn refuse(error: &FrontError, answer: Answer, id: &RequestId) -> Response<Body> {
    if answer.status().is_server_error() {
        tracing::warn!(request_id = %id, %error, "request given up");
    }
    answer.into_response(id)
}

/// What later steps found out for the log.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) route: Option<&'static str>,
    pub(super) repository: Option<RepoName>,
    pub(super) user: Option<String>,
    /// Of a request that may change something.
    pub(super) change: Option<Change>,
}

/// What the audit says that somebody wanted to change.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) what: &'static str,
    /// The reference, digest, upload or key.
    pub(super) subject: Option<String>,
}
