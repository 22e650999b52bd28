//! Repository names and tags: the two names a client may choose.
//!
//! Deliberately absent: defaults (`latest`, `library/`) and host names, which are a client's business.

use std::{borrow::Borrow, sync::Arc};

use super::{Digest, text_newtype};

/// The longest repository name, in bytes. The specification sets no limit; clients stop at 255 including the host.
pub(super) const MAX_NAME_BYTES: usize = 255;

/// The longest tag, in bytes, as the specification has it.
const MAX_TAG_BYTES: usize = 128;

/// The name of a repository: `library/alpine`.
///
/// No component can begin with `_`, so `_catalog` and extension names can never collide with a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoName(Arc<str>);

/// The text is not a repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a repository name is expected: at most 255 bytes of components joined by '/', each of a-z and 0-9 \
     separated by one of '.', '_', '__' or any number of '-'"
)]
pub struct NameError;

impl RepoName {
    /// Reads a name by the specification's grammar,
    /// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`.
    ///
    /// # Errors
    /// [`NameError`] when the text doesn't match or is longer than 255 bytes.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() <= MAX_NAME_BYTES && text.split('/').all(is_component) {
            Ok(Self(text.into()))
        } else {
            Err(NameError)
        }
    }

    /// The name as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text_newtype!(RepoName, NameError);

// Names order as their texts do.
impl Borrow<str> for RepoName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Splitting at every letter and digit leaves exactly the separators, and "" between neighbours.
fn is_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |s: &str| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-');
    text.starts_with(word) && text.ends_with(word) && text.split(word).all(separator)
}

/// A tag: a name within a repository that may be moved from one manifest to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

/// The text is not a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a tag is expected: 1 to 128 characters of a-z, A-Z, 0-9, '_', '.' and '-', not beginning with '.' or '-'"
)]
pub struct TagError;

impl Tag {
    /// Reads a tag by the specification's grammar, `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
    ///
    /// # Errors
    /// [`TagError`] when the text doesn't match.
    pub fn parse(text: &str) -> Result<Self, TagError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let valid = text.len() <= MAX_TAG_BYTES
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(TagError)
        }
    }

    /// The tag as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The manifest of which signatures and the like are kept under the tag, if it is one for that: cosign's, or the
    /// specification's where there is no API of referrers.
    #[must_use]
    pub fn subject(&self) -> Option<Digest> {
        let hex = self.as_str().strip_prefix("sha256-")?.split('.').next()?;
        Digest::parse(&format!("sha256:{hex}")).ok()
    }
}

text_newtype!(Tag, TagError);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_of_signatures_are_told_from_others() {
        let of = |tag: &str| {
            Tag::parse(tag)
                .unwrap()
                .subject()
                .map(|digest| digest.to_string())
        };
        let hex = "0a".repeat(32);
        for signatures in [format!("sha256-{hex}.sig"), format!("sha256-{hex}")] {
            assert_eq!(of(&signatures), Some(format!("sha256:{hex}")), "{signatures}");
        }
        for other in ["sha256-abc.sig", "latest", &format!("sha256-{hex}0")] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn names_of_the_grammar_are_accepted() {
        for text in [
            "a",
            "0",
            "library/alpine",
            "a.b/c_d/e__f/g-h/i---j",
            "my-org/my_repo.v2/sub__x",
            "manifests",
            "blobs/uploads",
            "tags/list",
            &"a".repeat(255),
        ] {
            assert_eq!(RepoName::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn names_outside_the_grammar_are_refused() {
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a/B",
            "_catalog",
            "_catalog/a",
            ".a",
            "a.",
            "-a",
            "a-",
            "a_",
            "a..b",
            "a___b",
            "a._b",
            "a-.b",
            "a b",
            "a%2fb",
            "a:b",
            "..",
            "é",
            &"a".repeat(256),
        ] {
            assert_eq!(RepoName::parse(text), Err(NameError), "{text:?}");
        }
    }

    #[test]
    fn tags_outside_the_grammar_are_refused() {
        for text in ["", ".a", "-a", "a/b", "a:b", "a b", "a+b", "ä", &"a".repeat(129)] {
            assert_eq!(Tag::parse(text), Err(TagError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_displayed_as_it_was_written(
            text in r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}(/[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}){0,4}"
        ) {
            let name: RepoName = text.parse().unwrap();
            prop_assert_eq!(name.to_string(), text);
        }

        #[test]
        fn a_tag_is_displayed_as_it_was_written(text in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            let tag: Tag = text.parse().unwrap();
            prop_assert_eq!(tag.to_string(), text);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,300}", near in "[a-z/._-]{0,12}") {
            for text in [text, near] {
                if let Ok(name) = RepoName::parse(&text) {
                    prop_assert_eq!(name.as_str(), &text);
                    prop_assert!(!text.contains("//") && !text.contains("..") && !text.contains("___"));
                }
                if let Ok(tag) = Tag::parse(&text) {
                    prop_assert_eq!(tag.as_str(), text);
                }
            }
        }
    }
}
