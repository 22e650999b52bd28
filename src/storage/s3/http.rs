//! The HTTP client below the SDK: the one of `outbound`.
//!
//! The SDK's own can neither leave a certificate unchecked (`skipverify`) nor be given the bundle of `AWS_CA_BUNDLE`
//! without a panic where that file is broken. Time-outs but the one of connecting are the SDK's, above this.

use std::env;

use aws_sdk_s3::{
    config::{
        SharedHttpClient,
        http::{HttpRequest, HttpResponse},
    },
    primitives::SdkBody,
};
use aws_smithy_runtime_api::client::{
    connection::{CaptureSmithyConnection, ConnectionMetadata},
    http::{HttpConnector as SdkConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
    result::ConnectorError,
};
use http::{HeaderValue, header::USER_AGENT};
use hyper_util::client::legacy::{
    Error,
    connect::{CaptureConnection, capture_connection},
};

use super::open_error::S3OpenError;
use crate::{
    config::Limits,
    outbound::{self, HttpClient, Pool, Reach, Trust},
};

/// The variable by which tools of AWS are told whose certificates to trust instead of the machine's.
const BUNDLE: &str = "AWS_CA_BUNDLE";

/// Which certificates are good: what the environment says, unless nothing is to be verified.
pub(super) fn trust(verify: bool) -> Trust {
    match env::var_os(BUNDLE).filter(|path| !path.is_empty()) {
        _ if !verify => Trust::Anyone,
        Some(path) => Trust::Bundle(path.into()),
        None => Trust::Machine,
    }
}

/// A client that trusts as `trust` says, and whose user agent ends with `agent`.
pub(super) fn client(
    trust: &Trust,
    agent: HeaderValue,
    limits: &Limits,
) -> Result<SharedHttpClient, S3OpenError> {
    let pool = Pool {
        connect: limits.s3.connect,
        idle: limits.s3.idle,
        idle_connections: limits.s3.idle_connections,
    };
    let client = outbound::client(trust.tls()?, Reach::Anywhere, &pool);
    let connector = SharedHttpConnector::new(Connector { client, agent });
    Ok(http_client_fn(move |_, _| connector.clone()))
}

#[derive(Debug)]
struct Connector {
    client: HttpClient<SdkBody>,
    agent: HeaderValue,
}

impl SdkConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        // The signature doesn't cover this field.
        let agent = match request.headers().get(USER_AGENT) {
            Some(sdk) => [sdk.as_bytes(), b" ", self.agent.as_bytes()].concat(),
            None => self.agent.as_bytes().to_vec(),
        };
        if let Ok(agent) = HeaderValue::from_bytes(&agent) {
            request.headers_mut().insert(USER_AGENT, agent);
        }
        let captured = capture_connection(&mut request);
        if let Some(capture) = request.extensions().get::<CaptureSmithyConnection>() {
            capture.set_connection_retriever(move || connection(&captured));
        }
        let response = self.client.request(request);
        HttpConnectorFuture::new(async move {
            let response = response.await.map_err(failed)?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// The connection that a request went by, for the SDK to forbid its use when an attempt failed on it.
fn connection(captured: &CaptureConnection) -> Option<ConnectionMetadata> {
    captured.connection_metadata().as_ref()?;
    let captured = captured.clone();
    let poison = move || {
        if let Some(connected) = captured.connection_metadata().as_ref() {
            connected.poison();
        }
    };
    Some(
        ConnectionMetadata::builder()
            .proxied(false)
            .poison_fn(poison)
            .build(),
    )
}

/// All but what is wrong with the request itself may be tried again: connections that can't be made, and those that
/// end before the answer.
fn failed(error: Error) -> ConnectorError {
    let is_ours = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<hyper::Error>())
        .is_some_and(|error| error.is_user() || error.is_parse());
    match is_ours {
        true => ConnectorError::other(error.into(), None),
        false => ConnectorError::io(error.into()),
    }
}
