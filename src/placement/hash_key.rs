//! The key of the placement hash, which all members must share.

use std::fmt;

/// The 16 bytes of `cluster.hashKey`. Its `Debug` doesn't show them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey([u8; 16]);

/// The text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash key of exactly 16 bytes is expected, this one has {length}")]
pub struct HashKeyError {
    /// How many bytes the text has.
    pub length: usize,
}

impl HashKey {
    /// A key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads the text of the configuration: its UTF-8 bytes are the key.
    ///
    /// # Errors
    /// [`HashKeyError`] when there aren't exactly 16 of them.
    pub fn parse(text: &str) -> Result<Self, HashKeyError> {
        text.as_bytes()
            .try_into()
            .map(Self)
            .map_err(|_| HashKeyError { length: text.len() })
    }

    /// The bytes, for the hash and for comparing members' settings.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(redacted)")
    }
}

impl std::str::FromStr for HashKey {
    type Err = HashKeyError;

    fn from_str(text: &str) -> Result<Self, HashKeyError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for HashKey {
    type Error = HashKeyError;

    fn try_from(text: &str) -> Result<Self, HashKeyError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_sixteen_bytes_and_keeps_them_to_itself() {
        let key = HashKey::parse("loremipsumdolors").unwrap();
        assert_eq!(key.as_bytes(), b"loremipsumdolors");
        assert_eq!(format!("{key:?}"), "HashKey(redacted)");
        for text in ["", "loremipsumdolor", "loremipsumdolorss", "löremipsumdolors"] {
            assert_eq!(HashKey::parse(text), Err(HashKeyError { length: text.len() }));
        }
    }
}
