//! TLS for both listeners and for dialling other members, from files that may change while it runs.
//!
//! A configuration is read again when a handshake begins and the files differ from what was last read (looked at every
//! few seconds at most). Connections that are up stay as they are. New files that can't be used are logged, once, and
//! the old ones stay in use: a half-written renewal never takes a member down.
//!
//! Deliberately absent: other TLS stacks, resumption between members (their connections live long, and a resumed
//! session would outlive a change of the authority), and who a peer is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
};

use tokio::time::Instant;

use super::chain::ChainOnly;
use crate::outbound::provider;

static ONLY_13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
static FROM_12: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// The longest a changed file goes unnoticed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A certificate chain and its private key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then its intermediates.
    pub certificate: PathBuf,
    /// The private key (PKCS #8, PKCS #1 or SEC 1).
    pub key: PathBuf,
}

/// What a listener does about certificates of clients. The path is that of the authorities' certificates, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// None is asked for.
    Ignored,
    /// One that is shown must be valid; none is fine.
    Optional(PathBuf),
    /// Without a valid one the handshake fails.
    Required(PathBuf),
}

/// Which versions of TLS are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersions {
    /// For clients of all kinds.
    From12,
    /// Between members.
    Only13,
}

impl TlsVersions {
    fn supported(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::From12 => &FROM_12,
            Self::Only13 => &ONLY_13,
        }
    }
}

/// How a listener speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    /// What it shows.
    pub files: CertificateFiles,
    /// What it asks for.
    pub clients: ClientCertificates,
    /// Versions.
    pub versions: TlsVersions,
    /// Protocols above it, the preferred one first.
    pub alpn: &'static [&'static [u8]],
}

/// Who must answer where a member dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerNames {
    /// The certificate has to be for the name that was dialled.
    Dialled,
    /// The certificate has to chain to the authority. Whose it is the dialler finds out after the handshake.
    Any,
}

/// How a member dials others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSpec {
    /// What it shows.
    pub files: CertificateFiles,
    /// Certificates of the authorities it trusts, as PEM.
    pub authority: PathBuf,
    /// Whose certificates it accepts.
    pub names: ServerNames,
    /// Protocols above it.
    pub alpn: &'static [&'static [u8]],
}

/// Certificates that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{} can't be read: {source}", .file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file isn't what it should be.
    #[error("{} holds no usable {expected}: {source}", .file.display())]
    Pem {
        /// Which.
        file: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong.
        source: pem::Error,
    },
    /// A file of certificates is empty.
    #[error("{} holds no certificate in PEM form", .file.display())]
    Empty {
        /// Which.
        file: PathBuf,
    },
    /// A certificate of an authority is malformed.
    #[error("{} holds a certificate that can't be trusted: {source}", .file.display())]
    Authority {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// Certificate and key don't go together, or are of an unknown kind.
    #[error("the certificate in {} and the key in {} can't be used together: {source}", .certificate.display(), .key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// Clients can't be verified against the authorities in a file.
    #[error("clients can't be verified by {}: {source}", .file.display())]
    Verifier {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        source: VerifierBuilderError,
    },
    /// The versions and ciphers don't fit (a bug).
    #[error("TLS can't be set up: {0}")]
    Setup(#[source] rustls::Error),
}

/// A listener's TLS, reloadable. Clones share it.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<Reloading<ServerSpec, ServerConfig>>);

impl ServerTls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`TlsError`], naming the file that can't be used.
    pub fn load(spec: ServerSpec) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(Reloading::load(spec)?)))
    }

    /// For the handshake that begins now.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.current()
    }
}

/// A dialler's TLS, reloadable. Clones share it.
#[derive(Clone, Debug)]
pub struct ClientTls(Arc<Reloading<ClientSpec, ClientConfig>>);

impl ClientTls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`TlsError`], naming the file that can't be used.
    pub fn load(spec: ClientSpec) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(Reloading::load(spec)?)))
    }

    /// For the handshake that begins now.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        self.0.current()
    }

    /// The certificate that it shows in the handshake that begins now.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.current();
        self.0.state.lock().certificate.clone()
    }
}

/// Something built from files.
trait Spec {
    type Config;

    /// The own certificate's first.
    fn files(&self) -> Vec<&Path>;

    /// From the contents of [`files`](Self::files), in that order.
    fn build(&self, contents: &[Vec<u8>]) -> Result<Self::Config, TlsError>;

    /// The own certificate, of the same contents.
    fn certificate(&self, contents: &[Vec<u8>]) -> Result<CertificateDer<'static>, TlsError> {
        let file = self.files().first().copied().unwrap_or(Path::new(""));
        let chain = certificates(file, content(contents, 0))?;
        chain.into_iter().next().ok_or_else(|| TlsError::Empty {
            file: file.to_owned(),
        })
    }
}

#[derive(Debug)]
struct Reloading<S, C> {
    spec: S,
    state: Mutex<State<C>>,
}

#[derive(Debug)]
struct State<C> {
    config: Arc<C>,
    // The own one in `config`.
    certificate: CertificateDer<'static>,
    // What was last read, usable or not.
    contents: Vec<Vec<u8>>,
    // The last fault that was logged.
    fault: Option<String>,
    looked: Instant,
}

impl<S: Spec> Reloading<S, S::Config> {
    fn load(spec: S) -> Result<Self, TlsError> {
        let contents = read(&spec)?;
        let config = Arc::new(spec.build(&contents)?);
        let state = State {
            config,
            certificate: spec.certificate(&contents)?,
            contents,
            fault: None,
            looked: Instant::now(),
        };
        Ok(Self {
            spec,
            state: Mutex::new(state),
        })
    }

    fn current(&self) -> Arc<S::Config> {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            self.look(&mut state);
        }
        state.config.clone()
    }

    fn look(&self, state: &mut State<S::Config>) {
        let built = read(&self.spec).and_then(|contents| {
            if contents == state.contents {
                return Ok(None);
            }
            let built = self.spec.build(&contents);
            let certificate = self.spec.certificate(&contents);
            state.contents = contents;
            Ok(Some((built?, certificate?)))
        });
        match built {
            Ok(None) => {}
            Ok(Some((config, certificate))) => {
                state.config = Arc::new(config);
                state.certificate = certificate;
                state.fault = None;
                let files = self.spec.files();
                tracing::info!(?files, "certificates were read again");
            }
            Err(error) => {
                let fault = error.to_string();
                if state.fault.as_ref() != Some(&fault) {
                    tracing::error!(%error, "changed certificates can't be used, the former ones stay in use");
                    state.fault = Some(fault);
                }
            }
        }
    }
}

fn read(spec: &impl Spec) -> Result<Vec<Vec<u8>>, TlsError> {
    spec.files()
        .into_iter()
        .map(|file| {
            fs::read(file).map_err(|source| TlsError::Read {
                file: file.to_owned(),
                source,
            })
        })
        .collect()
}

impl Spec for ServerSpec {
    type Config = ServerConfig;

    fn files(&self) -> Vec<&Path> {
        let mut files = vec![self.files.certificate.as_path(), self.files.key.as_path()];
        match &self.clients {
            ClientCertificates::Ignored => {}
            ClientCertificates::Optional(authority) | ClientCertificates::Required(authority) => {
                files.push(authority);
            }
        }
        files
    }

    fn build(&self, contents: &[Vec<u8>]) -> Result<ServerConfig, TlsError> {
        let provider = provider();
        let (chain, key) = certificate(&self.files, contents)?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions.supported())
            .map_err(TlsError::Setup)?;
        let verifier = |file: &Path| {
            let roots = Arc::new(authorities(file, content(contents, 2))?);
            Ok(WebPkiClientVerifier::builder_with_provider(
                roots,
                provider.clone(),
            ))
        };
        let verifier_error = |file: &Path, source| TlsError::Verifier {
            file: file.to_owned(),
            source,
        };
        let builder = match &self.clients {
            ClientCertificates::Ignored => builder.with_no_client_auth(),
            ClientCertificates::Optional(file) => {
                let verifier = verifier(file)?.allow_unauthenticated().build();
                builder.with_client_cert_verifier(verifier.map_err(|source| verifier_error(file, source))?)
            }
            ClientCertificates::Required(file) => {
                let verifier = verifier(file)?.build();
                builder.with_client_cert_verifier(verifier.map_err(|source| verifier_error(file, source))?)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|source| pair(&self.files, source))?;
        config.ignore_client_order = true;
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.to_vec()).collect();
        if self.versions == TlsVersions::Only13 {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            // `Sealed` takes over once the handshake is done.
            config.enable_secret_extraction = true;
        }
        Ok(config)
    }
}

impl Spec for ClientSpec {
    type Config = ClientConfig;

    fn files(&self) -> Vec<&Path> {
        vec![&self.files.certificate, &self.files.key, &self.authority]
    }

    fn build(&self, contents: &[Vec<u8>]) -> Result<ClientConfig, TlsError> {
        let (chain, key) = certificate(&self.files, contents)?;
        let roots = authorities(&self.authority, content(contents, 2))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(TlsVersions::Only13.supported())
            .map_err(TlsError::Setup)?;
        let builder = match self.names {
            ServerNames::Dialled => builder.with_root_certificates(roots),
            ServerNames::Any => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(ChainOnly::new(roots, provider()))),
        };
        let mut config = builder
            .with_client_auth_cert(chain, key)
            .map_err(|source| pair(&self.files, source))?;
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.resumption = Resumption::disabled();
        config.enable_secret_extraction = true;
        Ok(config)
    }
}

fn content(contents: &[Vec<u8>], index: usize) -> &[u8] {
    contents.get(index).map_or(&[], Vec::as_slice)
}

fn certificate(
    files: &CertificateFiles,
    contents: &[Vec<u8>],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(&files.certificate, content(contents, 0))?;
    let key = PrivateKeyDer::from_pem_slice(content(contents, 1)).map_err(|source| TlsError::Pem {
        file: files.key.clone(),
        expected: "private key",
        source,
    })?;
    Ok((chain, key))
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem {
            file: file.to_owned(),
            expected: "certificate",
            source,
        })?;
    if certificates.is_empty() {
        return Err(TlsError::Empty {
            file: file.to_owned(),
        });
    }
    Ok(certificates)
}

/// The certificates in a PEM file, at least one.
pub(super) fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = fs::read(file).map_err(|source| TlsError::Read {
        file: file.to_owned(),
        source,
    })?;
    certificates(file, &pem)
}

fn authorities(file: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, pem)? {
        roots.add(certificate).map_err(|source| TlsError::Authority {
            file: file.to_owned(),
            source,
        })?;
    }
    Ok(roots)
}

fn pair(files: &CertificateFiles, source: rustls::Error) -> TlsError {
    TlsError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    }
}

#[cfg(test)]
mod tests;
