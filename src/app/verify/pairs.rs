//! This member's certificates: that they can be used at all, for how long, and that other members will take the one of
//! the mesh for this member's, whichever end it is at.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::{
    CertificateError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use time::OffsetDateTime;

use super::finding::{Finding, Reach, Verdict};
use crate::{
    app::{
        expiry::{self, CertificateFile, stamp},
        spec::public_tls,
    },
    causes::in_a_line,
    config::{Cluster, Config, Limits, MeshTls, PairSource},
    mesh::member_name,
    net::{CertificateFiles, ClientSpec, ClientTls, Phase, ServerNames, ServerTls},
    placement::MemberId,
};

const MESH: &str = "certificate of the mesh";

pub(super) fn look(config: &Config, me: Option<&MemberId>, reach: Reach, limits: &Limits) -> Vec<Finding> {
    let mut findings = Vec::new();
    let public = config.public_tls.as_ref().map(public_tls);
    if let Some(public) = &public {
        match ServerTls::load(public.clone()) {
            Ok(_) => findings.extend(lives(&expiry::files(Some(public), None), limits)),
            Err(error) => findings.push(Finding::refused(reach, "certificate of http.tls", &error)),
        }
    }
    if let Some(Cluster { members, tls, .. }) = &config.cluster {
        let owner = match (members, &tls.member_san) {
            (None, Some(san)) => Some(Owner::Of(san)),
            (Some(_) | None, _) => me.map(|me| Owner::Host(me.host())),
        };
        match dialler(tls) {
            Ok(_) => {
                findings.extend(lives(&expiry::files(None, Some(tls)), limits));
                // An expired one is refused for that, whatever else is wrong with it.
                findings.extend(match Judge::new(tls) {
                    Ok(judge) => judge.findings(tls, owner),
                    Err(problem) => vec![Finding::fail(MESH, problem)],
                });
            }
            // That of http.tls has its fault already.
            Err(_)
                if tls.pair == PairSource::Public
                    && findings.iter().any(|found| found.verdict >= Verdict::Lacking) => {}
            Err(error) => findings.push(Finding::refused(reach, MESH, &error)),
        }
    }
    findings
}

/// What dials other members.
pub(super) fn dialler(tls: &MeshTls) -> Result<ClientTls, crate::net::TlsError> {
    ClientTls::load(ClientSpec {
        files: CertificateFiles {
            certificate: tls.cert.clone(),
            key: tls.key.clone(),
        },
        authority: tls.ca.clone(),
        names: ServerNames::Dialled,
        alpn: &[b"h2"],
    })
}

/// What makes a certificate this member's in the eyes of others.
#[derive(Clone, Copy)]
enum Owner<'a> {
    /// That it names the host by which `cluster.members` lists it.
    Host(&'a str),
    /// Without a list: that it has a name that this matches, `cluster.tls.memberSan`.
    Of(&'a str),
}

/// How long certificates will live.
fn lives(files: &[CertificateFile], limits: &Limits) -> Vec<Finding> {
    files.iter().map(|file| life(file, limits)).collect()
}

fn life(file: &CertificateFile, limits: &Limits) -> Finding {
    let subject = match file.key {
        "http.tls.cert" => "certificate of http.tls",
        "http.tls.cacert" => "authority of clients",
        "cluster.tls.cert" => MESH,
        _ => "authority of the mesh",
    };
    let life = match file.life() {
        Ok(life) => life,
        Err(error) => return Finding::fail(subject, in_a_line(&error)),
    };
    let (path, from, until) = (file.file.display(), stamp(life.from), stamp(life.until));
    match life.phase(OffsetDateTime::now_utc(), limits.certificates.soon) {
        Phase::Valid => Finding::ok(subject, format!("{path}, until {until}")),
        Phase::EndsSoon => Finding::warn(subject, format!("{path} expires on {until}: renew it soon")),
        Phase::Ended => Finding::fail(subject, format!("{path} expired on {until}: renew it")),
        Phase::NotYet => Finding::fail(
            subject,
            format!("{path} is valid from {from} on: set this machine's clock, or issue it anew"),
        ),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{} can't be read: {error}", file.display()))
}

/// Looks at the certificate as another member does.
struct Judge {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    now: UnixTime,
}

impl Judge {
    fn new(tls: &MeshTls) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&tls.ca)?);
        let since = OffsetDateTime::now_utc().unix_timestamp().unsigned_abs();
        Ok(Self {
            roots: Arc::new(roots),
            chain: certificates(&tls.cert)?,
            now: UnixTime::since_unix_epoch(Duration::from_secs(since)),
        })
    }

    fn findings(&self, tls: &MeshTls, owner: Option<Owner<'_>>) -> Vec<Finding> {
        let mut problems: Vec<String> = Vec::new();
        if let Err(error) = self.as_dialler() {
            problems.extend(advice(&error, tls, Usage::Client));
        }
        let name = match owner {
            Some(Owner::Host(host)) => Some(host.to_owned()),
            Some(Owner::Of(san)) => self.member_name(san),
            None => None,
        };
        if let Some(name) = &name
            && let Err(error) = self.as_listener(name)
        {
            problems.extend(advice(&error, tls, Usage::Server(name)));
        }
        if let (Some(Owner::Of(san)), None) = (owner, &name) {
            problems.push(format!(
                "{} has no DNS SAN that is {san} (cluster.tls.memberSan), so it is no member's: issue it anew with one, \
                 or correct cluster.tls.memberSan",
                tls.cert.display()
            ));
        }
        problems.dedup();
        if problems.is_empty() {
            let named = name.map_or_else(String::new, |name| format!(", names {name}"));
            let said = format!("chains to {}, for both ends{named}", tls.ca.display());
            return vec![Finding::ok(MESH, said)];
        }
        let failed = problems.into_iter().map(|problem| Finding::fail(MESH, problem));
        failed.collect()
    }

    fn as_dialler(&self) -> Result<(), rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let (first, others) = self.split()?;
        verifier.verify_client_cert(first, others, self.now).map(drop)
    }

    fn as_listener(&self, host: &str) -> Result<(), rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let (first, others) = self.split()?;
        let name = ServerName::try_from(host).map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier
            .verify_server_cert(first, others, &name, &[], self.now)
            .map(drop)
    }

    fn member_name(&self, san: &str) -> Option<String> {
        self.chain.first().and_then(|first| member_name(first, san))
    }

    fn split(&self) -> Result<(&CertificateDer<'static>, &[CertificateDer<'static>]), rustls::Error> {
        self.chain
            .split_first()
            .ok_or(rustls::Error::NoCertificatesPresented)
    }
}

/// Which end of a connection a certificate is at.
#[derive(Clone, Copy)]
enum Usage<'a> {
    /// Dialled by this name.
    Server(&'a str),
    Client,
}

/// What is wrong with the certificate and what to change; `None` for what [`life`] says.
fn advice(error: &rustls::Error, tls: &MeshTls, usage: Usage<'_>) -> Option<String> {
    let file = tls.cert.display();
    let rustls::Error::InvalidCertificate(reason) = error else {
        return Some(format!("{file} can't be verified: {error}"));
    };
    Some(match reason {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => return None,
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "{file} doesn't chain to {} (cluster.tls.cacert): issue it by that authority, with the intermediates in \
             the file, or name the authority that issued it",
            tls.ca.display()
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            let (usage, end) = match usage {
                Usage::Server(_) => ("serverAuth", "listen"),
                Usage::Client => ("clientAuth", "dial"),
            };
            let other = match tls.pair {
                PairSource::Cluster => "",
                PairSource::Public => ", or give the mesh a pair of its own (cluster.tls.cert and key)",
            };
            format!(
                "{file} lacks the extended key usage {usage}, and members both listen and dial ({end} is missing): \
                 issue it anew with serverAuth and clientAuth{other}"
            )
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let host = match usage {
                Usage::Server(name) => name,
                Usage::Client => "its host",
            };
            format!(
                "{file} doesn't name {host}, by which cluster.members knows this member: issue it anew with that SAN \
                 (an IP SAN for an address), or correct cluster.members"
            )
        }
        other => format!("{file} would be refused: {other}"),
    })
}
