//! The one table of configuration keys: all of zot's, with what becomes of each, and our own.
//!
//! The loader is driven by it (a key that isn't here is unknown, whatever code might read it) and
//! `docs/configuration.md` is written from it, so neither can say something else than the other. The rows are data in
//! the files beside this one; reading values is `check` and `valid`.

mod auth;
mod cluster;
mod extensions;
mod http;
mod storage;

/// What a value must look like. The loader checks it; nothing after it meets a value of another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An object with keys of its own rows.
    Object,
    /// An object with an `enable` key; present means on, unless that is `false`.
    Section,
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
}

const fn key(path: &'static str, kind: Kind, verdict: Verdict) -> Key {
    Key {
        path,
        kind,
        verdict,
        driver: None,
    }
}

impl Key {
    const fn of(self, driver: &'static str) -> Self {
        Self {
            driver: Some(driver),
            ..self
        }
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

/// A part of the table under one heading.
pub(crate) struct Group {
    /// The heading.
    pub(crate) title: &'static str,
    /// Its rows.
    pub(crate) keys: &'static [Key],
}

/// The whole table.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        title: "Top level",
        keys: storage::TOP,
    },
    Group {
        title: "storage",
        keys: storage::STORAGE,
    },
    Group {
        title: "storage.storageDriver: s3",
        keys: storage::S3,
    },
    Group {
        title: "storage.storageDriver: gcs",
        keys: storage::GCS,
    },
    Group {
        title: "storage.storageDriver: azure",
        keys: storage::AZURE,
    },
    Group {
        title: "storage.cacheDriver: dynamodb",
        keys: storage::DYNAMODB,
    },
    Group {
        title: "storage.cacheDriver: redis",
        keys: storage::REDIS,
    },
    Group {
        title: "http",
        keys: http::HTTP,
    },
    Group {
        title: "http.auth",
        keys: auth::AUTH,
    },
    Group {
        title: "http.accessControl",
        keys: auth::ACCESS_CONTROL,
    },
    Group {
        title: "log",
        keys: cluster::LOG,
    },
    Group {
        title: "cluster",
        keys: cluster::CLUSTER,
    },
    Group {
        title: "extensions",
        keys: extensions::EXTENSIONS,
    },
    Group {
        title: "extensions.sync",
        keys: extensions::SYNC,
    },
    Group {
        title: "extensions.events",
        keys: extensions::EVENTS,
    },
];

/// Every row.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    GROUPS.iter().flat_map(|group| group.keys)
}

/// The row of the key `name` in the object whose pattern is `parent` (empty: the file itself), for the driver that the
/// object names. Names are compared without case, as zot does.
pub(crate) fn find(parent: &str, name: &str, driver: Option<&str>) -> Option<&'static Key> {
    let named = children(parent, driver).find(|key| key.name().eq_ignore_ascii_case(name));
    named.or_else(|| children(parent, driver).find(|key| key.name() == "*"))
}

/// The rows directly below a pattern.
pub(crate) fn children<'a>(
    parent: &'a str,
    driver: Option<&'a str>,
) -> impl Iterator<Item = &'static Key> + 'a {
    all().filter(move |key| {
        let (above, _) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        let same_driver = match (key.driver, driver) {
            (Some(key), Some(driver)) => key.eq_ignore_ascii_case(driver),
            (Some(_) | None, _) => true,
        };
        above == parent && same_driver
    })
}

/// The name that someone who wrote `name` below `parent` most likely meant.
pub(crate) fn nearest(parent: &str, name: &str, driver: Option<&str>) -> Option<String> {
    let wrong = name.to_ascii_lowercase();
    let allowed = (wrong.chars().count() / 3).clamp(1, 3);
    let here = children(parent, driver)
        .filter(|key| key.name() != "*")
        .map(|key| {
            (
                distance(&wrong, &key.name().to_ascii_lowercase()),
                key.name().to_owned(),
            )
        });
    let near = here
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, name)) = near {
        return Some(name);
    }
    // Right name, wrong place: as `port` on the top level.
    let mut elsewhere =
        all().filter(|key| key.name().eq_ignore_ascii_case(name) && !key.path.contains(['*', '[']));
    match (elsewhere.next(), elsewhere.next()) {
        (Some(only), None) => Some(only.path.to_owned()),
        _ => None,
    }
}

/// The edits (insert, delete, replace, swap neighbours) between two short names.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let width = b.len() + 1;
    let mut d = vec![0usize; (a.len() + 1) * width];
    let at = |i: usize, j: usize| i * width + j;
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            let cost = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let replace = d[at(i - 1, j - 1)] + usize::from(a[i - 1] != b[j - 1]);
                    let edit = replace.min(d[at(i - 1, j)] + 1).min(d[at(i, j - 1)] + 1);
                    match i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                        true => edit.min(d[at(i - 2, j - 2)] + 1),
                        false => edit,
                    }
                }
            };
            d[at(i, j)] = cost;
        }
    }
    d[at(a.len(), b.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_unique_and_has_its_parent() {
        let mut seen = std::collections::BTreeSet::new();
        for key in all() {
            assert!(
                seen.insert((key.path.to_ascii_lowercase(), key.driver)),
                "{} twice",
                key.path
            );
            if let Some((parent, _)) = key.path.rsplit_once('.') {
                let parent = parent.strip_suffix("[]").unwrap_or(parent);
                let row = all().find(|key| key.path == parent || key.path.strip_suffix("[]") == Some(parent));
                let row = row.unwrap_or_else(|| panic!("{} has no parent row", key.path));
                let expected = match key.name() {
                    _ if key.path.starts_with(&format!("{parent}[].")) => row.kind == Kind::List,
                    "*" => row.kind == Kind::Map,
                    _ => matches!(row.kind, Kind::Object | Kind::Section | Kind::Map),
                };
                assert!(expected, "{} under {:?}", key.path, row.kind);
            }
        }
        assert!(seen.len() > 300, "{} rows", seen.len());
    }

    #[test]
    fn every_verdict_says_something() {
        for key in all() {
            match key.verdict {
                Verdict::Same => {}
                Verdict::Mapped(text) | Verdict::NoEffect(text) | Verdict::Own(text) => {
                    assert!(!text.is_empty())
                }
                Verdict::Later(text) | Verdict::Refused(text) => assert!(!text.is_empty(), "{}", key.path),
            }
        }
    }

    #[test]
    fn keys_are_found_without_case_and_by_driver() {
        assert_eq!(
            find("storage", "ROOTdirectory", None).unwrap().path,
            "storage.rootDirectory"
        );
        let bucket = |driver| find("storage.storageDriver", "bucket", Some(driver)).map(|key| key.driver);
        assert_eq!(bucket("s3"), Some(Some("s3")));
        assert_eq!(bucket("gcs"), Some(Some("gcs")));
        assert_eq!(bucket("azure"), None);
        assert_eq!(
            find("http.accessControl.repositories", "team/**", None)
                .unwrap()
                .name(),
            "*"
        );
    }

    #[test]
    fn a_misspelt_key_gets_its_nearest_neighbour() {
        assert_eq!(nearest("storage", "dedup", None).as_deref(), Some("dedupe"));
        assert_eq!(nearest("http", "adress", None).as_deref(), Some("address"));
        assert_eq!(nearest("http", "prot", None).as_deref(), Some("port"));
        assert_eq!(
            nearest("", "rootDirectory", None),
            None,
            "several drivers have one"
        );
        assert_eq!(nearest("", "hashKey", None).as_deref(), Some("cluster.hashKey"));
        assert_eq!(
            nearest("", "externalUrl", None).as_deref(),
            Some("http.externalUrl")
        );
        assert_eq!(nearest("http", "bananas", None), None);
        assert_eq!(distance("prot", "port"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
