//! Patterns of repository names, in the notation of doublestar, which zot's policies are written in.
//!
//! | notation | stands for |
//! |---|---|
//! | `*` | any characters but `/`, perhaps none |
//! | `**`, alone between slashes | any number of components, perhaps none: `team/**` is `team` and all below it |
//! | `?` | one character but `/` |
//! | `[a-z0-9]`, `[^a]`, `[!a]` | one character of these, or none of these, but never `/` |
//! | `{a,b/**}` | either of these |
//! | `\*` | the character itself |
//!
//! A pattern that no repository's name can match is none: written to grant or to restrict something, it would do neither
//! without a word (`/team/**`, `Team/*`, `registry.example/team/**` with a port).
//!
//! Deliberately absent: which of several patterns counts. That is policy's.

use std::fmt;

use super::{RepoName, name::MAX_NAME_BYTES};

/// The longest pattern, in bytes: more than any name has.
const MAX_PATTERN_BYTES: usize = 512;

/// The most alternatives that the braces of one pattern may make.
const MAX_ALTERNATIVES: usize = 64;

/// A pattern of repository names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepoPattern {
    text: String,
    alternatives: Vec<Vec<Component>>,
}

/// A text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is empty, or has more than 512 bytes.
    #[error("a pattern has 1 to {MAX_PATTERN_BYTES} bytes")]
    Length,
    /// A `[` without its `]`, or nothing between them, or a range that ends before it begins.
    #[error("a class of characters is malformed")]
    Class,
    /// A brace without its other one.
    #[error("a brace has no counterpart")]
    Brace,
    /// It ends with a backslash.
    #[error("a backslash stands before nothing")]
    Escape,
    /// Braces make more than 64 alternatives.
    #[error("braces make more than {MAX_ALTERNATIVES} alternatives")]
    Alternatives,
    /// It begins or ends with a slash, or two follow each other.
    #[error("no repository's name has a slash at its begin or end, or two in a row: write {0:?}")]
    Slash(String),
    /// No name has such components.
    #[error(
        "no repository's name is like {0:?}: names are of a-z and 0-9, with one of '.', '_', '__' or some '-' between \
         them, and without the registry's host"
    )]
    NoName(String),
    /// What matches it is longer than a name can be.
    #[error("no repository's name is as long: they have at most {MAX_NAME_BYTES} bytes")]
    TooLong,
}

/// What stands between two slashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Component {
    /// `**`: any number of components.
    Any,
    /// One component.
    One(Vec<Atom>),
}

/// What stands for characters of a component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Atom {
    /// `*`: any number of characters.
    Any,
    /// `?`
    One,
    /// A character itself.
    Char(char),
    /// One of a class, or none of it.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl RepoPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`], the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() || text.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::Length);
        }
        let alternatives = expand(text)?
            .iter()
            .map(|plain| matchable(plain))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            text: text.to_owned(),
            alternatives,
        })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `name` is meant.
    #[must_use]
    pub fn matches(&self, name: &RepoName) -> bool {
        let parts: Vec<&str> = name.as_str().split('/').collect();
        self.alternatives.iter().any(|components| {
            let is_any = |component: &Component| *component == Component::Any;
            wildcard(components, &parts, is_any, |component, part| match component {
                Component::Any => true,
                Component::One(atoms) => component_matches(atoms, part),
            })
        })
    }

    /// Whether every name is meant: only of `**` is that said.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.alternatives
            .iter()
            .any(|components| *components == [Component::Any])
    }
}

super::text_newtype!(RepoPattern, PatternError);

impl fmt::Debug for RepoPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

fn component_matches(atoms: &[Atom], part: &str) -> bool {
    let characters: Vec<char> = part.chars().collect();
    wildcard(
        atoms,
        &characters,
        |atom| *atom == Atom::Any,
        |atom, &c| atom.fits(c),
    )
}

impl Atom {
    /// Whether it stands for this character, perhaps beside others.
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Char(own) => *own == c,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *negated
            }
        }
    }
}

/// Whether `pattern` covers `text` whole, where what `is_any` stands for any number of elements and everything else for
/// the one it `fits`. Going back to the last "any" alone is enough, so this takes at most their product in steps.
fn wildcard<P, T>(
    pattern: &[P],
    text: &[T],
    is_any: impl Fn(&P) -> bool,
    fits: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(element) = text.get(t) {
        match pattern.get(p) {
            Some(any) if is_any(any) => {
                p += 1;
                retry = Some((p, t));
            }
            Some(one) if fits(one, element) => {
                p += 1;
                t += 1;
            }
            Some(_) | None => match retry {
                Some((after, from)) => {
                    p = after;
                    t = from + 1;
                    retry = Some((after, t));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(is_any)
}

/// The alternatives of all braces, each without braces of its own.
fn expand(text: &str) -> Result<Vec<String>, PatternError> {
    let Some((open, close, commas)) = braces(text)? else {
        return Ok(vec![text.to_owned()]);
    };
    let mut expanded = Vec::new();
    let mut from = open + 1;
    for to in commas.into_iter().chain([close]) {
        let alternative = format!("{}{}{}", &text[..open], &text[from..to], &text[close + 1..]);
        expanded.extend(expand(&alternative)?);
        if expanded.len() > MAX_ALTERNATIVES {
            return Err(PatternError::Alternatives);
        }
        from = to + 1;
    }
    Ok(expanded)
}

/// Where the first brace stands, its counterpart, and the commas that divide what is between them.
fn braces(text: &str) -> Result<Option<(usize, usize, Vec<usize>)>, PatternError> {
    let (mut open, mut depth, mut commas) = (None, 0_u32, Vec::new());
    let mut is_class = false;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => {
                characters.next().ok_or(PatternError::Escape)?;
            }
            ']' => is_class = false,
            _ if is_class => {}
            '[' => is_class = true,
            '{' => {
                open = open.or(Some(at));
                depth += 1;
            }
            '}' => {
                depth = depth.checked_sub(1).ok_or(PatternError::Brace)?;
                if let (0, Some(open)) = (depth, open) {
                    return Ok(Some((open, at, commas)));
                }
            }
            ',' if depth == 1 => commas.push(at),
            _ => {}
        }
    }
    match open {
        Some(_) => Err(PatternError::Brace),
        None => Ok(None),
    }
}

/// The components of a pattern without braces, which some name matches.
fn matchable(plain: &str) -> Result<Vec<Component>, PatternError> {
    let components = components(plain)?;
    let mut bytes = 0;
    for component in &components {
        match component {
            Component::Any => continue,
            Component::One(atoms) if atoms.is_empty() => {
                let parts = plain.split('/').filter(|part| !part.is_empty());
                return Err(PatternError::Slash(parts.collect::<Vec<_>>().join("/")));
            }
            Component::One(atoms) if !can_be_in_a_name(atoms) => {
                return Err(PatternError::NoName(plain.to_owned()));
            }
            Component::One(atoms) => {
                bytes += 1 + atoms.iter().filter(|atom| **atom != Atom::Any).count();
            }
        }
    }
    match bytes > MAX_NAME_BYTES + 1 {
        true => Err(PatternError::TooLong),
        false => Ok(components),
    }
}

/// Where one can be in the grammar of a component, `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`: before it, in a word, after one of
/// the separators.
const BEGIN: u8 = 1;
const WORD: u8 = 2;
const DOT: u8 = 4;
const UNDERSCORE: u8 = 8;
const UNDERSCORES: u8 = 16;
const DASHES: u8 = 32;

/// Whether some component of a name is covered by `atoms`: all places in the grammar are followed at once.
fn can_be_in_a_name(atoms: &[Atom]) -> bool {
    let places = atoms.iter().fold(BEGIN, |places, atom| match atom {
        // Beyond four characters there is no place that isn't reached yet.
        Atom::Any => (0..4).fold(places, |places, _| places | after(places, atom)),
        Atom::One | Atom::Char(_) | Atom::Class { .. } => after(places, atom),
    });
    places & WORD != 0
}

/// The places in the grammar after one character more.
fn after(places: u8, atom: &Atom) -> u8 {
    let may_be = |from: u8, mut characters: std::ops::RangeInclusive<char>| {
        places & from != 0 && characters.any(|c| atom.fits(c))
    };
    let mut next = 0;
    if may_be(u8::MAX, 'a'..='z') || may_be(u8::MAX, '0'..='9') {
        next |= WORD;
    }
    for (from, separator, to) in [
        (WORD, '.', DOT),
        (WORD, '_', UNDERSCORE),
        (UNDERSCORE, '_', UNDERSCORES),
        (WORD | DASHES, '-', DASHES),
    ] {
        if may_be(from, separator..=separator) {
            next |= to;
        }
    }
    next
}

fn components(plain: &str) -> Result<Vec<Component>, PatternError> {
    let mut components = Vec::new();
    let mut atoms = Vec::new();
    let mut characters = plain.chars();
    // `**` is more than two `*` only where it stands alone.
    let finished = |atoms: Vec<Atom>| match atoms.as_slice() {
        [Atom::Any, Atom::Any] => Component::Any,
        _ => Component::One(atoms),
    };
    while let Some(c) = characters.next() {
        match c {
            '/' => components.push(finished(std::mem::take(&mut atoms))),
            '*' => atoms.push(Atom::Any),
            '?' => atoms.push(Atom::One),
            '\\' => atoms.push(Atom::Char(characters.next().ok_or(PatternError::Escape)?)),
            '[' => atoms.push(class(&mut characters)?),
            c => atoms.push(Atom::Char(c)),
        }
    }
    components.push(finished(atoms));
    Ok(components)
}

/// What follows a `[`, up to its `]`.
fn class(characters: &mut std::str::Chars<'_>) -> Result<Atom, PatternError> {
    let mut next = || match characters.next() {
        Some('\\') => characters.next().map(|c| (c, true)),
        other => other.map(|c| (c, false)),
    };
    let mut ranges: Vec<(char, char)> = Vec::new();
    let mut negated = false;
    let mut is_range = false;
    let mut is_first = true;
    loop {
        let (c, is_escaped) = next().ok_or(PatternError::Class)?;
        match c {
            '^' | '!' if is_first && !is_escaped => negated = true,
            ']' if !is_escaped => break,
            '-' if !is_escaped => {
                if is_range || ranges.last().is_none_or(|(first, last)| first != last) {
                    return Err(PatternError::Class);
                }
                is_range = true;
            }
            c if is_range => match ranges.last_mut() {
                Some(range) if range.0 <= c => {
                    range.1 = c;
                    is_range = false;
                }
                Some(_) | None => return Err(PatternError::Class),
            },
            c => ranges.push((c, c)),
        }
        is_first = false;
    }
    match ranges.is_empty() || is_range {
        true => Err(PatternError::Class),
        false => Ok(Atom::Class { negated, ranges }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        RepoPattern::parse(pattern)
            .unwrap()
            .matches(&RepoName::parse(name).unwrap())
    }

    #[test]
    fn the_notation_means_what_its_table_says() {
        for (pattern, yes, no) in [
            ("**", &["a", "a/b", "a/b/c"][..], &[][..]),
            ("*", &["a", "abc"], &["a/b"]),
            (
                "team/**",
                &["team", "team/a", "team/a/b/c"],
                &["teams", "a/team", "teams/a"],
            ),
            ("team/*", &["team/a"], &["team", "team/a/b"]),
            ("**/app", &["app", "a/app", "a/b/app"], &["a/apps", "app/a"]),
            ("a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["a", "a/b", "az", "z"]),
            ("a**", &["a", "abc"], &["a/b", "ba"]),
            ("a?c", &["abc", "a-c"], &["ac", "a/c", "abbc"]),
            ("v[0-9]*", &["v1", "v12", "v1x"], &["v", "vx", "v1/2"]),
            ("[^a]b", &["bb", "0b"], &["ab", "b"]),
            ("[!a-c]b", &["db"], &["ab", "bb", "cb"]),
            ("{dev,test}/**", &["dev", "test/a/b"], &["prod/a", "devtest"]),
            ("a{,/**}", &["a", "a/b"], &["ab"]),
            ("x{a,b{c,d/e}}", &["xa", "xbc", "xbd/e"], &["xb", "xbd"]),
            (r"\a\b*", &["ab", "abc"], &["a", "b"]),
            (
                "library/alpine",
                &["library/alpine"],
                &["library/alpine2", "alpine"],
            ),
            // Not like `a*b*c`: each star may have to give back.
            ("*ab*ab*b", &["aababb", "xabyabzb"], &["abab"]),
        ] {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} is {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} is not {name}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        use PatternError::{Alternatives, Brace, Class, Escape, Length};
        for (text, error) in [
            ("", Length),
            (&"a".repeat(513), Length),
            ("a[", Class),
            ("a[]", Class),
            ("a[z-a]", Class),
            ("a[-a]", Class),
            ("a[a-]", Class),
            ("a[a-b-c]", Class),
            ("a{b", Brace),
            ("a}", Brace),
            ("a{b}}", Brace),
            ("a\\", Escape),
            ("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", Alternatives),
        ] {
            assert_eq!(RepoPattern::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_no_name_can_match_is_refused_also_as_one_of_several() {
        let refused = |text: &str| RepoPattern::parse(text).unwrap_err();
        for (text, without) in [
            ("/team/**", "team/**"),
            ("team/", "team"),
            ("team//app", "team/app"),
            ("**/", "**"),
            ("/", ""),
            ("{a,b/}", "b"),
        ] {
            assert_eq!(refused(text), PatternError::Slash(without.to_owned()), "{text}");
        }
        for (text, named) in [
            ("Team/**", "Team/**"),
            ("team/App", "team/App"),
            ("{team,Team}/**", "Team/**"),
            ("registry.example:5000/team/**", "registry.example:5000/team/**"),
            ("https://x/**", "https://x/**"),
            ("team/./x", "team/./x"),
            ("team/../x", "team/../x"),
            (" team/**", " team/**"),
            ("team /x", "team /x"),
            ("team/**\n", "team/**\n"),
            ("-a", "-a"),
            ("a-", "a-"),
            ("a..b", "a..b"),
            ("a___b", "a___b"),
            ("a._b", "a._b"),
            ("*/._/*", "*/._/*"),
            (r"a\*", r"a\*"),
            ("[A-Z]*", "[A-Z]*"),
            ("[^a-z0-9]", "[^a-z0-9]"),
            ("a[/]b", "a[/]b"),
            ("ä", "ä"),
        ] {
            assert_eq!(refused(text), PatternError::NoName(named.to_owned()), "{text}");
        }
        assert_eq!(refused(&"a".repeat(256)), PatternError::TooLong);
        assert_eq!(refused(&format!("{}?*", "a/".repeat(128))), PatternError::TooLong);
        for text in [
            &"a".repeat(255),
            "registry.example/team/**",
            "*.*",
            "*_*_*",
            "*__*",
            "*---*",
            "?[_.]?",
            "[A-z]",
            "**/**",
            "***",
            "a**b",
            "*a*",
        ] {
            assert!(RepoPattern::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn only_two_stars_alone_are_everything() {
        let is = |text: &str| RepoPattern::parse(text).unwrap().is_everything();
        assert!(is("**") && is("{a,**}"));
        assert!(!is("*") && !is("**/*") && !is("a/**") && !is("***"));
    }

    /// The definition, tried out: every way to share the name among the pattern's elements.
    fn defined(pattern: &[&str], name: &[&str]) -> bool {
        match pattern {
            [] => name.is_empty(),
            ["**", rest @ ..] => (0..=name.len()).any(|n| defined(rest, &name[n..])),
            [one, rest @ ..] => match name {
                [first, others @ ..] => defined_component(one, first) && defined(rest, others),
                [] => false,
            },
        }
    }

    fn defined_component(pattern: &str, part: &str) -> bool {
        let mut pattern_rest = pattern.chars();
        match pattern_rest.next() {
            None => part.is_empty(),
            Some('*') => (0..=part.len()).any(|n| defined_component(pattern_rest.as_str(), &part[n..])),
            Some(c) => {
                let mut rest = part.chars();
                rest.next().is_some_and(|first| c == '?' || c == first)
                    && defined_component(pattern_rest.as_str(), rest.as_str())
            }
        }
    }

    proptest! {
        #[test]
        fn matching_is_its_definition(
            pattern in prop::collection::vec("[ab*?]{1,4}|\\*\\*", 1..5),
            name in prop::collection::vec("[ab]{1,4}", 1..5),
        ) {
            let text = pattern.join("/");
            let parts: Vec<&str> = name.iter().map(String::as_str).collect();
            let elements: Vec<&str> = pattern.iter().map(String::as_str).collect();
            prop_assert_eq!(matches(&text, &name.join("/")), defined(&elements, &parts));
        }

        /// A pattern that is refused as one that no name matches matches none.
        #[test]
        fn a_name_is_a_pattern_and_so_is_what_it_becomes_with_wildcards(
            name in "[a-z0-9]{1,3}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,3}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}){0,2}",
            stars in prop::collection::vec(any::<Option<bool>>(), 40),
        ) {
            let pattern: String = name
                .chars()
                .zip(stars.into_iter().chain(std::iter::repeat(None)))
                .map(|(c, star)| match star {
                    Some(true) if c != '/' => '*',
                    Some(false) if c != '/' => '?',
                    _ => c,
                })
                .collect();
            prop_assert!(matches(&pattern, &name), "{}", pattern);
        }

        #[test]
        fn any_text_is_a_pattern_or_an_error_and_shown_as_it_was_written(text in ".{0,40}", name in "[a-z]{1,9}") {
            if let Ok(pattern) = RepoPattern::parse(&text) {
                prop_assert_eq!(pattern.as_str(), &text);
                let _ = pattern.matches(&RepoName::parse(&name).unwrap());
            }
        }
    }
}
