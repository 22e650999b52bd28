//! What a registry, and something in it, is called on the command line: `HOST[:PORT][/NAME]`.

use std::net::IpAddr;

use super::{MovingError, Result};
use crate::{
    config::UpstreamUrl,
    oci::{Digest, RepoName, Tag},
};

/// A registry, and what is said after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) url: UpstreamUrl,
    /// Without slashes around it; may be empty.
    pub(super) path: String,
}

/// What an entry of a layout is called, as far as it says itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Below what the layout is imported to; may be empty.
    pub(super) repository: String,
    pub(super) tag: Option<Tag>,
}

impl Place {
    /// `http://` and `https://` may stand in front. Without either it is https, but http on this machine.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = |problem: &str| MovingError::What(format!("{text:?}: {problem}"));
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some("http"), rest),
            Some(("https", rest)) => (Some("https"), rest),
            Some(_) => return Err(wrong("registries are asked by http or https")),
            None => (None, text),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let parsed: http::uri::Authority = authority
            .parse()
            .map_err(|_| wrong("HOST[:PORT][/NAME] is expected"))?;
        if authority.contains('@') {
            return Err(wrong("say who asks with --user"));
        }
        let host = parsed.host().trim_matches(['[', ']']);
        let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let scheme = scheme.unwrap_or(if is_here { "http" } else { "https" });
        Ok(Self {
            url: UpstreamUrl {
                scheme,
                authority: authority.to_ascii_lowercase(),
            },
            path: path.trim_matches('/').to_owned(),
        })
    }
}

impl Named {
    /// Of the name that an entry has: a tag, or a repository with a tag, a digest, or both. A registry with a port in front, as crane has
    /// it, is left out; one without a port is part of the name, as it may well be.
    pub(super) fn of(name: Option<&str>) -> Option<Self> {
        let Some(name) = name else {
            return Some(Self {
                repository: String::new(),
                tag: None,
            });
        };
        if let Ok(tag) = Tag::parse(name) {
            return Some(Self {
                repository: String::new(),
                tag: Some(tag),
            });
        }
        let (repository, tag) = match name.split_once('@') {
            Some((repository, digest)) => {
                Digest::parse(digest).ok()?;
                match repository.rsplit_once(':') {
                    Some((repository, tag)) if !tag.contains('/') => {
                        (repository, Some(Tag::parse(tag).ok()?))
                    }
                    Some(_) | None => (repository, None),
                }
            }
            None => {
                let (repository, tag) = name.rsplit_once(':')?;
                (repository, Some(Tag::parse(tag).ok()?))
            }
        };
        let repository = match repository.split_once('/') {
            Some((host, repository)) if host.contains(':') => repository,
            _ => repository,
        };
        RepoName::parse(repository).ok()?;
        Some(Self {
            repository: repository.to_owned(),
            tag,
        })
    }
}

/// Names, one below the other; those that are empty say nothing.
pub(super) fn joined(parts: &[&str]) -> String {
    let said = parts.iter().filter(|part| !part.is_empty());
    said.copied().collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_called_as_clients_call_them() {
        for (text, url, path) in [
            ("registry.example.org", "https://registry.example.org", ""),
            (
                "Registry.example.org:5000/team/app/",
                "https://registry.example.org:5000",
                "team/app",
            ),
            (
                "http://registry.example.org/a:v1",
                "http://registry.example.org",
                "a:v1",
            ),
            ("localhost:5000/**", "http://localhost:5000", "**"),
            ("127.0.0.2:5000", "http://127.0.0.2:5000", ""),
            ("https://[::1]:5000/a", "https://[::1]:5000", "a"),
            ("[::1]:5000", "http://[::1]:5000", ""),
        ] {
            let place = Place::parse(text).unwrap();
            assert_eq!((&*place.url.to_string(), &*place.path), (url, path), "{text}");
        }
        for wrong in ["", "ftp://a", "user@host/a", "a b/c", "https://"] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn entries_are_called_as_others_call_them() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let named = |repository: &str, tag: Option<&str>| {
            Some(Named {
                repository: repository.to_owned(),
                tag: tag.map(|tag| Tag::parse(tag).unwrap()),
            })
        };
        for (name, expected) in [
            (None, named("", None)),
            (Some("v1"), named("", Some("v1"))),
            (Some("library/alpine:3"), named("library/alpine", Some("3"))),
            (
                Some("docker.io/library/alpine:3"),
                named("docker.io/library/alpine", Some("3")),
            ),
            (Some(&*format!("team/app@{digest}")), named("team/app", None)),
            (Some(&*format!("host:1/app@{digest}")), named("app", None)),
            (
                Some(&*format!("host:1/app:v1@{digest}")),
                named("app", Some("v1")),
            ),
            (Some("library/alpine"), None),
            (Some("host:5000/a/b:v1"), named("a/b", Some("v1"))),
            (Some("a b"), None),
            (Some(""), None),
        ] {
            assert_eq!(Named::of(name), expected, "{name:?}");
        }
        assert_eq!(joined(&["", "a", "", "b/c"]), "a/b/c");
    }
}
