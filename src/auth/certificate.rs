//! Certificates of clients: TLS has verified that they chain to `http.tls.cacert`, here they get a name.
//!
//! Only the connection's own certificate counts, and only where a request has no `Authorization`: who shows a password
//! wants to be who it is of.

use async_trait::async_trait;
use rustls::pki_types::CertificateDer;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

use super::{AuthError, Authenticator, Credentials, Evidence, Login, Verdict, Via};
use crate::config::access::{CertificateName, CertificateNames, is_user_name};

pub(super) struct Certificates(pub(super) CertificateNames);

#[async_trait]
impl Authenticator for Certificates {
    async fn authenticate(&self, evidence: &Evidence<'_>) -> Result<Verdict, AuthError> {
        let own = evidence.certificates.and_then(<[_]>::first);
        let (Some(certificate), true) = (own, evidence.credentials == Credentials::None) else {
            return Ok(Verdict::NotMine);
        };
        Ok(match self.name(certificate) {
            Some(user) => Verdict::Known(Login {
                user,
                groups: Vec::new(),
                via: Via::Certificate,
            }),
            None => Verdict::Refused,
        })
    }
}

impl Certificates {
    /// The first of the configured names that the certificate has.
    fn name(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let alternatives = alternatives.map_or(&[][..], |names| &names.value.general_names);
        let nth = |n: usize, select: fn(&GeneralName<'_>) -> Option<String>| {
            alternatives.iter().filter_map(select).nth(n)
        };
        let named = |source: &CertificateName| match source {
            CertificateName::CommonName => {
                let name = certificate.subject().iter_common_name().next()?;
                name.as_str().ok().map(str::to_owned)
            }
            CertificateName::Dns(n) => nth(*n, |name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            }),
            CertificateName::Email(n) => nth(*n, |name| match name {
                GeneralName::RFC822Name(name) => Some((*name).to_owned()),
                _ => None,
            }),
            CertificateName::Uri(n) => self.of_uri(&nth(*n, |name| match name {
                GeneralName::URI(name) => Some((*name).to_owned()),
                _ => None,
            })?),
        };
        let mut names = self.0.sources.iter().filter_map(named);
        names.find(|name| is_user_name(name))
    }

    fn of_uri(&self, uri: &str) -> Option<String> {
        let Some(pattern) = &self.0.uri_pattern else {
            return Some(uri.to_owned());
        };
        let found = pattern.captures(uri)?;
        let name = found.get(1).or_else(|| found.get(0))?;
        Some(name.as_str().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_name: Option<&str>, alternatives: &[SanType]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = alternatives.to_vec();
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .clone()
    }

    fn named(
        sources: &[CertificateName],
        pattern: Option<&str>,
        certificate: &CertificateDer<'static>,
    ) -> Option<String> {
        let names = CertificateNames {
            sources: sources.to_vec(),
            uri_pattern: pattern.map(|text| regex_lite::Regex::new(&format!("^(?:{text})$")).unwrap()),
        };
        Certificates(names).name(certificate)
    }

    #[test]
    fn the_first_configured_name_that_is_there_counts() {
        use CertificateName::{CommonName, Dns, Email, Uri};
        let all = certificate(
            Some("ann"),
            &[
                SanType::DnsName("a.example".try_into().unwrap()),
                SanType::DnsName("b.example".try_into().unwrap()),
                SanType::URI("spiffe://example/ns/ci/sa/builder".try_into().unwrap()),
                SanType::Rfc822Name("ann@example.org".try_into().unwrap()),
            ],
        );
        let bare = certificate(None, &[]);
        let spiffe = Some("spiffe://example/ns/[^/]+/sa/(.*)");
        for (sources, pattern, name) in [
            (&[CommonName][..], None, Some("ann")),
            (&[Dns(0)], None, Some("a.example")),
            (&[Dns(1)], None, Some("b.example")),
            (&[Dns(2)], None, None),
            (&[Dns(2), Email(0)], None, Some("ann@example.org")),
            (&[Uri(0)], None, Some("spiffe://example/ns/ci/sa/builder")),
            (&[Uri(0)], spiffe, Some("builder")),
            (
                &[Uri(0)],
                Some("spiffe://example/.*"),
                Some("spiffe://example/ns/ci/sa/builder"),
            ),
            (&[Uri(0)], Some("example/ns"), None),
        ] {
            assert_eq!(named(sources, pattern, &all).as_deref(), name, "{sources:?}");
            assert_eq!(named(sources, pattern, &bare), None);
        }
        assert_eq!(named(&[CommonName], None, &certificate(Some("a\nb"), &[])), None);
    }
}
