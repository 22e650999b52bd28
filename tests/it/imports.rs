//! Modules know each other one way: the order of `src/lib.rs` is the order of who may know whom. Inside of a module its files
//! do, too: what one needs of another, that one doesn't need of it.

mod files;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Modules of `src/lib.rs`, in order.
fn modules() -> Vec<String> {
    let lib = fs::read_to_string(source_root().join("lib.rs")).unwrap();
    lib.lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect()
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file with the module it belongs to.
fn sources() -> Vec<(String, PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&source_root(), &mut files);
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(source_root()).unwrap();
            let first = relative
                .components()
                .next()
                .unwrap()
                .as_os_str()
                .to_str()
                .unwrap();
            let module = first.strip_suffix(".rs").unwrap_or(first).to_owned();
            let text = fs::read_to_string(&path).unwrap();
            (module, path, text)
        })
        .collect()
}

/// The modules that a text names by `crate::module`, also inside braces after `crate::`, comments left out.
fn named(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 && (c.is_alphanumeric() || c == '_') {
                    word.push(c);
                } else {
                    if depth == 0 || c == '{' {
                        found.insert(word.clone());
                    }
                    word.clear();
                }
            }
            found.insert(word);
        } else {
            found.insert(
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect(),
            );
        }
    }
    found
}

#[test]
fn the_reader_of_imports_understands_nested_groups() {
    let text = "use crate::{\n    oci::{Action, Digest},\n    storage::keys, // crate::http\n    app,\n};\nfn f(m: crate::mesh::M) {}";
    let expected = ["app", "mesh", "oci", "storage"].map(str::to_owned);
    let mut found = named(text);
    found.retain(|name| name.chars().next().is_some_and(char::is_lowercase) && name != "keys");
    assert_eq!(found, BTreeSet::from(expected));
}

#[test]
fn modules_know_only_those_above_them() {
    let order = modules();
    assert!(
        order.len() > 8,
        "src/lib.rs lists the modules one a line: {order:?}"
    );
    let place = |name: &str| order.iter().position(|module| module == name);
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        // The binary and the crate's root know every module.
        let Some(own) = place(&module) else { continue };
        for name in named(&text) {
            if place(&name).is_some_and(|other| other > own) {
                wrong.push(format!("{} ({module}) uses {name}", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports against the order of src/lib.rs:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn files_of_a_module_know_each_other_one_way() {
    let sources = sources();
    let texts: BTreeMap<_, _> = sources
        .iter()
        .map(|(_, path, text)| {
            (
                files::module(path.strip_prefix(source_root()).unwrap()),
                text.as_str(),
            )
        })
        .collect();
    assert!(texts.len() > 250, "{}", texts.len());
    let circles = files::circles(&texts);
    assert!(
        circles.is_empty(),
        "files that know each other in a circle:\n{}",
        circles.join("\n")
    );
}

#[test]
fn http_and_mesh_meet_only_in_the_composition_root() {
    for (module, path, text) in sources() {
        let other = match module.as_str() {
            "http" => "mesh",
            "mesh" => "http",
            _ => continue,
        };
        assert!(!named(&text).contains(other), "{} knows {other}", path.display());
    }
}

#[test]
fn only_the_two_doors_admit_a_request() {
    for (_, path, text) in sources() {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let builds = code.lines().any(|line| {
            let line = line.split("//").next().unwrap();
            line.contains("Admitted {")
                && !line.contains("struct")
                && !line.contains("impl")
                && !line.contains("let ")
        });
        let path = path.strip_prefix(source_root()).unwrap().display().to_string();
        // In the mesh it is `Asked::with`: an `Asked` is either an admitted request taken apart, or one that the ingress
        // has read from a head and checked.
        let door = path.starts_with("http/front") || path == "mesh/frames.rs";
        assert!(
            !builds || door || path.contains("tests"),
            "{path} builds an Admitted"
        );
    }
}
