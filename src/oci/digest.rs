//! Content addresses: an algorithm and the hash it gave.
//!
//! Only registered algorithms exist here, so a [`Digest`] can always be verified. Deliberately absent: hashing of
//! streams with a state that can be kept, which belongs to uploads.

use std::{fmt, str::FromStr, sync::Arc};

use sha2::{Digest as _, Sha256, Sha512};

use super::text_newtype;

/// A registered digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, the canonical algorithm: a manifest pushed by tag gets this one.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name in front of the colon.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits follow the colon.
    #[must_use]
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(DigestError::UnsupportedAlgorithm),
        }
    }
}

/// The address of content: `sha256:` and 64 lower-case hexadecimal digits, or `sha512:` and 128.
///
/// Digests are ordered by their text, as listings are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    text: Arc<str>,
    algorithm: Algorithm,
}

/// The text is not a digest that can be verified here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not of the form `algorithm:encoded`, or the encoding is wrong for the algorithm.
    #[error("a digest is expected: 'sha256:' and 64 lower-case hexadecimal digits, or 'sha512:' and 128")]
    Malformed,
    /// Well formed, of an algorithm that isn't registered.
    #[error("the digest algorithm is not supported: sha256 or sha512 is expected")]
    UnsupportedAlgorithm,
}

impl Digest {
    /// Reads `algorithm:hex`.
    ///
    /// # Errors
    /// [`DigestError::UnsupportedAlgorithm`] for a digest of the specification's general form whose algorithm isn't
    /// registered, else [`DigestError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let (algorithm, encoded) = text.split_once(':').ok_or(DigestError::Malformed)?;
        if !is_algorithm(algorithm) || !is_encoded(encoded) {
            return Err(DigestError::Malformed);
        }
        let algorithm: Algorithm = algorithm.parse()?;
        let lower_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if encoded.len() != algorithm.hex_len() || !encoded.bytes().all(lower_hex) {
            return Err(DigestError::Malformed);
        }
        Ok(Self {
            text: text.into(),
            algorithm,
        })
    }

    /// The digest of `content`, all of which is in memory.
    #[must_use]
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::encode(algorithm, &Sha256::digest(content)),
            Algorithm::Sha512 => Self::encode(algorithm, &Sha512::digest(content)),
        }
    }

    /// The digest whose hash, as raw bytes, is `hash`.
    ///
    /// # Errors
    /// [`DigestError::Malformed`] when `hash` hasn't the length of the algorithm's output.
    pub fn from_bytes(algorithm: Algorithm, hash: &[u8]) -> Result<Self, DigestError> {
        if hash.len() * 2 == algorithm.hex_len() {
            Ok(Self::encode(algorithm, hash))
        } else {
            Err(DigestError::Malformed)
        }
    }

    fn encode(algorithm: Algorithm, hash: &[u8]) -> Self {
        Self {
            text: format!("{algorithm}:{}", hex::encode(hash)).into(),
            algorithm,
        }
    }

    /// The algorithm in front of the colon.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal digits after the colon.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.as_str().len() + 1..]
    }

    /// The whole digest, as it is written in a path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

text_newtype!(Digest, DigestError);

/// `[a-z0-9]+([+._-][a-z0-9]+)*`
fn is_algorithm(text: &str) -> bool {
    text.split(['+', '.', '_', '-'])
        .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

/// `[a-zA-Z0-9=_-]+`
fn is_encoded(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_well_known_one() {
        assert_eq!(
            Digest::of(Algorithm::Sha256, b"").as_str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            Digest::of(Algorithm::Sha512, b"").as_str(),
            "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
             47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
        );
    }

    #[test]
    fn a_wrong_form_and_an_unknown_algorithm_are_told_apart() {
        let hex = "a".repeat(64);
        for text in [
            String::new(),
            "sha256".into(),
            "sha256:".into(),
            "sha256:baddigeststring".into(),
            format!("sha256:{}", "A".repeat(64)),
            format!("sha256:{}g", "a".repeat(63)),
            format!("sha256:{hex}a"),
            format!("sha512:{hex}"),
            format!("SHA256:{hex}"),
            format!(":{hex}"),
            format!("sha256::{hex}"),
            format!("sha+:{hex}"),
            format!("sha256:{hex}\n"),
            format!("md5:{hex}/.."),
        ] {
            assert_eq!(Digest::parse(&text), Err(DigestError::Malformed), "{text:?}");
        }
        for text in [format!("sha384:{hex}"), "md5:0".into(), "blake3+b64:Aa=_-".into()] {
            assert_eq!(
                Digest::parse(&text),
                Err(DigestError::UnsupportedAlgorithm),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_hash_of_the_wrong_length_is_refused() {
        assert_eq!(
            Digest::from_bytes(Algorithm::Sha256, &[0; 64]),
            Err(DigestError::Malformed)
        );
        assert!(Digest::from_bytes(Algorithm::Sha512, &[0; 64]).is_ok());
    }

    proptest! {
        #[test]
        fn a_digest_is_displayed_as_it_was_written(text in "sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}") {
            let digest: Digest = text.parse().unwrap();
            prop_assert_eq!(digest.to_string(), text.clone());
            prop_assert_eq!(format!("{}:{}", digest.algorithm(), digest.hex()), text);
            let hash = hex::decode(digest.hex()).unwrap();
            prop_assert_eq!(Digest::from_bytes(digest.algorithm(), &hash), Ok(digest));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,140}", near in "[a-z0-9+:._-]{0,80}") {
            let _ = Digest::parse(&text);
            let _ = Digest::parse(&near);
        }
    }
}
