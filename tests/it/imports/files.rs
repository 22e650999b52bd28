//! Which file uses what of which other, as far as the text tells: `use` and paths, through what modules re-export to the file that
//! has it. A file may use what its own folder's module says (a child sees its parent, in Rust, and `impl Parent` stands in children),
//! so arrows to ancestors don't count; tests don't, either.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// A module's path below the crate, of which each has one file.
pub(super) type Module = Vec<String>;

/// The module whose file this is, relative to `src`.
pub(super) fn module(file: &Path) -> Module {
    let file = file.with_extension("");
    let mut segments: Module = file.iter().map(|s| s.to_str().unwrap().to_owned()).collect();
    if segments.last().is_some_and(|last| last == "mod") {
        segments.pop();
    }
    segments
}

/// Every circle of files inside one top-level module, each on a line.
pub(super) fn circles(texts: &BTreeMap<Module, &str>) -> Vec<String> {
    let files: BTreeMap<&Module, File> = texts
        .iter()
        .filter(|(module, _)| !is_test(module))
        .map(|(module, text)| (module, File::read(text)))
        .collect();
    let crate_ = Crate { files };
    let arrows: BTreeMap<&Module, BTreeSet<&Module>> = crate_
        .files
        .keys()
        .map(|from| (*from, crate_.known_by(from)))
        .collect();
    let mut circles = BTreeSet::new();
    for from in arrows.keys() {
        let ahead = reachable(&arrows, from);
        let circle: Vec<String> = ahead
            .iter()
            .filter(|other| reachable(&arrows, other).contains(from))
            .map(|other| other.join("::"))
            .collect();
        if !circle.is_empty() {
            circles.insert(circle.join(", "));
        }
    }
    circles.into_iter().collect()
}

fn reachable<'a>(arrows: &BTreeMap<&'a Module, BTreeSet<&'a Module>>, from: &Module) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut ahead: Vec<&Module> = arrows[from].iter().copied().collect();
    while let Some(next) = ahead.pop() {
        if found.insert(next) {
            ahead.extend(&arrows[next]);
        }
    }
    found
}

fn is_test(module: &Module) -> bool {
    let names = ["tests", "testing", "races"];
    module
        .iter()
        .any(|segment| names.contains(&segment.as_str()) || segment.ends_with("_tests"))
}

struct File {
    /// Paths of `use`, as written, and whether they are made public again.
    imports: Vec<(Vec<String>, bool)>,
    /// Paths elsewhere in the text.
    paths: Vec<Vec<String>>,
    words: BTreeSet<String>,
}

impl File {
    fn read(text: &str) -> Self {
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = text
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default());
        let code = lines.collect::<Vec<_>>().join("\n");
        let (mut imports, mut rest) = (Vec::new(), String::new());
        for statement in code.split_inclusive(';') {
            match statement.split_once("use ") {
                // It begins a line, after nothing or the word that makes it public.
                Some((before, tree)) if is_import(before) => {
                    let line = before.rsplit('\n').next().unwrap_or_default();
                    let tree: String = tree
                        .trim_end_matches(';')
                        .split_whitespace()
                        .collect::<Vec<_>>()
                        .join(" ");
                    let is_public = line.trim_start().starts_with("pub");
                    imports.extend(expand(&tree).into_iter().map(|path| (path, is_public)));
                    rest.push_str(before);
                }
                _ => rest.push_str(statement),
            }
        }
        let rest = without_visibility(&rest);
        let paths = rest
            .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
            .filter(|word| word.contains("::"))
            .map(|path| path.split("::").map(str::to_owned).collect())
            .collect();
        let words = rest
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map(str::to_owned)
            .collect();
        Self {
            imports,
            paths,
            words,
        }
    }
}

fn is_import(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default().trim();
    line.is_empty() || line == "pub" || (line.starts_with("pub(") && line.ends_with(')'))
}

/// `pub(in crate::a)` says who may know, not who is known.
fn without_visibility(text: &str) -> String {
    let mut pieces = text.split("pub(in ");
    let mut rest = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        rest.push_str(piece.split_once(')').map_or(piece, |(_, after)| after));
    }
    rest
}

/// `a::{b, c::{d, self}}` as its single paths.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let Some((prefix, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        let path: Vec<String> = path
            .split("::")
            .map(|segment| segment.trim().to_owned())
            .collect();
        return vec![path];
    };
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let prefix: Vec<String> = prefix
        .split("::")
        .map(|segment| segment.trim().to_owned())
        .filter(|segment| !segment.is_empty())
        .collect();
    let (mut depth, mut begin, mut parts) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[begin..]);
    let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
    parts
        .flat_map(expand)
        .map(|path| {
            let path = path
                .into_iter()
                .filter(|segment| segment != "self" || prefix.is_empty());
            prefix.iter().cloned().chain(path).collect()
        })
        .collect()
}

struct Crate<'a> {
    files: BTreeMap<&'a Module, File>,
}

impl<'a> Crate<'a> {
    /// The files of the same top-level module that `from` uses, but for its ancestors.
    fn known_by(&self, from: &Module) -> BTreeSet<&'a Module> {
        let file = &self.files[from];
        let used = file.imports.iter().filter(|(path, is_public)| {
            // A module that makes something public again doesn't use it by that.
            !is_public || path.last().is_some_and(|name| file.words.contains(name))
        });
        let paths = used.map(|(path, _)| path).chain(&file.paths);
        paths
            .filter_map(|path| self.resolve(from, path))
            .filter_map(|path| self.file_of(path))
            .filter(|found| found[0] == from[0] && !from.starts_with(found))
            .collect()
    }

    /// A path from the crate's root; `None` for one into another crate, or of a type's.
    fn resolve(&self, from: &Module, path: &[String]) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([from.as_slice(), rest].concat()),
            "super" => {
                let ups = path.iter().take_while(|segment| *segment == "super").count();
                let base = from.get(..from.len().checked_sub(ups)?)?;
                Some([base, &path[ups..]].concat())
            }
            _ => {
                let child = [from.as_slice(), std::slice::from_ref(first)].concat();
                self.files
                    .contains_key(&child)
                    .then(|| [child.as_slice(), rest].concat())
            }
        }
    }

    /// The file that has what `path` names, also where modules between have taken it from elsewhere.
    fn file_of(&self, mut path: Module) -> Option<&'a Module> {
        // As often as anything is taken from elsewhere, and an end for what is in a circle.
        for _ in 0..8 {
            let length = (1..=path.len())
                .rev()
                .find(|n| self.files.contains_key(&path[..*n].to_vec()))?;
            let (&module, file) = self.files.get_key_value(&path[..length].to_vec())?;
            let taken = path.get(length).and_then(|name| {
                let mut imports = file.imports.iter();
                imports.find(|(import, _)| import.len() > 1 && import.last() == Some(name))
            });
            let from_elsewhere = taken.and_then(|(import, _)| self.resolve(module, import));
            match from_elsewhere {
                Some(begin) => path = [begin.as_slice(), &path[length + 1..]].concat(),
                None => return Some(module),
            }
        }
        None
    }
}

#[test]
fn a_planted_circle_is_found_and_what_is_none_is_not() {
    let text = |a: &str, b: &str| -> Vec<String> {
        let files = [
            (
                "m",
                "mod a;\nmod b;\nmod c;\npub use self::{a::A, b::{B, D as E}};\npub struct M;\n",
            ),
            ("m/a", a),
            ("m/b", b),
            ("m/c", "use super::M;\n"),
        ];
        let texts = files.map(|(path, text)| (module(Path::new(path)), text));
        circles(&BTreeMap::from(texts))
    };
    let circle = ["m::a, m::b".to_owned()];
    assert_eq!(
        text("use super::B;\n", "use crate::m::A;\n"),
        circle,
        "through what the module exports"
    );
    assert_eq!(
        text(
            "use super::{\n    M,\n    b::{self, B},\n};\n",
            "fn f() -> super::a::A {}\n"
        ),
        circle
    );
    assert_eq!(
        text(
            "use crate::{x, m::{b::B as C}};\n",
            "pub(super) use super::a::A;\nfn f(a: A) {}\n"
        ),
        circle
    );
    let none: [String; 0] = [];
    assert_eq!(text("use super::B;\n", "use super::M; // super::A\n"), none);
    assert_eq!(text("use super::B;\n", "pub(in crate::m::a) fn f() {}\n"), none);
    assert_eq!(
        text(
            "use super::B;\n",
            "pub struct B;\n#[cfg(test)]\nmod tests {\n    use super::super::A;\n}\n"
        ),
        none
    );
}
