//! What people who have zot bring: configurations of the shapes that are met in the wild, each with all that is said about
//! it. They start, where nothing that protects is missing; where something is, it is named once and nothing beside it.

use std::{collections::BTreeSet, path::Path};

use super::*;

/// A file, and what is said of it in order: notes where it loads, else faults as `line key: problem`, by their beginnings.
struct Met {
    file: &'static str,
    said: Said,
}

enum Said {
    Notes(&'static [&'static str]),
    Faults(&'static [&'static str]),
}

use Said::{Faults, Notes};

const MET: &[Met] = &[
    Met {
        file: "quick.json",
        said: Notes(&["distSpecVersion: \"1.0.1-dev\" is asked for"]),
    },
    Met {
        file: "homelab.yaml",
        said: Notes(&[
            "extensions.search.cve: nothing is scanned",
            "extensions.mgmt: zot ignores it",
            "http.externalUrl: not given",
        ]),
    },
    Met {
        file: "nightly-cache.json",
        said: Notes(&["http.auth: not given"]),
    },
    Met {
        file: "templated.yaml",
        said: Notes(&["http.auth: not given"]),
    },
    Met {
        file: "certificates.json",
        said: Notes(&["http.auth.mtls.uriSanPattern: covers the whole URI here"]),
    },
    Met {
        file: "former-tables.json",
        said: Notes(&[
            "storage.cacheDriver.manifestDataTablename, storage.cacheDriver.indexDataTablename: zot's tables of former",
            "cluster: without it",
        ]),
    },
    Met {
        file: "anchors.yaml",
        said: Notes(&["http.externalUrl: not given"]),
    },
    Met {
        file: "generated.yaml",
        said: Notes(&["http.externalUrl: not given"]),
    },
    Met {
        file: "mirror.json",
        said: Faults(&["8 extensions.sync.registries[0].aKeyOfANewerRelease: unknown key"]),
    },
    Met {
        file: "company.json",
        said: Faults(&[
            "4 storage.storageDriver.name: Google Cloud Storage",
            "5 storage.cacheDriver.oddKey: unknown key",
            "11 http.auth.ldap.odd: unknown key",
            "13 http.auth.bearer.oidc[0].audiences: is required",
            "16 extensions.lint: linting comes",
            "- http.externalUrl: is required with http.auth.openid",
        ]),
    },
    Met {
        file: "misplaced.json",
        said: Faults(&[
            "2 rootDirectory: unknown key: it belongs below storage or storage.storageDriver",
            "7 http.htpasswd: unknown key: it belongs below auth",
            "8 http.auth.accessControl: unknown key: it belongs below http",
            "10 http.accessControl.\"**\": unknown key: it belongs below repositories",
            "11 http.accessControl.admins: unknown key: it belongs below groups",
            "13 http.storage: unknown key: it belongs to the top level",
            "14 http.allowReadAccess: unknown key: remove it",
            "16 search: unknown key: it belongs below extensions",
            "17 extensions.address: unknown key: remove it",
            "17 extensions.serach: unknown key: did you mean search?",
        ]),
    },
];

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/zot"))
}

#[test]
fn what_is_met_in_the_wild_starts_or_is_told_once_what_is_missing() {
    for Met { file, said } in MET {
        let loaded = load(&folder().join(file));
        let (found, expected) = match (&loaded, said) {
            (Ok(config), Notes(notes)) => (config.warnings.clone(), notes),
            (Err(errors), Faults(faults)) => (lines(errors), faults),
            (Ok(_), Faults(_)) => panic!("{file} loads"),
            (Err(errors), Notes(_)) => panic!("{errors}"),
        };
        let same = found.len() == expected.len()
            && found
                .iter()
                .zip(*expected)
                .all(|(found, expected)| found.starts_with(expected));
        assert!(same, "{file}: expected {expected:#?}\nfound {found:#?}");
        let distinct: BTreeSet<&String> = found.iter().collect();
        assert_eq!(distinct.len(), found.len(), "{file}: {found:#?}");
    }
}

#[test]
fn every_file_is_met() {
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let met: BTreeSet<String> = MET.iter().map(|met| met.file.to_owned()).collect();
    assert_eq!(files, met);
}

/// What the lenient forms mean, not only that they load.
#[test]
fn search_is_on_where_its_section_stands_and_isnt_switched_off() {
    let searching = |file: &str| load(&folder().join(file)).unwrap().extensions;
    assert_eq!(searching("homelab.yaml").search, Searching::On);
    assert_eq!(searching("templated.yaml").search, Searching::Off);
    assert_eq!(
        searching("nightly-cache.json").origins,
        ["https://ui.example.org"]
    );
    let of = |text: &str| {
        parse(
            Path::new("c.yaml"),
            &format!("storage: {{rootDirectory: /d}}\n{text}\n"),
        )
    };
    for (text, expected) in [
        ("extensions: {search: {}}", Searching::On),
        ("extensions: {search: {enable: true}}", Searching::On),
        ("extensions: {search: {enable: false}}", Searching::Off),
        ("extensions: {search: }", Searching::Off),
        ("extensions: {}", Searching::Off),
    ] {
        assert_eq!(of(text).unwrap().extensions.search, expected, "{text}");
    }
    let origins = |text: &str| of(&format!("http: {{allowOrigin: {text}}}"));
    assert_eq!(
        origins("'https://a.example, http://b.example:8080/,*'")
            .unwrap()
            .extensions
            .origins,
        ["https://a.example", "http://b.example:8080", "*"]
    );
    for wrong in ["a.example", "https://a.example/path", "'https://a.example,null'"] {
        let said = lines(&origins(wrong).unwrap_err());
        assert!(said[0].contains("http.allowOrigin["), "{said:?}");
    }
}

#[test]
fn lenient_forms_mean_what_the_strict_ones_do() {
    let rules = |file: &str| {
        let config = load(&folder().join(file)).unwrap();
        let access = config.access.unwrap();
        move |pattern: &str| {
            let rules = access.rules.iter();
            rules
                .clone()
                .find(|rule| rule.pattern.as_str() == pattern)
                .unwrap()
                .clone()
        }
    };
    let (anchors, generated) = (rules("anchors.yaml"), rules("generated.yaml"));
    let [base, apps, sandbox, tools] = ["base/**", "apps/**", "sandbox/**", "tools/**"].map(anchors);
    for rule in [&apps, &sandbox, &tools] {
        assert_eq!(rule.policies, base.policies);
    }
    assert_eq!((apps.default.len(), apps.anonymous.len()), (1, 1));
    assert_eq!(sandbox.default.len(), 2, "the first that is merged counts");
    let team = generated("team/**");
    assert_eq!(team.policies.len(), 1);
    assert_eq!(team.policies[0].users, ["ann"]);
    assert_eq!(generated("**").anonymous.len(), 1);

    let config = load(&folder().join("templated.yaml")).unwrap();
    assert!(config.public_tls.is_none() && !config.logins.exist());
    assert!(matches!(config.storage.meta, MetaStorage::Redb { .. }));
    let config = load(&folder().join("certificates.json")).unwrap();
    assert_eq!(config.logins.certificates.unwrap().sources.len(), 4);
    let config = load(&folder().join("homelab.yaml")).unwrap();
    assert_eq!(config.access.unwrap().rules[0].policies[0].users, ["ann", "1000"]);
    let config = load(&folder().join("nightly-cache.json")).unwrap();
    assert_eq!(config.rate_limits.methods.len(), 1);
}
