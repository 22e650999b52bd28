//! Paths of the page. `http::front::surface::page` reads them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::oci::{Digest, Reference, RepoName, Tag};

/// What a query's value may hold unescaped (RFC 3986's unreserved characters).
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

pub(super) fn repository(name: &RepoName) -> String {
    format!("/image/{name}")
}

/// A name can hold neither `:` nor `@`.
pub(super) fn named(name: &RepoName, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{name}:{tag}"),
        Reference::Digest(digest) => format!("{name}@{digest}"),
    }
}

pub(super) fn image(name: &RepoName, reference: &Reference) -> String {
    format!("/image/{}", named(name, reference))
}

pub(super) fn tag(name: &RepoName, tag: &Tag) -> String {
    format!("/image/{name}:{tag}")
}

pub(super) fn digest(name: &RepoName, digest: &Digest) -> String {
    format!("/image/{name}@{digest}")
}

pub(super) fn delete(name: &RepoName, reference: &Reference) -> String {
    format!("/delete/{}", named(name, reference))
}

/// Where a tag is restored.
pub(super) fn restore(name: &RepoName, tag: &Tag) -> String {
    format!("/restore/{}", named(name, &Reference::Tag(tag.clone())))
}

/// `path` with those of the parameters that say something.
pub(super) fn with(path: &str, parameters: &[(&str, &str)]) -> String {
    let said = parameters.iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> = said
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, QUERY_VALUE)))
        .collect();
    match pairs.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", pairs.join("&")),
    }
}
