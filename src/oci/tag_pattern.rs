//! Patterns of tags: a tag, in which `*` stands for any characters, perhaps none.

use std::fmt;

/// The longest pattern, in bytes: a tag has at most 128.
const MAX_BYTES: usize = 128;

/// A pattern of tags.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TagPattern(String);

/// A text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pattern of tags has 1 to {MAX_BYTES} of the characters A-Z a-z 0-9 _ . - and * (which stands for any of them)"
)]
pub struct TagPatternError;

impl TagPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`TagPatternError`] for one that no tag can be like.
    pub fn parse(text: &str) -> Result<Self, TagPatternError> {
        let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-*".contains(&byte);
        // No tag begins with one of the other two.
        let begins = text.bytes().next().is_some_and(|first| !b".-".contains(&first));
        match begins && text.len() <= MAX_BYTES && text.bytes().all(is_one) {
            true => Ok(Self(text.to_owned())),
            false => Err(TagPatternError),
        }
    }

    /// Whether the tag is like it, from its first character to its last.
    #[must_use]
    pub fn matches(&self, tag: &super::Tag) -> bool {
        let mut pieces = self.0.split('*');
        let Some(first) = pieces.next() else {
            return false;
        };
        let Some(mut rest) = tag.as_str().strip_prefix(first) else {
            return false;
        };
        let Some(last) = pieces.next_back() else {
            return rest.is_empty();
        };
        // Each piece where it is first found leaves the most to those after it.
        for piece in pieces {
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Tag;

    #[test]
    fn a_star_is_any_characters_and_everything_else_is_itself() {
        for (pattern, like, unlike) in [
            ("v1", &["v1"][..], &["v", "v11", "av1"][..]),
            ("*", &["v1", "_"], &[]),
            ("v*", &["v", "v1", "v1.2-rc"], &["av", "latest"]),
            ("*-rc", &["v1-rc", "a-rc-rc"], &["rc", "v1-rc1"]),
            ("v*.*.*", &["v1.2.3", "v...", "v1.2.3.4"], &["v1.2", "1.2.3"]),
            ("a*b*b", &["abb", "axbyb"], &["ab", "abx"]),
            ("a**b", &["ab", "axb"], &["a", "b"]),
        ] {
            let parsed = TagPattern::parse(pattern).unwrap();
            for (tags, expected) in [(like, true), (unlike, false)] {
                for tag in tags {
                    assert_eq!(
                        parsed.matches(&Tag::parse(tag).unwrap()),
                        expected,
                        "{tag} by {pattern}"
                    );
                }
            }
        }
        for none in ["", ".*", "-a", "a b", "v[0-9]", "v1.?", "é", &"a".repeat(129)] {
            assert_eq!(TagPattern::parse(none), Err(TagPatternError), "{none}");
        }
    }
}
