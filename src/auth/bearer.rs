//! Tokens of an external service, by docker's protocol: JSON Web Tokens (RFC 7519) signed with RS256, ES256 or EdDSA.
//!
//! A token is for this registry (`aud`), for now (`exp`, `nbf`, a minute of leeway for clocks), and says itself what
//! its bearer may do (`access`): pull is reading, push creating and overwriting. Deliberately absent: asking anybody
//! (tokens are verified by keys in a file) and revoking one (they are short-lived; the service stops renewing them).

use async_trait::async_trait;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use x509_parser::{
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519},
    pem::Pem,
    prelude::{FromDer as _, X509Certificate},
    x509::SubjectPublicKeyInfo,
};

use super::{
    AuthError, Authenticator, Credentials, Evidence, FileFault, Login, Verdict, Via,
    jws::{self, Key},
    scope::granted,
    watched::Watched,
};
use crate::{
    admission::Grants,
    clock,
    config::access::{Bearer, TokenKeys, is_user_name},
    oci::RepoName,
};

/// How far the clocks of the service and of this member may be apart, in seconds.
const LEEWAY_SECONDS: u64 = 60;

/// What such services sign by.
const ACCEPTED: &[Algorithm] = &[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

pub(super) struct Tokens {
    service: String,
    keys: Watched<Vec<Key>>,
}

impl Tokens {
    pub(super) fn load(bearer: &Bearer) -> Result<Self, FileFault> {
        let keys = match &bearer.keys {
            TokenKeys::Pem(file) => Watched::load(file, pem_keys)?,
            TokenKeys::Jwks(file) => Watched::load(file, jwks_keys)?,
        };
        Ok(Self {
            service: bearer.service.clone(),
            keys,
        })
    }

    fn login(&self, token: &str) -> Option<Login> {
        let validation = |algorithm| {
            let mut validation = Validation::new(algorithm);
            validation.set_audience(&[&self.service]);
            validation.set_required_spec_claims(&["exp", "aud"]);
            validation.leeway = LEEWAY_SECONDS;
            validation.validate_nbf = true;
            validation
        };
        let claims: Claims = jws::verified(token, &self.keys.current(), validation).ok()?;
        let user = claims.sub.unwrap_or_default();
        if !user.is_empty() && !is_user_name(&user) {
            return None;
        }
        Some(Login {
            user,
            groups: Vec::new(),
            via: via(claims.access.unwrap_or_default()),
        })
    }
}

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, evidence: &Evidence<'_>) -> Result<Verdict, AuthError> {
        let Credentials::Bearer(token) = &evidence.credentials else {
            return Ok(Verdict::NotMine);
        };
        Ok(self.login(token).map_or(Verdict::Refused, Verdict::Known))
    }

    fn look(&self) {
        self.keys.look();
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    access: Option<Vec<Value>>,
}

/// One entry of `access`. Types and actions that aren't known give nothing.
#[derive(Deserialize)]
struct Access {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    /// `null` is how Go writes an empty list.
    #[serde(default, deserialize_with = "null_is_empty")]
    actions: Vec<String>,
    /// When it ends, in seconds since the Unix epoch: some services give entries less time than the token.
    exp: Option<f64>,
}

fn null_is_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

impl Access {
    /// One that can't be read grants nothing and takes nothing from the others.
    fn read(entry: Value) -> Option<Self> {
        serde_json::from_value(entry).ok()
    }

    fn is_over(&self) -> bool {
        let now = clock::now_ms() as f64 / 1e3;
        self.exp.is_some_and(|end| end + LEEWAY_SECONDS as f64 <= now)
    }
}

fn via(access: Vec<Value>) -> Via {
    let mut grants = Grants::none();
    let mut catalog = false;
    for entry in access.into_iter().filter_map(Access::read) {
        if entry.is_over() {
            continue;
        }
        match (entry.kind.as_str(), RepoName::parse(&entry.name)) {
            ("repository", Ok(repository)) => {
                let actions = entry.actions.iter().flat_map(|action| granted(action));
                grants.grant(repository, actions.copied());
            }
            ("registry", _) if entry.name == "catalog" => {
                catalog |= entry.actions.iter().any(|action| action == "*");
            }
            _ => {}
        }
    }
    Via::Token { grants, catalog }
}

fn pem_keys(content: &[u8]) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for block in Pem::iter_from_buffer(content) {
        let block = block.map_err(|error| format!("it is no PEM: {error}"))?;
        let malformed = || format!("its {} is malformed", block.label);
        keys.push(match block.label.as_str() {
            "CERTIFICATE" => {
                let (_, certificate) = X509Certificate::from_der(&block.contents).map_err(|_| malformed())?;
                public_key(certificate.public_key())?
            }
            "PUBLIC KEY" => {
                let (_, info) = SubjectPublicKeyInfo::from_der(&block.contents).map_err(|_| malformed())?;
                public_key(&info)?
            }
            "RSA PUBLIC KEY" => Key::new(Algorithm::RS256, DecodingKey::from_rsa_der(&block.contents)),
            label if label.ends_with("PRIVATE KEY") => {
                return Err("it holds a private key: that belongs to the token service alone, give the certificate or the public key".to_owned());
            }
            label => return Err(format!("it holds a {label}, expected CERTIFICATE or PUBLIC KEY")),
        });
    }
    match keys.is_empty() {
        true => Err("it holds no certificate and no public key in PEM form".to_owned()),
        false => Ok(keys),
    }
}

fn public_key(info: &SubjectPublicKeyInfo<'_>) -> Result<Key, String> {
    let bits = &info.subject_public_key.data;
    let curve = info
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok());
    let kind = &info.algorithm.algorithm;
    let (algorithm, key) = if *kind == OID_PKCS1_RSAENCRYPTION {
        (Algorithm::RS256, DecodingKey::from_rsa_der(bits))
    } else if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == Some(OID_EC_P256) {
        (Algorithm::ES256, DecodingKey::from_ec_der(bits))
    } else if *kind == OID_SIG_ED25519 {
        (Algorithm::EdDSA, DecodingKey::from_ed_der(bits))
    } else {
        return Err("its key is of another kind than RSA, P-256 and Ed25519".to_owned());
    };
    Ok(Key::new(algorithm, key))
}

fn jwks_keys(content: &[u8]) -> Result<Vec<Key>, String> {
    let set: JwkSet =
        serde_json::from_slice(content).map_err(|error| format!("it is no JSON Web Key Set: {error}"))?;
    let mut keys = Vec::new();
    for key in &set.keys {
        // Those for encryption, and symmetric ones, sign nothing here.
        let key = Key::of_jwk(key, ACCEPTED).map_err(|_| "one of its keys is malformed".to_owned())?;
        keys.extend(key);
    }
    match keys.is_empty() {
        true => Err("it holds no RSA, P-256 or Ed25519 key for signatures".to_owned()),
        false => Ok(keys),
    }
}

#[cfg(test)]
mod tests;
