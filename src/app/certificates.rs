//! The certificates of a `dev` mesh: an authority, a pair for each member and one for the operator, in a directory.
//!
//! They are kept: whoever trusts the authority today does so after a restart. What is missing, nearly expired or of
//! another authority is made anew. Nothing of this is used by `portolan serve`.

use std::{
    fs, io,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// SAN of the operator's certificate.
pub(super) const OPERATOR: &str = "operator";

/// What is left of a certificate's life when it is made anew.
const RENEW_BEFORE: Duration = Duration::days(30);

/// Certificates can't be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read or written.
    #[error("can't read or write {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A key or a certificate can't be made.
    #[error("can't make a certificate")]
    Make(#[from] rcgen::Error),
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub cert: PathBuf,
    /// The key; only its owner may read it.
    pub key: PathBuf,
}

impl Pair {
    fn at(folder: &Path, name: &str) -> Self {
        Self {
            cert: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        }
    }
}

/// The certificates of a mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevCertificates {
    /// The authority's.
    pub ca: PathBuf,
    /// One for each member.
    pub members: Vec<Pair>,
    /// The operator's.
    pub operator: Pair,
}

impl DevCertificates {
    /// Those in `folder` for members at `addresses`, made where need be.
    ///
    /// # Errors
    /// [`CertificateError`], with the file.
    pub fn mint(folder: &Path, addresses: &[IpAddr]) -> Result<Self, CertificateError> {
        fs::create_dir_all(folder).map_err(|source| CertificateError::File {
            path: folder.to_owned(),
            source,
        })?;
        let authority = Pair::at(folder, "ca");
        let ca_key = match kept_authority(&authority)? {
            Some(key) => Kept { key, is_new: false },
            None => Kept {
                key: make_authority(&authority)?,
                is_new: true,
            },
        };
        let issuer = Issuer::new(authority_params()?, &ca_key.key);
        let pair = |name: &str, san: String, usages: &[ExtendedKeyUsagePurpose]| {
            let pair = Pair::at(folder, name);
            if ca_key.is_new || !is_good(&pair, &san)? {
                issue(&pair, &san, usages, &issuer)?;
            }
            Ok::<_, CertificateError>(pair)
        };
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let members = addresses
            .iter()
            .zip(1..)
            .map(|(address, n)| {
                pair(
                    &format!("member-{n}"),
                    address.to_string(),
                    &[ServerAuth, ClientAuth],
                )
            })
            .collect::<Result<_, _>>()?;
        let operator = pair(OPERATOR, OPERATOR.to_owned(), &[ClientAuth])?;
        Ok(Self {
            ca: authority.cert,
            members,
            operator,
        })
    }
}

struct Kept {
    key: KeyPair,
    is_new: bool,
}

/// Always the same, so that the issuer in later certificates is the one in the first.
fn authority_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(Vec::new(), "Portolan dev authority", Duration::days(3650))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn params(sans: Vec<String>, name: &str, life: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(sans)?;
    params.distinguished_name.push(DnType::CommonName, name);
    // Clocks differ a little, even on one machine with containers of it.
    params.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
    params.not_after = OffsetDateTime::now_utc() + life;
    Ok(params)
}

fn kept_authority(pair: &Pair) -> Result<Option<KeyPair>, CertificateError> {
    let Some(key) = read(&pair.key)? else {
        return Ok(None);
    };
    let Some(cert) = read(&pair.cert)? else {
        return Ok(None);
    };
    Ok(match (KeyPair::from_pem(&key), is_current(&cert, None)) {
        (Ok(key), true) => Some(key),
        _ => None,
    })
}

fn make_authority(pair: &Pair) -> Result<KeyPair, CertificateError> {
    let key = KeyPair::generate()?;
    let cert = authority_params()?.self_signed(&key)?;
    write(&pair.key, &key.serialize_pem(), 0o600)?;
    write(&pair.cert, &cert.pem(), 0o644)?;
    Ok(key)
}

fn issue(
    pair: &Pair,
    san: &str,
    usages: &[ExtendedKeyUsagePurpose],
    issuer: &Issuer<'_, &KeyPair>,
) -> Result<(), CertificateError> {
    let mut params = params(vec![san.to_owned()], san, Duration::days(825))?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.to_vec();
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, issuer)?;
    write(&pair.key, &key.serialize_pem(), 0o600)?;
    write(&pair.cert, &cert.pem(), 0o644)
}

fn is_good(pair: &Pair, san: &str) -> Result<bool, CertificateError> {
    let Some(key) = read(&pair.key)? else {
        return Ok(false);
    };
    let Some(cert) = read(&pair.cert)? else {
        return Ok(false);
    };
    Ok(KeyPair::from_pem(&key).is_ok() && is_current(&cert, Some(san)))
}

/// Whether the certificate will live for a while, and names `san`.
fn is_current(pem: &str, san: Option<&str>) -> bool {
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(pem.as_bytes()) else {
        return false;
    };
    let Ok(cert) = pem.parse_x509() else { return false };
    let ends = cert.validity().not_after.to_datetime();
    let names = match cert.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.clone(),
        _ => Vec::new(),
    };
    let is_named = san.is_none_or(|san| names.iter().any(|name| says(name, san)));
    is_named && ends > OffsetDateTime::now_utc() + RENEW_BEFORE
}

fn says(name: &x509_parser::extensions::GeneralName<'_>, san: &str) -> bool {
    use x509_parser::extensions::GeneralName;
    match name {
        GeneralName::DNSName(dns) => *dns == san,
        GeneralName::IPAddress(bytes) => san.parse::<IpAddr>().is_ok_and(|address| match address {
            IpAddr::V4(v4) => v4.octets() == **bytes,
            IpAddr::V6(v6) => v6.octets() == **bytes,
        }),
        _ => false,
    }
}

fn read(path: &Path) -> Result<Option<String>, CertificateError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CertificateError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Whole or not at all, and never readable by more than `mode` allows.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertificateError> {
    let fault = |source| CertificateError::File {
        path: path.to_owned(),
        source,
    };
    let draft = path.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(&draft)
        .map_err(fault)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(fault)?;
    fs::rename(&draft, path).map_err(fault)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn addresses(count: u8) -> Vec<IpAddr> {
        (1..=count).map(|n| IpAddr::from([127, 0, 0, n])).collect()
    }

    #[test]
    fn certificates_are_kept_and_a_further_member_gets_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let two = DevCertificates::mint(folder.path(), &addresses(2)).unwrap();
        let before = fs::read(&two.members[0].cert).unwrap();
        let three = DevCertificates::mint(folder.path(), &addresses(3)).unwrap();
        assert_eq!(fs::read(&three.members[0].cert).unwrap(), before);
        assert_eq!(three.members.len(), 3);
        for key in three
            .members
            .iter()
            .chain([&three.operator])
            .map(|pair| &pair.key)
        {
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_lost_or_foreign_pair_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let first = DevCertificates::mint(folder.path(), &addresses(2)).unwrap();
        let other = fs::read(&first.members[1].cert).unwrap();
        // The second member's certificate in the first one's place names another address.
        fs::write(&first.members[0].cert, &other).unwrap();
        DevCertificates::mint(folder.path(), &addresses(2)).unwrap();
        assert_ne!(fs::read(&first.members[0].cert).unwrap(), other);

        fs::remove_file(folder.path().join("ca.key")).unwrap();
        DevCertificates::mint(folder.path(), &addresses(2)).unwrap();
        assert_ne!(
            fs::read(&first.members[1].cert).unwrap(),
            other,
            "a new authority issues everything anew"
        );
    }
}
