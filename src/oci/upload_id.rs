//! The name of an upload session.
//!
//! Deliberately absent: what a session holds. Nothing is encoded in the id, so that a client can neither read nor
//! forge the state of a session.

use std::sync::Arc;

use super::text_newtype;

/// 128 random bits as 32 lower-case hexadecimal digits. Who knows it may continue the session (with the right to push).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(Arc<str>);

/// The text is not the name of an upload session, so no session has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an upload session is expected to be named by 32 lower-case hexadecimal digits")]
pub struct UploadIdError;

impl UploadId {
    /// A fresh name, which nobody can guess.
    ///
    /// # Panics
    /// When the operating system can't give random bytes, as the standard library's hash maps do.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "without a source of randomness nothing here is safe to go on"
    )]
    pub fn random() -> Self {
        let mut bits = [0; 16];
        crate::entropy::fill(&mut bits).expect("the operating system gives random bytes");
        Self(hex::encode(bits).into())
    }

    /// Reads the last segment of a session's path.
    ///
    /// # Errors
    /// [`UploadIdError`] when the text isn't 32 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, UploadIdError> {
        let lower_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 32 && text.bytes().all(lower_hex) {
            Ok(Self(text.into()))
        } else {
            Err(UploadIdError)
        }
    }

    /// The name as it is written in a path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text_newtype!(UploadId, UploadIdError);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fresh_id_is_unique_and_reads_back() {
        let id = UploadId::random();
        assert_ne!(id, UploadId::random());
        assert_eq!(UploadId::parse(id.as_str()), Ok(id));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "0",
            "0123456789ABCDEF0123456789ABCDEF",
            "../0123456789abcdef0123456789abc",
        ] {
            assert_eq!(UploadId::parse(text), Err(UploadIdError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn an_id_is_displayed_as_it_was_written(text in "[0-9a-f]{32}", other in ".{0,40}") {
            prop_assert_eq!(UploadId::parse(&text).unwrap().to_string(), text);
            let _ = UploadId::parse(&other);
        }
    }
}
