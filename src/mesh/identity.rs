//! Who is at the other end of a mesh connection, by its certificate and nothing else.
//!
//! Every certificate here chains to the cluster's authority (TLS saw to that). The names in it decide the rest. Where
//! members are listed, one that equals the host of a member makes the peer that member. Where they aren't, one that
//! matches `cluster.tls.memberSan` makes it the member in whose lease the certificate's public key stands. One that
//! equals an administrator's or an operator's name makes it one. A certificate that is several counts as what may do most.
//!
//! Deliberately absent: the common name, wildcards in certificates, and anything a peer says about itself.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

use crate::{
    ownership::{KeyHash, MemberView, Proof, View},
    placement::MemberId,
};

/// Most names of a certificate that count.
const MAX_NAMES: usize = 256;

/// The names a certificate vouches for, and its public key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
    key: Option<KeyHash>,
}

/// The hash of a certificate's public key; `None` for one that can't be read.
#[must_use]
pub fn key_hash(certificate: &CertificateDer<'_>) -> Option<KeyHash> {
    Names::of(Some(&[certificate.clone().into_owned()])).key
}

/// The DNS name of a certificate that `san`, a `cluster.tls.memberSan`, makes a member's; `None` when it has none.
#[must_use]
pub fn member_name(certificate: &CertificateDer<'_>, san: &str) -> Option<String> {
    let names = Names::of(Some(&[certificate.clone().into_owned()]));
    names.matching(san).map(str::to_owned)
}

impl Names {
    /// Those of the first certificate of a verified chain. One that can't be read vouches for nobody.
    pub(super) fn of(chain: Option<&[CertificateDer<'static>]>) -> Self {
        let mut names = Self::default();
        let Some(certificate) = chain.and_then(<[_]>::first) else {
            return names;
        };
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return names;
        };
        let key = Sha256::digest(certificate.public_key().raw);
        names.key = Some(KeyHash::from_bytes(key.into()));
        let Ok(Some(alternatives)) = certificate.subject_alternative_name() else {
            return names;
        };
        for name in alternatives.value.general_names.iter().take(MAX_NAMES) {
            match name {
                GeneralName::DNSName(name) => names.dns.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        names
    }

    /// Whether the certificate vouches for `host`, a DNS name or an address.
    pub(super) fn cover(&self, host: &str) -> bool {
        match host.parse::<IpAddr>() {
            Ok(address) => self.addresses.contains(&address),
            Err(_) => self.dns.iter().any(|name| name.eq_ignore_ascii_case(host)),
        }
    }

    /// The first name that is `san`, in which `*.` in front stands for one label.
    fn matching(&self, san: &str) -> Option<&str> {
        let is_it = |name: &str| match san.strip_prefix("*.") {
            None => name.eq_ignore_ascii_case(san),
            Some(parent) => name
                .split_once('.')
                .is_some_and(|(label, rest)| label != "*" && rest.eq_ignore_ascii_case(parent)),
        };
        self.dns.iter().map(String::as_str).find(|name| is_it(name))
    }

    fn match_san(&self, san: &str) -> bool {
        self.matching(san).is_some()
    }

    /// Whether these are `member`'s.
    pub(super) fn prove(&self, member: &MemberView, proof: &Proof) -> bool {
        match proof {
            Proof::Host => self.cover(member.id.host()),
            Proof::Lease { san } => {
                let keys = member.lease.iter().flat_map(|lease| &lease.keys);
                self.match_san(san) && keys.into_iter().any(|key| Some(*key) == self.key)
            }
        }
    }

    /// Whether a lease that wasn't read yet could make these a member's.
    pub(super) fn may_be_new(&self, proof: &Proof) -> bool {
        match proof {
            Proof::Host => false,
            Proof::Lease { san } => self.match_san(san),
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// What a peer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// Everything.
    Member,
    /// Drain members, and ask for diagnostics.
    Administrator,
    /// Ask for diagnostics.
    Operator,
    /// Nothing.
    None,
}

/// Decides rights. Made anew from the view at each call, so that members may come and go.
#[derive(Clone, Debug)]
pub struct Rights {
    operators: Vec<String>,
    administrators: Vec<String>,
}

impl Rights {
    /// `operators` and `administrators` are the names of the keys in `cluster.tls` that are called so.
    #[must_use]
    pub fn new(operators: Vec<String>, administrators: Vec<String>) -> Self {
        Self {
            operators,
            administrators,
        }
    }

    /// What the holder of a certificate with `names` may do.
    pub(super) fn of(&self, names: &Names, view: &dyn View) -> Right {
        let proof = view.proof();
        if view.members().iter().any(|member| names.prove(member, &proof)) {
            Right::Member
        } else if self.administrators.iter().any(|name| names.cover(name)) {
            Right::Administrator
        } else if self.operators.iter().any(|name| names.cover(name)) {
            Right::Operator
        } else {
            Right::None
        }
    }
}

/// Whether the holder of a certificate with `names` may call itself `sender`.
pub(super) fn vouches(names: &Names, sender: &MemberId, view: &dyn View) -> bool {
    let (members, proof) = (view.members(), view.proof());
    let mut of_that_name = members.iter().filter(|member| member.id == *sender);
    of_that_name.any(|member| names.prove(member, &proof))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;

    use super::*;
    use crate::{
        config::Collecting,
        net::test_certificates::Authority,
        ownership::{Incarnation, LeaseView, Liveness, StaticView},
    };

    fn names(sans: &[&str]) -> Names {
        let authority = Authority::new();
        let files = authority.issue("peer", sans);
        Names::of(Some(&[CertificateDer::from_pem_slice(
            &std::fs::read(files.certificate).unwrap(),
        )
        .unwrap()]))
    }

    fn view() -> StaticView {
        let member = |name: &str| (name.parse::<MemberId>().unwrap(), String::new());
        StaticView::new(
            "127.0.0.1:5000".parse().unwrap(),
            ["127.0.0.1:5000", "[::1]:5000", "a.example.org:5000"].map(member),
        )
    }

    #[test]
    fn a_certificate_gives_the_rights_of_its_names() {
        let rights = Rights::new(
            vec!["operator".to_owned(), "10.0.0.9".to_owned()],
            vec!["administrator".to_owned()],
        );
        for (sans, right) in [
            (&["127.0.0.1"][..], Right::Member),
            (&["::1"], Right::Member),
            (&["A.example.org"], Right::Member),
            (&["operator"], Right::Operator),
            (&["10.0.0.9"], Right::Operator),
            (&["operator", "a.example.org"], Right::Member),
            (&["administrator"], Right::Administrator),
            (&["operator", "administrator"], Right::Administrator),
            (&["administrator", "a.example.org"], Right::Member),
            (&["administrator.example.org"], Right::None),
            (&["b.example.org"], Right::None),
            (&["*.example.org"], Right::None),
            (&["example.org"], Right::None),
            (&["operator.example.org"], Right::None),
            (&[], Right::None),
        ] {
            assert_eq!(rights.of(&names(sans), &view()), right, "{sans:?}");
        }
        assert_eq!(rights.of(&Names::of(None), &view()), Right::None);
        let garbage = [CertificateDer::from(vec![1, 2, 3])];
        assert_eq!(Names::of(Some(&garbage)), Names::default());
    }

    #[test]
    fn where_members_are_not_listed_their_leases_tell_them_by_their_keys() {
        let proof = |san: &str| Proof::Lease { san: san.to_owned() };
        let member = |keys: Vec<KeyHash>| MemberView {
            id: "pod-7:5000".parse().unwrap(),
            mesh_address: String::new(),
            liveness: Liveness::Live,
            lease: Some(LeaseView {
                incarnation: Incarnation::random(),
                unchanged: std::time::Duration::ZERO,
                left: false,
                drained: false,
                protocol: (1, 1),
                keys,
                differs: vec![],
                collecting: Collecting::On,
            }),
        };
        let its = names(&["a.member.internal"]);
        let leased = member(vec![KeyHash::from_bytes([0; 32]), its.key.unwrap()]);
        for (san, right) in [
            ("a.member.internal", true),
            ("*.member.internal", true),
            ("member.internal", false),
            ("*.internal", false),
            ("b.member.internal", false),
        ] {
            assert_eq!(its.prove(&leased, &proof(san)), right, "{san}");
            assert_eq!(its.may_be_new(&proof(san)), right, "{san}");
        }
        // Another key of the same name, a wildcard certificate, and a member without a lease.
        let proof = proof("*.member.internal");
        assert!(!names(&["a.member.internal"]).prove(&leased, &proof));
        let wild = names(&["*.member.internal"]);
        assert!(!wild.prove(&member(vec![wild.key.unwrap()]), &proof));
        let without = MemberView {
            lease: None,
            ..leased
        };
        assert!(!its.prove(&without, &proof));
    }

    #[test]
    fn a_peer_may_only_name_itself() {
        let names = names(&["127.0.0.1"]);
        let vouches = |sender: &str| vouches(&names, &sender.parse().unwrap(), &view());
        assert!(vouches("127.0.0.1:5000"));
        assert!(!vouches("127.0.0.1:5001"), "no member");
        assert!(!vouches("a.example.org:5000"), "another member");
    }
}
