//! Whose certificates are good, and which one is shown.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};

use crate::config::SinkTls;

/// Which certificates are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those that this machine trusts.
    Machine,
    /// Those that chain to one in this file.
    Bundle(PathBuf),
    /// Those that this machine trusts or that chain to a `*.crt` in this directory; `client.cert` there is shown, with
    /// `client.key`, to who asks for one: docker's and containers' layout.
    Directory(PathBuf),
    /// As a configuration has it.
    Files {
        /// Those that chain to one in this file; without it those that this machine trusts.
        authorities: Option<PathBuf>,
        /// What is shown to who asks for one: a certificate and its key.
        shown: Option<(PathBuf, PathBuf)>,
    },
    /// All of them: somebody asked for that.
    Anyone,
}

/// Certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file, or a directory.
    #[error("{} can't be used", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// TLS can't be set up at all.
    #[error("TLS can't be set up")]
    Tls(#[source] rustls::Error),
}

impl From<&SinkTls> for Trust {
    fn from(tls: &SinkTls) -> Self {
        Self::Files {
            authorities: tls.authorities.clone(),
            shown: tls.shown.clone(),
        }
    }
}

impl Trust {
    /// A client's TLS that trusts so. Certificates are read now.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn tls(&self) -> Result<ClientConfig, TrustError> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TrustError::Tls)?;
        let roots = match self {
            Self::Anyone => {
                let verifier = Arc::new(Unverified(provider));
                let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
                return Ok(builder.with_no_client_auth());
            }
            Self::Bundle(path) => authorities(path)?,
            Self::Machine => machine(),
            Self::Files {
                authorities: file,
                shown,
            } => {
                let roots = file.as_deref().map_or_else(|| Ok(machine()), authorities)?;
                let builder = builder.with_root_certificates(roots);
                return match shown {
                    Some((certificate, key)) => {
                        let (chain, secret) = shown_pair(certificate, key)?;
                        builder
                            .with_client_auth_cert(chain, secret)
                            .map_err(|error| fault(key, error))
                    }
                    None => Ok(builder.with_no_client_auth()),
                };
            }
            Self::Directory(folder) => {
                let mut roots = machine();
                for path in files(folder, "crt")? {
                    roots.roots.extend(authorities(&path)?.roots);
                }
                let builder = builder.with_root_certificates(roots);
                return match pair(folder)? {
                    Some((chain, key)) => builder
                        .with_client_auth_cert(chain, key)
                        .map_err(|error| fault(&folder.join("client.key"), error)),
                    None => Ok(builder.with_no_client_auth()),
                };
            }
        };
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

/// Where there are none, every handshake fails and says why; plain HTTP doesn't need one.
fn machine() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn fault(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TrustError {
    TrustError::File {
        path: path.to_owned(),
        source: io::Error::other(source),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    fs::read(path).map_err(|source| TrustError::File {
        path: path.to_owned(),
        source,
    })
}

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, TrustError> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|source| TrustError::File {
        path: folder.to_owned(),
        source,
    })?;
    let paths = entries.into_iter().map(|entry| entry.path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    Ok(paths)
}

fn authorities(path: &Path) -> Result<RootCertStore, TrustError> {
    let pem = read(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| fault(path, error))?;
        roots.add(certificate).map_err(|error| fault(path, error))?;
    }
    match roots.is_empty() {
        true => Err(fault(path, "there is no certificate in it")),
        false => Ok(roots),
    }
}

type ClientPair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The certificate that is shown, if the directory has one.
fn pair(folder: &Path) -> Result<Option<ClientPair>, TrustError> {
    let (cert, key) = (folder.join("client.cert"), folder.join("client.key"));
    if !cert.exists() {
        return Ok(None);
    }
    shown_pair(&cert, &key).map(Some)
}

fn shown_pair(cert: &Path, key: &Path) -> Result<ClientPair, TrustError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(cert)?).collect();
    let chain = chain.map_err(|error| fault(cert, error))?;
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| fault(key, error))?;
    Ok((chain, key))
}

/// aws-lc-rs with AES-128-GCM first: the cheapest of its ciphers, and as strong as anything around it.
pub fn provider() -> Arc<CryptoProvider> {
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
