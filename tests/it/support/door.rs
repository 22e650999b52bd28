//! Where a client goes in: an address, over TCP or TLS.

use std::{
    fmt,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::client::Http;

/// A public listener.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    roots: Option<Arc<RootCertStore>>,
    shown: Option<Arc<(CertificateDer<'static>, PrivateKeyDer<'static>)>>,
}

impl Door {
    /// One that shows a certificate of the authority in this file.
    pub(crate) fn secure(address: SocketAddr, authority: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(authority).expect("the authority's certificate") {
            roots.add(certificate.unwrap()).unwrap();
        }
        Self {
            address,
            roots: Some(Arc::new(roots)),
            shown: None,
        }
    }

    /// The same, showing a certificate.
    pub(crate) fn showing(
        mut self,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        self.shown = Some(Arc::new((certificate, key)));
        self
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.roots.is_some() { "https" } else { "http" }
    }

    /// A connection on which `http` will be spoken.
    pub(crate) async fn connect(&self, http: Http) -> std::io::Result<Wire> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some(roots) = &self.roots else {
            return Ok(Wire::Plain(stream));
        };
        let builder = ClientConfig::builder().with_root_certificates(roots.clone());
        let mut config = match self.shown.as_deref() {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
                .unwrap(),
        };
        config.alpn_protocols = vec![match http {
            Http::One => b"http/1.1".to_vec(),
            Http::Two => b"h2".to_vec(),
        }];
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        Ok(Wire::Tls(Box::new(stream)))
    }

    /// Makes connections for hyper's client.
    pub(crate) fn connector(&self, http: Http) -> Connector {
        Connector {
            door: self.clone(),
            http,
        }
    }
}

impl From<SocketAddr> for Door {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            roots: None,
            shown: None,
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.address)
    }
}

/// What hyper's client connects with.
#[derive(Clone)]
pub(crate) struct Connector {
    door: Door,
    http: Http,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<TokioIo<Wire>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { door, http } = self.clone();
        Box::pin(async move { door.connect(http).await.map(TokioIo::new) })
    }
}

/// A connection.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
