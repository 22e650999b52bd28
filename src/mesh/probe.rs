//! Asks another member's mesh port once how it is, for `portolan verify`: what [`Peers`](super::Peers) would meet, without
//! a mesh that runs.

use std::{io, net::SocketAddr, time::Duration};

use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::peers::describe;
use crate::{
    net::{ClientTls, Drain},
    placement::MemberId,
};

/// Time for the connection's last words.
const GOODBYE: Duration = Duration::from_millis(200);

/// What kept a mesh port from saying that it serves.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody listens there.
    #[error("nothing listens there")]
    Refused,
    /// The network doesn't lead there.
    #[error("it can't be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// No answer within the bound.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// Its certificate isn't this member's.
    #[error("its certificate is refused: {0}")]
    Certificate(rustls::CertificateError),
    /// Something else than the mesh answers, or it hung up on our certificate.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It knows us, and not as a member or an operator.
    #[error("it doesn't take this certificate for a member's")]
    Denied,
    /// It is about to end, or not up yet.
    #[error("it says that it doesn't serve")]
    NotServing,
}

/// Dials `address`, where `member` should be, with this member's certificate, and asks the standard health service.
///
/// # Errors
/// [`ProbeError`], after `bound` at the latest.
pub async fn probe(
    address: SocketAddr,
    member: &MemberId,
    tls: &ClientTls,
    bound: Duration,
) -> Result<(), ProbeError> {
    let drain = Drain::new();
    let asked = timeout(bound, ask(address, member, tls, &drain)).await;
    drain.finish(GOODBYE).await;
    asked.unwrap_or(Err(ProbeError::Silent(bound)))
}

async fn ask(
    address: SocketAddr,
    member: &MemberId,
    tls: &ClientTls,
    drain: &Drain,
) -> Result<(), ProbeError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => ProbeError::Refused,
            _ => ProbeError::Unreachable(error),
        })?;
    let name = ServerName::try_from(member.host().to_owned())
        .map_err(|error| ProbeError::Broken(error.to_string()))?;
    let stream = TlsConnector::from(tls.config())
        .connect(name, stream)
        .await
        .map_err(refused)?;
    let broken = |error: hyper::Error| ProbeError::Broken(describe(&error));
    let (sender, connection) = http2::Builder::new(drain.executor())
        .handshake::<_, tonic::body::Body>(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let service = tower::service_fn(move |request| sender.clone().send_request(request));
    let origin = http::Uri::from_static("https://member");
    let mut client = HealthClient::with_origin(service, origin);
    let request = HealthCheckRequest::default();
    let answer = tokio::select! {
        answer = client.check(request) => answer,
        ended = connection => {
            let why = ended.err().map_or_else(|| "it hung up".to_owned(), |error| describe(&error));
            return Err(ProbeError::Broken(why));
        }
    };
    match answer {
        Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Ok(()),
        Ok(_) => Err(ProbeError::NotServing),
        Err(status) => Err(unhealthy(&status)),
    }
}

fn refused(error: io::Error) -> ProbeError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(reason)) => ProbeError::Certificate(reason.clone()),
        _ => ProbeError::Broken(error.to_string()),
    }
}

fn unhealthy(status: &Status) -> ProbeError {
    match status.code() {
        Code::PermissionDenied => ProbeError::Denied,
        _ => ProbeError::Broken(describe(status)),
    }
}
