//! The HTTP client below the SDK: hyper, as everywhere else, with our TLS.
//!
//! The SDK's own can neither leave a certificate unchecked (`skipverify`) nor be given the bundle of `AWS_CA_BUNDLE`
//! without a panic where that file is broken. Time-outs but the one of connecting are the SDK's, above this.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

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
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client, Error,
        connect::{CaptureConnection, HttpConnector, capture_connection},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};

use super::open_error::S3OpenError;
use crate::config::Limits;

/// The variable by which tools of AWS are told whose certificates to trust instead of the machine's.
const BUNDLE: &str = "AWS_CA_BUNDLE";

/// Bytes of a body that a connection reads ahead at most: what a pull holds here whose client stands still.
const READ_BUFFER: usize = 128 << 10;

/// Which certificates are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// Those that this machine trusts.
    Machine,
    /// Those that chain to one in this file.
    Bundle(PathBuf),
    /// All of them: somebody asked for that.
    Anyone,
}

impl Trust {
    /// What the environment says, unless nothing is to be verified.
    pub(super) fn new(verify: bool) -> Self {
        match env::var_os(BUNDLE).filter(|path| !path.is_empty()) {
            _ if !verify => Self::Anyone,
            Some(path) => Self::Bundle(path.into()),
            None => Self::Machine,
        }
    }
}

/// A client that trusts as `trust` says, and whose user agent ends with `agent`.
pub(super) fn client(
    trust: &Trust,
    agent: HeaderValue,
    limits: &Limits,
) -> Result<SharedHttpClient, S3OpenError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(limits.s3_connect_timeout));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls(trust)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new())
        .http1_max_buf_size(READ_BUFFER)
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(limits.s3_idle_time)
        .pool_max_idle_per_host(limits.s3_idle_connections)
        .build(https);
    let connector = SharedHttpConnector::new(Connector { client, agent });
    Ok(http_client_fn(move |_, _| connector.clone()))
}

#[derive(Debug)]
struct Connector {
    client: Client<HttpsConnector<HttpConnector>, SdkBody>,
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

fn tls(trust: &Trust) -> Result<ClientConfig, S3OpenError> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(S3OpenError::Tls)?;
    let roots = match trust {
        Trust::Anyone => {
            let verifier = Arc::new(Unverified(provider));
            let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
            return Ok(builder.with_no_client_auth());
        }
        Trust::Bundle(path) => bundle(path)?,
        Trust::Machine => {
            let mut roots = RootCertStore::empty();
            // Where there are none, every handshake fails and says why; plain HTTP doesn't need one.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn bundle(path: &Path) -> Result<RootCertStore, S3OpenError> {
    let fault = |source: io::Error| S3OpenError::Bundle {
        path: path.to_owned(),
        source,
    };
    let invalid = |source: Box<dyn std::error::Error + Send + Sync>| fault(io::Error::other(source));
    let pem = fs::read(path).map_err(fault)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| invalid(error.into()))?;
        roots.add(certificate).map_err(|error| invalid(error.into()))?;
    }
    if roots.is_empty() {
        return Err(invalid("there is no certificate in it".into()));
    }
    Ok(roots)
}

/// aws-lc-rs with AES-128-GCM first, the cheapest of its ciphers.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    let is_cheap = |suite| {
        matches!(
            suite,
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    };
    provider
        .cipher_suites
        .sort_by_key(|suite| !is_cheap(suite.suite()));
    Arc::new(provider)
}

/// Takes any certificate, and still wants the handshake to be signed with its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
