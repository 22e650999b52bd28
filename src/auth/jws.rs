//! Tokens that others sign: compact JSON Web Signatures (RFC 7515), verified by keys that were given or fetched (RFC 7517).
//!
//! The algorithm is one of public keys, and one that the key is for: `none` and shared secrets aren't known here, whatever a
//! token says. One whose header demands an extension (`crit`) is refused, for no extension is known (RFC 7515, 4.1.11).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    errors::ErrorKind,
    jwk::{self, Jwk},
};
use serde::{Deserialize, de::DeserializeOwned};

/// All algorithms that a key can be for.
pub(super) const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The longest token that is looked at, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// Who a token says has issued it (`iss`), which isn't verified; `None` where that is no token, or of nobody.
pub(super) fn issuer_of(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Said {
        iss: String,
    }
    if token.len() > MAX_BYTES {
        return None;
    }
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&payload).ok().map(|said: Said| said.iss)
}

/// A key that signs tokens.
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Why a token isn't believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unverified {
    /// It is none, or says what nobody here would believe, or not any more; whoever signed it.
    Wrong,
    /// None of the keys has signed it; one that isn't known yet might have.
    NoKey,
}

impl Key {
    pub(super) fn new(algorithm: Algorithm, key: DecodingKey) -> Self {
        Self {
            id: None,
            algorithms: vec![algorithm],
            key,
        }
    }

    /// A key of a set, for those of `accepted` that it can sign by; `None` where there are none, as of those for encryption and
    /// of shared secrets.
    ///
    /// # Errors
    /// It is malformed.
    pub(super) fn of_jwk(
        jwk: &Jwk,
        accepted: &[Algorithm],
    ) -> Result<Option<Self>, jsonwebtoken::errors::Error> {
        let signs_by: &[Algorithm] = match &jwk.algorithm {
            jwk::AlgorithmParameters::RSA(_) => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            jwk::AlgorithmParameters::EllipticCurve(curve) => match &curve.curve {
                jwk::EllipticCurve::P256 => &[Algorithm::ES256],
                jwk::EllipticCurve::P384 => &[Algorithm::ES384],
                _ => &[],
            },
            jwk::AlgorithmParameters::OctetKeyPair(_) => &[Algorithm::EdDSA],
            // Shared secrets, and what is yet to come.
            _ => &[],
        };
        let says = jwk.common.key_algorithm.map(|says| says.to_string());
        let is_for = |algorithm: &Algorithm| {
            let is_said = says.as_ref().is_none_or(|says| *says == format!("{algorithm:?}"));
            is_said && accepted.contains(algorithm)
        };
        let algorithms: Vec<_> = signs_by.iter().copied().filter(is_for).collect();
        let encrypts = matches!(jwk.common.public_key_use, Some(jwk::PublicKeyUse::Encryption));
        if algorithms.is_empty() || encrypts {
            return Ok(None);
        }
        Ok(Some(Self {
            id: jwk.common.key_id.clone(),
            algorithms,
            key: DecodingKey::from_jwk(jwk)?,
        }))
    }
}

/// What a token says that one of `keys` signed, once `validation` of its algorithm has found nothing.
///
/// # Errors
/// [`Unverified`].
pub(super) fn verified<T: DeserializeOwned>(
    token: &str,
    keys: &[Key],
    validation: impl FnOnce(Algorithm) -> Validation,
) -> Result<T, Unverified> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| Unverified::Wrong)?;
    if header.crit.is_some() || !ALGORITHMS.contains(&header.alg) {
        return Err(Unverified::Wrong);
    }
    let validation = validation(header.alg);
    let may_have_signed = |key: &&Key| {
        let same_id = match (&key.id, &header.kid) {
            (Some(own), Some(named)) => own == named,
            _ => true,
        };
        key.algorithms.contains(&header.alg) && same_id
    };
    for key in keys.iter().filter(may_have_signed) {
        match jsonwebtoken::decode::<T>(token, &key.key, &validation) {
            Ok(token) => return Ok(token.claims),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
            Err(_) => return Err(Unverified::Wrong),
        }
    }
    Err(Unverified::NoKey)
}
