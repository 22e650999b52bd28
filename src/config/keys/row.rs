//! What is said of a key: what its value looks like, and what becomes of it.

/// What a value must look like. The loader checks it; nothing after it meets a value of another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An object with keys of its own rows.
    Object,
    /// An object whose presence says something, however empty it is. With an `enable` key, that it is on, unless that
    /// is `false`.
    Section,
    /// An object whose `name`, one of these, decides which other keys it has.
    Driver(&'static [&'static str]),
    /// An object whose keys are the user's names; rows below say `*`.
    Map,
    /// A list of objects; rows below say `[]`.
    List,
    /// Anything; not looked at.
    Any,
    /// A string.
    Text,
    /// A string that is never shown.
    Secret,
    /// A list of strings, or one string with commas.
    Texts,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A TCP port, as a number or a string.
    Port,
    /// A duration in Go's notation.
    Duration,
    /// A number that may have a fraction.
    Number,
    /// One of these strings, in any case.
    OneOf(&'static [&'static str]),
}

impl Kind {
    /// Whether there are keys below it.
    pub(crate) fn has_rows_below(self) -> bool {
        matches!(
            self,
            Self::Object | Self::Section | Self::Driver(_) | Self::Map | Self::List | Self::Any
        )
    }
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Means what it means in zot.
    Same,
    /// Accepted; the text says what it does here.
    Mapped(&'static str),
    /// Accepted with a warning; the text says why it has no effect.
    NoEffect(&'static str),
    /// Not a key of zot; the text says what it does.
    Own(&'static str),
    /// Refused in this release; the text says when it comes and what to do until then.
    Later(&'static str),
    /// Refused; the text says what to do instead.
    Refused(&'static str),
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// The path, with `*` for a name of the user's and `[]` for an element of a list.
    pub(crate) path: &'static str,
    /// What its value must look like.
    pub(crate) kind: Kind,
    /// What becomes of it.
    pub(crate) verdict: Verdict,
    /// Applies only where the object holding it says `name: <driver>`.
    pub(crate) driver: Option<&'static str>,
    /// A list below it without which it asks for nothing.
    pub(crate) idle_without: Option<&'static str>,
}

pub(super) const fn key(path: &'static str, kind: Kind, verdict: Verdict) -> Key {
    Key {
        path,
        kind,
        verdict,
        driver: None,
        idle_without: None,
    }
}

impl Key {
    pub(super) const fn of(self, driver: &'static str) -> Self {
        Self {
            driver: Some(driver),
            ..self
        }
    }

    pub(super) const fn idle_without(self, list: &'static str) -> Self {
        Self {
            idle_without: Some(list),
            ..self
        }
    }

    /// The pattern of the object that it stands in.
    pub(crate) fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// The last segment, as it is written in a file.
    pub(crate) fn name(&self) -> &'static str {
        self.path
            .rsplit('.')
            .next()
            .unwrap_or(self.path)
            .trim_end_matches("[]")
    }
}
