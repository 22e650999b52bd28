//! Reading a JSON document by what is expected at each of its places.
//!
//! serde's own `Deserialize` takes a list for an object and says what is wrong in Rust's words. Here a [`Shape`] says which
//! values a place may hold, and whatever else stands there is an error that names the place: "`layers[1].size`: a whole
//! number is expected, not a string". What nobody reads isn't kept, so a document takes no more memory than its bytes.
//!
//! Absent on purpose: which fields there are, and which of them must be there.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A place in a document.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Document,
    Field(&'a Place<'a>, &'static str),
    Item(&'a Place<'a>, usize),
    /// A key that its object may have or not.
    Key(&'a Place<'a>, &'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document => f.write_str("the document"),
            Self::Field(Self::Document, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, n) => write!(f, "{parent}[{n}]"),
            // Keys may be long.
            Self::Key(parent, key) => write!(f, "{parent}[{:?}]", key.chars().take(64).collect::<String>()),
        }
    }
}

/// What a place may hold, beside `null`. A shape takes one kind of value or two, and refuses the others.
pub(super) trait Shape: Sized {
    type Value;

    /// As people would say it: "a string".
    const EXPECTED: &'static str;

    fn text<E: Error>(at: Place<'_>, _: &str) -> Result<Self::Value, E> {
        Err(unexpected::<Self, E>(at, "a string"))
    }

    fn whole<E: Error>(at: Place<'_>, number: u64) -> Result<Self::Value, E> {
        Err(unexpected::<Self, E>(at, number))
    }

    fn list<'de, A: SeqAccess<'de>>(at: Place<'_>, _: A) -> Result<Self::Value, A::Error> {
        Err(unexpected::<Self, A::Error>(at, "a list"))
    }

    fn object<'de, A: MapAccess<'de>>(at: Place<'_>, _: A) -> Result<Self::Value, A::Error> {
        Err(unexpected::<Self, A::Error>(at, "an object"))
    }
}

fn unexpected<S: Shape, E: Error>(at: Place<'_>, found: impl fmt::Display) -> E {
    E::custom(format_args!("{at}: {} is expected, not {found}", S::EXPECTED))
}

/// Reads what stands at a place; nothing is `null`.
pub(super) struct Read<'a, S> {
    at: Place<'a>,
    shape: PhantomData<S>,
}

impl<'a, S: Shape> Read<'a, S> {
    pub(super) fn at(at: Place<'a>) -> Self {
        Self {
            at,
            shape: PhantomData,
        }
    }

    /// The same where `null` can't stand for nothing.
    pub(super) fn needed<E: Error>(at: Place<'_>, found: Option<S::Value>) -> Result<S::Value, E> {
        found.ok_or_else(|| unexpected::<S, E>(at, "null"))
    }
}

impl<'de, S: Shape> DeserializeSeed<'de> for Read<'_, S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, S: Shape> Visitor<'de> for Read<'_, S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(S::EXPECTED)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, found: bool) -> Result<Self::Value, E> {
        Err(unexpected::<S, E>(self.at, found))
    }

    fn visit_i64<E: Error>(self, found: i64) -> Result<Self::Value, E> {
        Err(unexpected::<S, E>(self.at, found))
    }

    fn visit_f64<E: Error>(self, found: f64) -> Result<Self::Value, E> {
        // With the point that makes it one.
        Err(unexpected::<S, E>(self.at, format_args!("{found:?}")))
    }

    fn visit_u64<E: Error>(self, found: u64) -> Result<Self::Value, E> {
        S::whole(self.at, found).map(Some)
    }

    fn visit_str<E: Error>(self, found: &str) -> Result<Self::Value, E> {
        S::text(self.at, found).map(Some)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, found: A) -> Result<Self::Value, A::Error> {
        S::list(self.at, found).map(Some)
    }

    fn visit_map<A: MapAccess<'de>>(self, found: A) -> Result<Self::Value, A::Error> {
        S::object(self.at, found).map(Some)
    }
}

/// A string.
pub(super) struct Text;

impl Shape for Text {
    type Value = String;
    const EXPECTED: &'static str = "a string";

    fn text<E: Error>(_: Place<'_>, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// A length: what the specification has as an `int64` that isn't negative.
pub(super) struct Size;

impl Shape for Size {
    type Value = u64;
    const EXPECTED: &'static str = "a whole number from 0 to 9223372036854775807";

    fn whole<E: Error>(at: Place<'_>, number: u64) -> Result<u64, E> {
        match i64::try_from(number) {
            Ok(_) => Ok(number),
            Err(_) => Err(unexpected::<Self, E>(at, number)),
        }
    }
}

/// Bytes, written as base64 (RFC 4648, section 4). They aren't kept.
pub(super) struct Base64;

/// As lax as the parsers of those who pull.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

impl Shape for Base64 {
    type Value = ();
    const EXPECTED: &'static str = "base64 with padding";

    fn text<E: Error>(at: Place<'_>, text: &str) -> Result<(), E> {
        let text: Vec<u8> = text.bytes().filter(|byte| !b"\r\n".contains(byte)).collect();
        match BASE64.decode(text) {
            Ok(_) => Ok(()),
            Err(_) => Err(unexpected::<Self, E>(at, "another string")),
        }
    }
}

/// A list whose items are all of one shape, none of them `null`.
pub(super) struct List<S>(PhantomData<S>);

impl<S: Shape> Shape for List<S> {
    type Value = Vec<S::Value>;
    const EXPECTED: &'static str = "a list";

    fn list<'de, A: SeqAccess<'de>>(at: Place<'_>, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let place = Place::Item(&at, items.len());
            match list.next_element_seed(Read::<S>::at(place))? {
                Some(item) => items.push(Read::<S>::needed(place, item)?),
                None => return Ok(items),
            }
        }
    }
}

/// An object whose keys are anybody's and whose values are strings.
pub(super) struct Texts;

impl Shape for Texts {
    type Value = BTreeMap<String, String>;
    const EXPECTED: &'static str = "an object";

    fn object<'de, A: MapAccess<'de>>(at: Place<'_>, mut object: A) -> Result<Self::Value, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some(key) = object.next_key::<String>()? {
            let place = Place::Key(&at, &key);
            let text = Read::<Text>::needed(place, object.next_value_seed(Read::<Text>::at(place))?)?;
            texts.insert(key, text);
        }
        Ok(texts)
    }
}

/// Reads an object of which only some fields are known; the others are passed over.
///
/// A known field has one spelling. Go's parser, which most clients read manifests with, takes a name in any case; so a
/// field in another one means something to them that nobody here looked at, and is refused. So is one that is there twice,
/// of which each parser takes another one.
pub(super) struct Fields<'a, A> {
    at: Place<'a>,
    known: &'static [&'static str],
    seen: Vec<&'static str>,
    object: A,
}

impl<'a, 'de, A: MapAccess<'de>> Fields<'a, A> {
    pub(super) fn new(at: Place<'a>, known: &'static [&'static str], object: A) -> Self {
        Self {
            at,
            known,
            seen: Vec::new(),
            object,
        }
    }

    /// The next known field's name, whose value has to be read then.
    pub(super) fn next(&mut self) -> Result<Option<&'static str>, A::Error> {
        while let Some(key) = self.object.next_key::<String>()? {
            let mut known = self.known.iter().copied();
            let Some(name) = known.find(|name| folded(name).eq(folded(&key))) else {
                self.object.next_value::<IgnoredAny>()?;
                continue;
            };
            let at = self.at;
            if key != name {
                return Err(Error::custom(format_args!(
                    "{at}: the field '{name}' is expected in this spelling, not as '{key}'"
                )));
            }
            if self.seen.contains(&name) {
                return Err(Error::custom(format_args!(
                    "{at}: the field '{name}' is expected once"
                )));
            }
            self.seen.push(name);
            return Ok(Some(name));
        }
        Ok(None)
    }

    /// Reads the field `name`, of which nothing else is wanted.
    pub(super) fn check<S: Shape>(&mut self, name: &'static str) -> Result<(), A::Error> {
        self.read::<S>(name).map(|_| ())
    }

    /// What the field `name` holds, if it isn't `null`.
    pub(super) fn read<S: Shape>(&mut self, name: &'static str) -> Result<Option<S::Value>, A::Error> {
        let place = Place::Field(&self.at, name);
        self.object.next_value_seed(Read::<S>::at(place))
    }
}

/// The characters of a name as Go compares them: two that are not ASCII fold to one that is.
fn folded(name: &str) -> impl Iterator<Item = char> {
    name.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    })
}
