//! Conditions on what a reference names: `If-Match` and `If-None-Match` (RFC 9110, section 13).
//!
//! The entity tag of a manifest or blob is its digest in quotes, so that a condition is one on digests. Deliberately absent:
//! conditions on times, for nothing here has a `Last-Modified`, and `If-Range`.

use super::Digest;

/// What must be so for a request to be carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// `If-Match`: what the reference names is among these.
    pub if_match: Option<EntityTags>,
    /// `If-None-Match`: it isn't among these.
    pub if_none_match: Option<EntityTags>,
}

/// Entity tags as a header lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntityTags {
    /// `*`: whatever there is.
    Any,
    /// These.
    Listed(Vec<EntityTag>),
}

/// One entity tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    is_weak: bool,
    opaque: Vec<u8>,
}

/// How entity tags are compared (RFC 9110, 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// A weak one equals none.
    Strong,
    /// Weak or not doesn't matter.
    Weak,
}

/// The header is no list of entity tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'*' is expected, or entity tags in double quotes, with commas between them")]
pub struct EntityTagError;

impl Preconditions {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }

    /// Whether they hold where `current` is what the reference names, if it names anything.
    ///
    /// `If-Match` compares strongly, so a weak entity tag is never the one; `If-None-Match` doesn't (RFC 9110, 13.1.1 and
    /// 13.1.2).
    #[must_use]
    pub fn hold(&self, current: Option<&Digest>) -> bool {
        self.if_match_holds(current) && self.hold_again(current)
    }

    /// Whether `If-Match` does, whatever `If-None-Match` says: of a read, the former refuses and the latter only saves.
    #[must_use]
    pub fn if_match_holds(&self, current: Option<&Digest>) -> bool {
        let is_among = |tags: &EntityTags| tags.include(current, Comparison::Strong);
        self.if_match.as_ref().is_none_or(is_among)
    }

    /// The same for a request that has been carried out already: `If-Match` says what was there before, and isn't asked
    /// again (RFC 9110, 13.1.1).
    #[must_use]
    pub fn hold_again(&self, current: Option<&Digest>) -> bool {
        let Self { if_none_match, .. } = self;
        !if_none_match
            .as_ref()
            .is_some_and(|tags| tags.include(current, Comparison::Weak))
    }
}

impl EntityTags {
    /// Reads the values of a header, of which there may be several, or none.
    ///
    /// # Errors
    /// [`EntityTagError`] when together they are neither `*` nor a list of entity tags.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Self>, EntityTagError> {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return Ok(None);
        }
        let (mut tags, mut is_any) = (Vec::new(), false);
        for value in values {
            if value.trim_ascii() == b"*" {
                is_any = true;
            } else {
                read_list(value, &mut tags)?;
            }
        }
        match (is_any, tags.is_empty()) {
            (true, true) => Ok(Some(Self::Any)),
            (false, false) => Ok(Some(Self::Listed(tags))),
            (true, false) | (false, true) => Err(EntityTagError),
        }
    }

    fn include(&self, current: Option<&Digest>, by: Comparison) -> bool {
        match (self, current) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Listed(tags), Some(digest)) => {
                let mut named = tags.iter().filter(|tag| tag.opaque == digest.as_str().as_bytes());
                named.any(|tag| by == Comparison::Weak || !tag.is_weak)
            }
        }
    }
}

/// `#entity-tag` (RFC 9110, 5.6.1 and 8.8.3): a list may have empty elements, and a tag may have commas in its quotes.
fn read_list(value: &[u8], tags: &mut Vec<EntityTag>) -> Result<(), EntityTagError> {
    let mut rest = value.trim_ascii();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after.trim_ascii_start();
            continue;
        }
        let (is_weak, quoted) = match rest.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let opened = quoted.strip_prefix(b"\"").ok_or(EntityTagError)?;
        let end = opened
            .iter()
            .position(|byte| *byte == b'"')
            .ok_or(EntityTagError)?;
        let (opaque, after) = opened.split_at(end);
        // Every visible character but the quote, and what isn't ASCII.
        if opaque.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return Err(EntityTagError);
        }
        tags.push(EntityTag {
            is_weak,
            opaque: opaque.to_vec(),
        });
        rest = after[1..].trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return Err(EntityTagError);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::Algorithm;

    fn tags(values: &[&str]) -> Result<Option<EntityTags>, EntityTagError> {
        EntityTags::parse(values.iter().map(|value| value.as_bytes()))
    }

    fn conditions(if_match: &[&str], if_none_match: &[&str]) -> Preconditions {
        Preconditions {
            if_match: tags(if_match).unwrap(),
            if_none_match: tags(if_none_match).unwrap(),
        }
    }

    #[test]
    fn if_match_wants_what_is_there_to_be_among_them_and_if_none_match_not() {
        let [one, two] = ["one", "two"].map(|text| Digest::of(Algorithm::Sha256, text.as_bytes()));
        let quoted = format!("\"{one}\"");
        let (weak, among) = (format!("W/{quoted}"), format!("\"x\" ,, \"a,b\",{quoted}"));
        assert!(Preconditions::default().is_empty() && Preconditions::default().hold(None));
        for (if_match, if_none_match, holds_of) in [
            // Of nothing, of one, of two.
            (vec![&*quoted], vec![], [false, true, false]),
            (vec![&*among], vec![], [false, true, false]),
            (vec!["\"x\"", &*quoted], vec![], [false, true, false]),
            (vec![&*weak], vec![], [false, false, false]),
            (vec!["*"], vec![], [false, true, true]),
            (vec![], vec![&*quoted], [true, false, true]),
            (vec![], vec![&*weak], [true, false, true]),
            (vec![], vec!["\"x\"", &*among], [true, false, true]),
            (vec![], vec![" * "], [true, false, false]),
            (vec!["*"], vec![&*quoted], [false, false, true]),
        ] {
            let conditions = conditions(&if_match, &if_none_match);
            let found = [None, Some(&one), Some(&two)].map(|current| conditions.hold(current));
            assert_eq!(found, holds_of, "{if_match:?} {if_none_match:?}");
            assert!(!conditions.is_empty());
        }
    }

    #[test]
    fn what_is_no_list_of_entity_tags_is_an_error() {
        for malformed in [
            &[""][..],
            &[","],
            &["nonsense"],
            &["sha256:abc"],
            &["\"open"],
            &["\"a\" \"b\""],
            &["\"a b\""],
            &["w/\"a\""],
            &["W/"],
            &["*, \"a\""],
            &["*", "\"a\""],
            &["**"],
        ] {
            assert_eq!(tags(malformed), Err(EntityTagError), "{malformed:?}");
        }
        assert_eq!(tags(&[]), Ok(None));
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(value in "[*,W/\"a-c \\t]{0,20}|.{0,40}") {
            let _ = tags(&[&value]);
        }
    }
}
