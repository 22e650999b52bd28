//! The one table of configuration keys: all of zot's, with what becomes of each, and our own.
//!
//! The loader is driven by it (a key that isn't here is unknown, whatever code might read it) and
//! `docs/configuration.md` is written from it, so neither can say something else than the other. The rows are data in
//! the files beside this one; reading values is `check` and `valid`.

mod auth;
mod cluster;
mod extensions;
mod http;
mod row;
mod storage;

pub(crate) use self::row::{Key, Kind, Verdict};
use super::tree::{Node, Value};

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
        title: "storage.cacheDriver: postgres",
        keys: storage::POSTGRES,
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
        title: "extensions.replicate",
        keys: extensions::REPLICATE,
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
        let same_driver = match (key.driver, driver) {
            (Some(key), Some(driver)) => key.eq_ignore_ascii_case(driver),
            (Some(_) | None, _) => true,
        };
        key.parent() == parent && same_driver
    })
}

/// The driver that an object names.
pub(crate) fn driver(members: &[(String, Node)]) -> Option<String> {
    let named = members.iter().find(|(name, _)| name.eq_ignore_ascii_case("name"));
    match named.map(|(_, node)| &node.value) {
        Some(Value::Str(driver)) => Some(driver.clone()),
        Some(_) | None => None,
    }
}

/// What to do about a key that isn't known below `parent`.
pub(crate) fn advice(parent: &str, name: &str, node: &Node, driver: Option<&str>) -> String {
    if let Some(near) = nearest(parent, name, driver) {
        return format!("unknown key: did you mean {near}?");
    }
    let homes: Vec<&str> = homes(parent, name, node)
        .into_iter()
        .map(|home| match home.strip_prefix(parent) {
            _ if home.is_empty() => "the top level",
            Some(below) => below.trim_start_matches('.'),
            None => home,
        })
        .collect();
    match homes.as_slice() {
        [] => "unknown key: remove it (docs/configuration.md lists all)".to_owned(),
        ["the top level"] => "unknown key: it belongs to the top level".to_owned(),
        homes => format!("unknown key: it belongs below {}", homes.join(" or ")),
    }
}

/// The name below `parent` that someone who wrote `name` there most likely meant.
fn nearest(parent: &str, name: &str, driver: Option<&str>) -> Option<&'static str> {
    let wrong = name.to_ascii_lowercase();
    let allowed = (wrong.chars().count() / 3).clamp(1, 3);
    let here = children(parent, driver)
        .map(Key::name)
        .filter(|name| *name != "*");
    let near = here.map(|name| (distance(&wrong, &name.to_ascii_lowercase()), name));
    let near = near.filter(|(distance, _)| *distance <= allowed);
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// Where a key belongs that stands below `parent`: so many levels higher or lower, the nearest first; none where there
/// are many. Never in another section: `address` stands in several, and in none of them for the other's.
fn homes(parent: &str, name: &str, node: &Node) -> Vec<&'static str> {
    const MANY: usize = 3;
    let levels = |pattern: &str| pattern.split_terminator('.').count();
    if let Some(map) = children(parent, None).find(|key| key.kind == Kind::Map && is_entry(key, node)) {
        return vec![map.path];
    }
    let mut homes: Vec<&'static str> = all()
        // Any section may have it.
        .filter(|key| key.name().eq_ignore_ascii_case(name) && key.name() != "enable")
        .map(Key::parent)
        .filter(|home| *home != parent && (is_within(home, parent) || is_within(parent, home)))
        .filter(|home| is_served(home))
        // Nor in the elements of another section's list.
        .filter(|home| !home.ends_with("[]") || levels(home) <= levels(parent) + 1)
        .collect();
    homes.sort_by_key(|home| (levels(home).abs_diff(levels(parent)), *home));
    homes.dedup();
    if homes.len() > MANY {
        homes.clear();
    }
    homes
}

/// Whether a value could be an entry of an object by name: an object, all of whose keys are known there.
fn is_entry(map: &Key, node: &Node) -> bool {
    let Value::Object(members) = &node.value else {
        return false;
    };
    let pattern = format!("{}.*", map.path);
    !members.is_empty()
        && members
            .iter()
            .all(|(name, _)| find(&pattern, name, None).is_some())
}

/// Whether keys below a pattern mean anything here.
fn is_served(pattern: &str) -> bool {
    let object = pattern.strip_suffix("[]").unwrap_or(pattern);
    let verdict = all().find(|key| key.path == object).map(|key| key.verdict);
    pattern.is_empty()
        || matches!(
            verdict,
            Some(Verdict::Same | Verdict::Mapped(_) | Verdict::Own(_))
        )
}

fn is_within(pattern: &str, other: &str) -> bool {
    let rest = pattern.strip_prefix(other);
    rest.is_some_and(|rest| other.is_empty() || rest.starts_with(['.', '[']))
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
                    _ => matches!(
                        row.kind,
                        Kind::Object | Kind::Section | Kind::Driver(_) | Kind::Map
                    ),
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

    fn advised(parent: &str, name: &str, value: Value) -> String {
        let node = Node { value, line: 1 };
        advice(parent, name, &node, None).replace("unknown key: ", "")
    }

    #[test]
    fn a_misspelt_key_gets_its_nearest_neighbour() {
        let meant = |parent, name| advised(parent, name, Value::Null);
        assert_eq!(meant("storage", "dedup"), "did you mean dedupe?");
        assert_eq!(meant("http", "adress"), "did you mean address?");
        assert_eq!(meant("http", "prot"), "did you mean port?");
        assert!(meant("http", "bananas").starts_with("remove it"));
        assert_eq!(distance("prot", "port"), 1);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn a_key_on_the_wrong_level_is_told_the_right_one_and_never_another_section() {
        let told = |parent, name| advised(parent, name, Value::Null);
        assert_eq!(told("", "hashKey"), "it belongs below cluster");
        assert_eq!(
            told("", "rootDirectory"),
            "it belongs below storage or storage.storageDriver"
        );
        assert_eq!(told("", "externalUrl"), "it belongs below http");
        assert_eq!(told("http", "htpasswd"), "it belongs below auth");
        assert_eq!(told("http.auth", "accessControl"), "it belongs below http");
        assert_eq!(told("http", "storage"), "it belongs to the top level");
        assert_eq!(
            told("http.accessControl", "anonymousPolicy"),
            "it belongs below metrics or repositories.*"
        );
        for (parent, name) in [
            ("storage", "address"),
            ("extensions", "port"),
            ("extensions", "address"),
            ("log", "path"),
            ("cluster.tls", "realm"),
            ("", "enable"),
        ] {
            assert!(
                told(parent, name).starts_with("remove it"),
                "{parent}.{name}: {}",
                told(parent, name)
            );
        }
    }

    #[test]
    fn a_policy_beside_the_patterns_belongs_below_them() {
        let object = |name: &str| {
            let node = Node {
                value: Value::List(Vec::new()),
                line: 2,
            };
            Value::Object(vec![(name.to_owned(), node)])
        };
        let told = |name, value| advised("http.accessControl", name, value);
        for pattern in ["**", "team/**", "library/nginx"] {
            assert_eq!(
                told(pattern, object("anonymousPolicy")),
                "it belongs below repositories"
            );
        }
        assert_eq!(told("admins", object("users")), "it belongs below groups");
        assert!(told("admins", object("members")).starts_with("remove it"));
    }
}
