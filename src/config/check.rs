//! The walk over a configuration, driven by the table of keys: every key is known, accepted and of the right type, or
//! it is a fault. What comes out are settings that nothing has to check for their type again; whether they make sense
//! together is `valid`'s question.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use super::{
    duration,
    fault::{Fault, FaultKind},
    keys::{self, Key, Kind, Verdict},
    secret,
    tree::{Node, Value},
};

/// A value of the right type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Setting {
    /// An object that is there.
    Present,
    /// A string; of `Kind::OneOf`, in the table's spelling.
    Text(String),
    /// Strings with their lines.
    Texts(Vec<(String, u32)>),
    /// A boolean.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A port.
    Port(u16),
    /// A duration; `None` is zot's "none" (zero and less).
    Duration(Option<Duration>),
}

struct Found {
    setting: Option<Setting>,
    line: u32,
}

/// The settings of a file, by the path of their row, and what was said about them.
#[derive(Default)]
pub(crate) struct Checked {
    found: BTreeMap<&'static str, Found>,
    /// The faults so far.
    pub(crate) faults: Vec<Fault>,
    /// Remarks on what was accepted.
    pub(crate) warnings: Vec<String>,
    /// Sections, and objects whose keys are the user's names, as they stand.
    nodes: BTreeMap<&'static str, Node>,
    /// Rows that stand here and aren't served, which is a fault of theirs: nothing is said about what goes with them.
    unserved: BTreeSet<&'static str>,
    /// Rows without effect that were used, by the reason: one warning a reason.
    unused: Vec<(&'static str, Vec<&'static str>)>,
}

impl Checked {
    /// Walks a whole file, in which zot's lenient forms are written out.
    pub(crate) fn walk(root: &Node) -> Self {
        let mut checked = Self::default();
        match &root.value {
            Value::Null => {}
            Value::Object(members) => checked.object(members, Place::root()),
            other => checked.faults.push(Fault::new(
                FaultKind::Value,
                "",
                format!("a configuration is an object of keys, this is {}", other.kind()),
            )),
        }
        for (why, keys) in std::mem::take(&mut checked.unused) {
            checked.warnings.push(format!("{}: {why}", keys.join(", ")));
        }
        checked
    }

    fn object(&mut self, members: &[(String, Node)], place: Place<'_>) {
        for (i, (name, node)) in members.iter().enumerate() {
            let path = join(place.path, name);
            let same = |(other, _): &&(String, Node)| other.eq_ignore_ascii_case(name);
            if let Some((_, first)) = members.iter().take(i).find(same) {
                let problem = format!("stands twice, first on line {}: keep one", first.line);
                self.fault(FaultKind::Contradiction, &path, Some(node.line), problem);
                continue;
            }
            match keys::find(place.pattern, name, place.driver) {
                None => {
                    let problem = keys::advice(place.pattern, name, node, place.driver);
                    self.fault(FaultKind::UnknownKey, &path, Some(node.line), problem);
                }
                Some(key) => self.key(key, &path, node),
            }
        }
    }

    fn key(&mut self, key: &'static Key, path: &str, node: &Node) {
        if is_unsaid(key, &node.value) {
            return;
        }
        // What isn't served has one fault or remark, or none where it asks for nothing, and nothing below it has any.
        match key.verdict {
            Verdict::Same | Verdict::Mapped(_) | Verdict::Own(_) => {}
            Verdict::NoEffect(_) | Verdict::Later(_) | Verdict::Refused(_) if is_off(key, node) => return,
            Verdict::NoEffect(why) => {
                match self.unused.iter_mut().find(|(other, _)| *other == why) {
                    Some((_, keys)) => keys.push(key.path),
                    None => self.unused.push((why, vec![key.path])),
                }
                if key.kind.has_rows_below() {
                    return;
                }
            }
            Verdict::Later(why) | Verdict::Refused(why) => {
                self.unserved.insert(key.path);
                return self.fault(FaultKind::Unsupported, path, Some(node.line), why.to_owned());
            }
        }
        let place = |driver| Place {
            pattern: key.path,
            path,
            driver,
        };
        let setting = match (key.kind, &node.value) {
            (Kind::Any, _) => return,
            (Kind::Driver(known), Value::Object(members)) => match self.driver(key, known, path, members) {
                Some(driver) => {
                    self.object(members, place(Some(driver)));
                    Ok(Setting::Present)
                }
                None => {
                    self.unserved.insert(key.path);
                    return;
                }
            },
            (Kind::Object | Kind::Section | Kind::Map, Value::Object(members)) => {
                if matches!(key.kind, Kind::Section | Kind::Map) {
                    self.nodes.insert(key.path, node.clone());
                }
                self.object(members, place(None));
                Ok(Setting::Present)
            }
            (Kind::List, Value::List(elements)) => {
                self.nodes.insert(key.path, node.clone());
                return self.list(key, path, elements);
            }
            (Kind::Secret, Value::Object(members)) => secret::pointed_to(members).map(Setting::Text),
            (kind, value) => read(kind, value),
        };
        let setting = setting
            .map_err(|problem| self.fault(FaultKind::Value, path, Some(node.line), problem))
            .ok();
        self.found.insert(
            key.path,
            Found {
                setting,
                line: node.line,
            },
        );
    }

    /// The driver that an object names, on which its rows depend; `None` with one fault where there is no such driver.
    fn driver<'a>(
        &mut self,
        key: &Key,
        known: &[&str],
        path: &str,
        members: &'a [(String, Node)],
    ) -> Option<&'a str> {
        let path = join(path, "name");
        let expected = known.join(", ");
        let Some((_, node)) = members.iter().find(|(name, _)| name.eq_ignore_ascii_case("name")) else {
            self.fault(
                FaultKind::Missing,
                &path,
                None,
                format!("is required: one of {expected}"),
            );
            return None;
        };
        let line = Some(node.line);
        let Value::Str(name) = &node.value else {
            let problem = format!("expected one of {expected}, got {}", node.value.kind());
            self.fault(FaultKind::Value, &path, line, problem);
            return None;
        };
        if !known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let problem = format!("expected one of {expected}, got {name:?}");
            self.fault(FaultKind::Value, &path, line, problem);
            return None;
        }
        let own = keys::children(key.path, Some(name)).find(|key| key.driver.is_some());
        if let Some(Verdict::Refused(why)) = own.map(|key| key.verdict) {
            self.fault(FaultKind::Unsupported, &path, line, why.to_owned());
            return None;
        }
        Some(name)
    }

    fn list(&mut self, key: &'static Key, path: &str, elements: &[Node]) {
        let pattern = format!("{}[]", key.path);
        for (i, element) in elements.iter().enumerate() {
            let path = format!("{path}[{i}]");
            match &element.value {
                Value::Object(members) => self.object(
                    members,
                    Place {
                        pattern: &pattern,
                        path: &path,
                        driver: None,
                    },
                ),
                other => {
                    let problem = format!("expected an object, got {}", other.kind());
                    self.fault(FaultKind::Value, &path, Some(element.line), problem);
                }
            }
        }
    }

    fn fault(&mut self, kind: FaultKind, path: &str, line: Option<u32>, problem: String) {
        self.faults.push(Fault::new(kind, path, problem).at(line));
    }

    // --- What `valid` asks ---

    /// Whether the key stands in the file, right or wrong.
    pub(crate) fn has(&self, path: &'static str) -> bool {
        self.found(path).is_some()
    }

    /// Whether the key has a fault for not being served, itself or by its driver.
    pub(crate) fn is_unserved(&self, path: &'static str) -> bool {
        self.unserved.contains(path)
    }

    fn found(&self, path: &'static str) -> Option<&Found> {
        debug_assert!(
            keys::all().any(|key| key.path == path),
            "{path} is not in the table"
        );
        self.found.get(path)
    }

    fn setting(&self, path: &'static str) -> Option<&Setting> {
        self.found(path).and_then(|found| found.setting.as_ref())
    }

    /// A string that isn't empty; an empty one is zot's "not said".
    pub(crate) fn text(&self, path: &'static str) -> Option<String> {
        match self.setting(path) {
            Some(Setting::Text(text)) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }

    /// Strings with their lines.
    pub(crate) fn texts(&self, path: &'static str) -> Option<Vec<(String, u32)>> {
        let found = self.found(path)?;
        match &found.setting {
            Some(Setting::Texts(texts)) => {
                let lined = |(text, line): &(String, u32)| {
                    (text.clone(), if *line == 0 { found.line } else { *line })
                };
                Some(texts.iter().map(lined).collect())
            }
            _ => None,
        }
    }

    /// A boolean.
    pub(crate) fn bool(&self, path: &'static str) -> Option<bool> {
        match self.setting(path) {
            Some(Setting::Bool(bool)) => Some(*bool),
            _ => None,
        }
    }

    /// A number.
    pub(crate) fn int(&self, path: &'static str) -> Option<i64> {
        match self.setting(path) {
            Some(Setting::Int(int)) => Some(*int),
            _ => None,
        }
    }

    /// A port.
    pub(crate) fn port(&self, path: &'static str) -> Option<u16> {
        match self.setting(path) {
            Some(Setting::Port(port)) => Some(*port),
            _ => None,
        }
    }

    /// A duration; `Some(None)` is zot's "none".
    pub(crate) fn duration(&self, path: &'static str) -> Option<Option<Duration>> {
        match self.setting(path) {
            Some(Setting::Duration(duration)) => Some(*duration),
            _ => None,
        }
    }

    /// The members of a section, or of an object whose keys are the user's names: what is in them has been checked, but for
    /// their own meaning.
    pub(crate) fn entries(&self, path: &'static str) -> Vec<(String, Node)> {
        match self.nodes.get(path).map(|node| &node.value) {
            Some(Value::Object(members)) => members.clone(),
            Some(_) | None => Vec::new(),
        }
    }

    /// The elements of a list of objects, as [`entries`](Self::entries) gives those of an object.
    pub(crate) fn elements(&self, path: &'static str) -> Vec<Node> {
        match self.nodes.get(path).map(|node| &node.value) {
            Some(Value::List(elements)) => elements.clone(),
            Some(_) | None => Vec::new(),
        }
    }

    /// A string that must be there; that it isn't is a fault, unless the key already has one.
    pub(crate) fn required(&mut self, path: &'static str, why: &str) -> Option<String> {
        let text = self.text(path);
        let empty = matches!(self.setting(path), Some(Setting::Text(text)) if text.is_empty());
        if empty || !self.has(path) {
            self.refuse(FaultKind::Missing, path, format!("is required: {why}"));
        }
        text
    }

    /// A fault of a key, at its line when it stands in the file.
    pub(crate) fn refuse(&mut self, kind: FaultKind, path: &'static str, problem: impl Into<String>) {
        let line = self.found(path).map(|found| found.line);
        self.fault(kind, path, line, problem.into());
    }

    /// A fault at a path with a name of the user's.
    pub(crate) fn refuse_at(&mut self, kind: FaultKind, path: &str, line: u32, problem: String) {
        self.fault(kind, path, Some(line), problem);
    }

    /// A fault at one element of a list.
    pub(crate) fn refuse_element(
        &mut self,
        kind: FaultKind,
        path: &str,
        index: usize,
        line: u32,
        problem: String,
    ) {
        self.fault(kind, &format!("{path}[{index}]"), Some(line), problem);
    }

    /// A remark.
    pub(crate) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }
}

/// Where an object stands: the pattern of its row, its path in the file and the driver that its rows depend on.
struct Place<'a> {
    pattern: &'a str,
    path: &'a str,
    driver: Option<&'a str>,
}

impl Place<'static> {
    fn root() -> Self {
        Self {
            pattern: "",
            path: "",
            driver: None,
        }
    }
}

/// The path of a member, its name quoted where a dot in it could mislead.
fn join(path: &str, name: &str) -> String {
    let plain = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let dot = if path.is_empty() { "" } else { "." };
    match plain {
        true => format!("{path}{dot}{name}"),
        false => format!("{path}{dot}{name:?}"),
    }
}

/// Whether a value is one of zot's ways not to say anything: `null`, an empty string, an object that says nothing.
fn is_unsaid(key: &Key, value: &Value) -> bool {
    match (key.kind, value) {
        (_, Value::Null) => true,
        (Kind::Section, Value::Str(text)) => text.is_empty(),
        // Of these an empty one is a value, or has a meaning of its own: whoever reads the key knows.
        (Kind::Text | Kind::Secret | Kind::Texts | Kind::Any | Kind::Section, _) => false,
        (_, Value::Str(text)) => text.is_empty(),
        (Kind::Driver(_), Value::Object(members)) => members.is_empty(),
        (Kind::Object, Value::Object(members)) => members.iter().all(|(name, node)| {
            let is_empty_text = matches!(&node.value, Value::Str(text) if text.is_empty());
            keys::find(key.path, name, None).is_some_and(|key| is_empty_text || is_unsaid(key, &node.value))
        }),
        (_, Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::List(_) | Value::Object(_)) => false,
    }
}

/// Whether a key asks for nothing: then it may stand here, even where what it belongs to isn't served.
fn is_off(key: &Key, node: &Node) -> bool {
    match (key.kind, &node.value) {
        (_, Value::Object(members)) if key.idle_without.is_some() || key.kind == Kind::Section => {
            let member = |wanted: &str| {
                let named = members.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                named.map(|(_, node)| &node.value)
            };
            let enable = member("enable").map(|enable| read(Kind::Bool, enable));
            let is_idle = key.idle_without.is_some_and(|list| match member(list) {
                None | Some(Value::Null) => true,
                Some(Value::List(elements)) => elements.is_empty(),
                Some(_) => false,
            });
            is_idle || enable == Some(Ok(Setting::Bool(false)))
        }
        (Kind::Object | Kind::Map, Value::Object(members)) => members
            .iter()
            .all(|(name, node)| keys::find(key.path, name, None).is_some_and(|key| is_off(key, node))),
        (Kind::Bool, value) => read(Kind::Bool, value) == Ok(Setting::Bool(false)),
        (_, Value::Null | Value::Int(0)) => true,
        (_, Value::Str(text)) => text.is_empty(),
        (_, Value::List(list)) => list.is_empty(),
        (Kind::Any, Value::Object(members)) => members.is_empty(),
        (_, Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Object(_)) => false,
    }
}

/// A value within a list of objects, as the kind its row wants; what isn't one has its fault already.
pub(crate) fn setting(kind: Kind, value: &Value) -> Option<Setting> {
    read(kind, value).ok()
}

/// Reads a value as the kind its row wants. Like zot, takes `"true"` for a boolean and `"9000"` for a number.
pub(crate) fn read(kind: Kind, value: &Value) -> Result<Setting, String> {
    let setting = match (kind, value) {
        (Kind::Text | Kind::Secret, Value::Str(text)) => Some(Setting::Text(text.clone())),
        (Kind::OneOf(names), Value::Str(text))
            if text.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case(text)) =>
        {
            let name = names.iter().find(|name| name.eq_ignore_ascii_case(text)).copied();
            Some(Setting::Text(name.unwrap_or_default().to_owned()))
        }
        (Kind::Texts, Value::List(elements)) => texts(elements).map(Setting::Texts),
        (Kind::Texts, Value::Str(text)) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Some(Setting::Texts(parts.map(|part| (part.to_owned(), 0)).collect()))
        }
        (Kind::Bool, Value::Bool(bool)) => Some(Setting::Bool(*bool)),
        (Kind::Bool, Value::Str(text)) => text.to_ascii_lowercase().parse().ok().map(Setting::Bool),
        (Kind::Number, Value::Float(_)) => Some(Setting::Present),
        (Kind::Int | Kind::Number, Value::Int(int)) => Some(Setting::Int(*int)),
        (Kind::Int | Kind::Number, Value::Str(text)) => text.parse().ok().map(Setting::Int),
        (Kind::Port, Value::Int(int)) => u16::try_from(*int).ok().map(Setting::Port),
        (Kind::Port, Value::Str(text)) => text.parse().ok().map(Setting::Port),
        (Kind::Duration, Value::Str(text)) => duration::parse(text).map(Setting::Duration),
        (Kind::Duration, Value::Int(nanos)) => duration::from_nanos(*nanos).map(Setting::Duration),
        _ => None,
    };
    setting.ok_or_else(|| {
        let quotes = match (kind, value) {
            (Kind::Secret, Value::Bool(_) | Value::Int(_) | Value::Float(_))
            | (Kind::Text, Value::Bool(_)) => "; put it in quotes",
            _ => "",
        };
        format!("expected {}, got {}{quotes}", Expected(kind), Got(kind, value))
    })
}

fn texts(elements: &[Node]) -> Option<Vec<(String, u32)>> {
    let text = |node: &Node| match &node.value {
        Value::Str(text) => Some((text.clone(), node.line)),
        _ => None,
    };
    elements.iter().map(text).collect()
}

struct Expected(Kind);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Object | Kind::Section | Kind::Driver(_) | Kind::Map => "an object",
            Kind::List => "a list of objects",
            Kind::Any => "anything",
            Kind::Text => "a string",
            Kind::Secret => "a string, or an object with file or env",
            Kind::Texts => "a list of strings",
            Kind::Bool => "true or false",
            Kind::Int => "a whole number",
            Kind::Number => "a number",
            Kind::Port => "a port from 0 to 65535",
            Kind::Duration => "a duration such as \"90s\" or \"1h30m\"",
            Kind::OneOf(names) => return write!(f, "one of {}", names.join(", ")),
        })
    }
}

/// What was there instead: short, and without the value where it may be a secret.
struct Got<'a>(Kind, &'a Value);

impl fmt::Display for Got<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(kind, value) = self;
        match value {
            _ if *kind == Kind::Secret => f.write_str(value.kind()),
            Value::Bool(bool) => write!(f, "{bool}"),
            Value::Int(int) => write!(f, "{int}"),
            Value::Float(float) => write!(f, "{float}"),
            Value::Str(text) if text.len() <= 40 => write!(f, "{text:?}"),
            Value::List(list) if *kind == Kind::Texts => {
                match list.iter().find(|node| !matches!(node.value, Value::Str(_))) {
                    Some(other) => write!(f, "a list with {}", other.value.kind()),
                    None => f.write_str("a list"),
                }
            }
            Value::Null | Value::Str(_) | Value::List(_) | Value::Object(_) => f.write_str(value.kind()),
        }
    }
}
