//! A connection to a member's mesh port.

use std::{io, time::Duration};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Response, Status,
    transport::{self, Channel, Endpoint},
};

use super::{Door, MeshError, Result};
use crate::{
    mesh::{self, pb},
    net::{CertificateFiles, ClientSpec, ClientTls, ServerNames},
    oci::RepoName,
    placement::MemberId,
};

/// Time to be connected, and for each answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Dials members.
pub(super) struct Dialler {
    tls: ClientTls,
    member_san: Option<String>,
}

/// A member that is asked.
pub(super) struct Asked {
    address: String,
    channel: Channel,
}

impl Dialler {
    pub(super) fn of(door: &Door) -> Result<Self> {
        let tls = ClientTls::load(ClientSpec {
            files: CertificateFiles {
                certificate: door.cert.clone(),
                key: door.key.clone(),
            },
            authority: door.cacert.clone(),
            names: match door.member_san {
                None => ServerNames::Dialled,
                Some(_) => ServerNames::Any,
            },
            alpn: &[b"h2"],
        })?;
        Ok(Self {
            tls,
            member_san: door.member_san.clone(),
        })
    }

    /// A connection to the mesh port at `address`, whose certificate was checked.
    pub(super) async fn dial(&self, address: &str) -> Result<Asked> {
        let failed = |source| MeshError::Dial {
            address: address.to_owned(),
            source,
        };
        let opened = async {
            let stream = self.connect(address).await.map_err(failed)?;
            channel(stream).await.map_err(|error| broken(address, error))
        };
        let channel = timeout(PATIENCE, opened).await;
        Ok(Asked {
            address: address.to_owned(),
            channel: channel.unwrap_or_else(|_| Err(failed(late())))?,
        })
    }

    async fn connect(&self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        let member = MemberId::parse(address).map_err(io::Error::other)?;
        let name = ServerName::try_from(member.host().to_owned()).map_err(io::Error::other)?;
        let stream = TcpStream::connect(address).await?;
        let stream = TlsConnector::from(self.tls.config())
            .connect(name, stream)
            .await?;
        let Some(san) = &self.member_san else {
            return Ok(stream);
        };
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        match certificate.and_then(|certificate| mesh::member_name(certificate, san)) {
            Some(_) => Ok(stream),
            None => Err(io::Error::other(format!("its certificate doesn't name {san}"))),
        }
    }
}

/// A channel dials when it likes; this one is given its only connection.
async fn channel(stream: TlsStream<TcpStream>) -> std::result::Result<Channel, transport::Error> {
    let stream = Mutex::new(Some(TokioIo::new(stream)));
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = stream
            .lock()
            .take()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(stream)
    });
    Endpoint::from_static("http://member")
        .connect_with_connector(connector)
        .await
}

impl Asked {
    pub(super) async fn members(&mut self) -> Result<pb::MembersResponse> {
        let mut client = pb::diagnostics_client::DiagnosticsClient::new(self.channel.clone());
        self.answer(client.members(pb::MembersRequest {})).await
    }

    pub(super) async fn locate(&mut self, repository: &RepoName) -> Result<pb::LocateResponse> {
        let mut client = pb::diagnostics_client::DiagnosticsClient::new(self.channel.clone());
        let repository = repository.to_string();
        self.answer(client.locate(pb::LocateRequest { repository })).await
    }

    pub(super) async fn forwards(&mut self) -> Result<pb::ForwardsResponse> {
        let mut client = pb::diagnostics_client::DiagnosticsClient::new(self.channel.clone());
        self.answer(client.forwards(pb::ForwardsRequest {})).await
    }

    pub(super) async fn drain(&mut self, member: &MemberId) -> Result<()> {
        let mut client = pb::administration_client::AdministrationClient::new(self.channel.clone());
        let member = member.to_string();
        let pb::DrainResponse {} = self.answer(client.drain(pb::DrainRequest { member })).await?;
        Ok(())
    }

    pub(super) async fn undrain(&mut self, member: &MemberId) -> Result<()> {
        let mut client = pb::administration_client::AdministrationClient::new(self.channel.clone());
        let member = member.to_string();
        let pb::UndrainResponse {} = self.answer(client.undrain(pb::UndrainRequest { member })).await?;
        Ok(())
    }

    async fn answer<T>(
        &self,
        answer: impl Future<Output = std::result::Result<Response<T>, Status>>,
    ) -> Result<T> {
        match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            // Made here, of what broke.
            Ok(Err(status)) if std::error::Error::source(&status).is_some() => {
                Err(broken(&self.address, status))
            }
            Ok(Err(status)) => Err(MeshError::Refused {
                address: self.address.clone(),
                message: status.message().to_owned(),
            }),
            Err(_) => Err(broken(&self.address, late())),
        }
    }
}

fn broken(address: &str, source: impl std::error::Error + Send + Sync + 'static) -> MeshError {
    MeshError::Broken {
        address: address.to_owned(),
        source: Box::new(source),
    }
}

fn late() -> io::Error {
    let text = format!("no answer within {} s", PATIENCE.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}
