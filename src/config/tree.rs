//! A configuration file as a tree of values that still know the line they came from.
//!
//! JSON and YAML give the same tree, so everything after this module is written once. serde's derive is deliberately
//! absent: it stops at the first fault and forgets positions, and a configuration answers with all its faults at once.

use std::{cell::Cell, fmt, io, rc::Rc};

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use super::fault::{Fault, FaultKind};

/// Nesting that no configuration reaches; a bound for the recursion over a tree.
const MAX_DEPTH: usize = 32;
/// The nodes of one file, aliases expanded: a bound against YAML's alias bombs.
const MAX_NODES: usize = 100_000;

/// One value and the line (from 1) on which it, or the key that names it, stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// The value.
    pub(crate) value: Value,
    /// The line, from 1.
    pub(crate) line: u32,
}

/// What JSON can say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// `null`, and YAML's empty value.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number; no key of ours wants one but a rate.
    Float(f64),
    /// A string.
    Str(String),
    /// A list.
    List(Vec<Node>),
    /// An object, in the order of the file; a key may stand twice (the check refuses it).
    Object(Vec<(String, Node)>),
}

impl Value {
    /// The kind of the value with its article, for "expected ..., got ...".
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Str(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// The notation of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notation {
    /// JSON.
    Json,
    /// YAML 1.2.
    Yaml,
}

impl Notation {
    /// By the file's extension, else by content: a JSON configuration is an object, so it starts with a brace.
    pub(crate) fn of(extension: Option<&str>, text: &str) -> Self {
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("json") => Self::Json,
            Some("yaml" | "yml") => Self::Yaml,
            _ if text.trim_start_matches('\u{feff}').trim_start().starts_with('{') => Self::Json,
            _ => Self::Yaml,
        }
    }
}

/// Parses a whole file; a fault of syntax is the only one there can be.
pub(crate) fn parse(text: &str, notation: Notation) -> Result<Node, Fault> {
    let text = text.trim_start_matches('\u{feff}');
    match notation {
        Notation::Json => parse_json(text),
        Notation::Yaml => parse_yaml(text),
    }
}

fn syntax(line: usize, problem: impl fmt::Display) -> Fault {
    let mut fault = Fault::new(FaultKind::Syntax, "", problem.to_string());
    fault.line = u32::try_from(line).ok().filter(|line| *line > 0);
    fault
}

// --- JSON ------------------------------------------------------------------------------------------------------------

fn parse_json(text: &str) -> Result<Node, Fault> {
    let line = Rc::new(Cell::new(1));
    let reader = LineReader {
        rest: text.as_bytes(),
        line: Rc::clone(&line),
    };
    let mut json = serde_json::Deserializer::from_reader(reader);
    let seed = NodeSeed {
        line: &line,
        depth: 0,
    };
    let node = seed
        .deserialize(&mut json)
        .and_then(|node| json.end().map(|()| node));
    node.map_err(|error| {
        syntax(
            error.line(),
            format!("not JSON: {}", without_position(&error.to_string())),
        )
    })
}

/// serde_json ends its messages with the position, which the fault already carries.
fn without_position(message: &str) -> &str {
    message.split(" at line ").next().unwrap_or(message)
}

/// Hands out one byte at a time and counts lines, so that a visitor knows the line of the key it was just given:
/// serde_json tells positions only in errors.
struct LineReader<'a> {
    rest: &'a [u8],
    line: Rc<Cell<u32>>,
}

impl io::Read for LineReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (Some((byte, rest)), Some(slot)) = (self.rest.split_first(), buffer.first_mut()) else {
            return Ok(0);
        };
        *slot = *byte;
        self.rest = rest;
        self.line
            .set(self.line.get().saturating_add(u32::from(*byte == b'\n')));
        Ok(1)
    }
}

#[derive(Clone, Copy)]
struct NodeSeed<'a> {
    line: &'a Cell<u32>,
    depth: usize,
}

impl NodeSeed<'_> {
    fn node(self, value: Value) -> Node {
        Node {
            value,
            line: self.line.get(),
        }
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth {
            MAX_DEPTH => Err(E::custom(format_args!("nested deeper than {MAX_DEPTH} levels"))),
            depth => Ok(Self {
                depth: depth + 1,
                ..self
            }),
        }
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(self.node(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(self.node(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(self.node(Value::Int(value)))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Node, E> {
        match i64::try_from(value) {
            Ok(value) => Ok(self.node(Value::Int(value))),
            Err(_) => Err(E::custom(format_args!("the number {value} is too large"))),
        }
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(self.node(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(self.node(Value::Str(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let start = self.line.get();
        let deeper = self.deeper()?;
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(deeper)? {
            nodes.push(node);
        }
        Ok(Node {
            value: Value::List(nodes),
            line: start,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let start = self.line.get();
        let deeper = self.deeper()?;
        let mut members = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let line = self.line.get();
            let mut node = map.next_value_seed(deeper)?;
            node.line = line;
            members.push((key, node));
        }
        if members.len() > MAX_NODES {
            return Err(A::Error::custom("too many keys"));
        }
        Ok(Node {
            value: Value::Object(members),
            line: start,
        })
    }
}

// --- YAML ------------------------------------------------------------------------------------------------------------

fn parse_yaml(text: &str) -> Result<Node, Fault> {
    let mut builder = YamlBuilder {
        events: Parser::new_from_str(text),
        anchors: Vec::new(),
        nodes: 0,
    };
    let mut document = None;
    while let Some((event, span)) = builder.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
            _ if document.is_some() => {
                return Err(syntax(line_of(&span), "a configuration is one YAML document"));
            }
            event => document = Some(builder.node(event, &span, 0)?),
        }
    }
    Ok(document.unwrap_or(Node {
        value: Value::Null,
        line: 1,
    }))
}

struct YamlBuilder<'a> {
    events: Parser<'a, StrInput<'a>>,
    /// Complete anchored nodes; a name defined twice means the later one, which the parser resolves by id.
    anchors: Vec<(usize, Node)>,
    nodes: usize,
}

impl<'a> YamlBuilder<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Fault> {
        match self.events.next().transpose() {
            Ok(next) => Ok(next),
            Err(error) => {
                let line = error.marker().line();
                let message = error.info();
                Err(syntax(line, format!("not YAML: {message}")))
            }
        }
    }

    fn some(&mut self, line: u32) -> Result<(Event<'a>, Span), Fault> {
        self.next()?
            .ok_or_else(|| syntax(line as usize, "not YAML: the document ends early"))
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, Fault> {
        let line = u32::try_from(line_of(span)).unwrap_or(u32::MAX);
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(syntax(line as usize, "too deep or too large for a configuration"));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text_tagged = tag.is_some_and(|tag| tag.suffix() == "str");
                (scalar(text.into_owned(), style, text_tagged), anchor)
            }
            Event::SequenceStart(_, anchor, _) => (Value::List(self.list(line, depth)?), anchor),
            Event::MappingStart(_, anchor, _) => (Value::Object(self.object(line, depth)?), anchor),
            Event::Alias(id) => return self.alias(id, line),
            _ => return Err(syntax(line as usize, "not YAML: expected a value")),
        };
        let node = Node { value, line };
        if anchor != 0 {
            self.anchors.push((anchor, node.clone()));
        }
        Ok(node)
    }

    fn list(&mut self, line: u32, depth: usize) -> Result<Vec<Node>, Fault> {
        let mut nodes = Vec::new();
        loop {
            match self.some(line)? {
                (Event::SequenceEnd, _) => return Ok(nodes),
                (event, span) => nodes.push(self.node(event, &span, depth + 1)?),
            }
        }
    }

    fn object(&mut self, line: u32, depth: usize) -> Result<Vec<(String, Node)>, Fault> {
        let mut members = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.some(line)?;
            let (key, is_merge) = match event {
                Event::MappingEnd => return Ok(with_merged(members, merged)),
                Event::Scalar(text, style, ..) => {
                    let is_merge = text == MERGE && style == ScalarStyle::Plain;
                    (text.into_owned(), is_merge)
                }
                _ => return Err(syntax(line_of(&span), "a key must be a plain name")),
            };
            let key_line = u32::try_from(line_of(&span)).unwrap_or(u32::MAX);
            let (event, span) = self.some(key_line)?;
            let mut node = self.node(event, &span, depth + 1)?;
            if is_merge {
                merged.extend(mergeable(node, key_line)?);
                continue;
            }
            node.line = key_line;
            members.push((key, node));
        }
    }

    fn alias(&mut self, id: usize, line: u32) -> Result<Node, Fault> {
        let Some((_, node)) = self.anchors.iter().find(|(anchor, _)| *anchor == id) else {
            return Err(syntax(line as usize, "an alias of an anchor that isn't complete"));
        };
        self.nodes = self.nodes.saturating_add(count(node));
        if self.nodes > MAX_NODES {
            return Err(syntax(
                line as usize,
                "aliases expand to too large a configuration",
            ));
        }
        Ok(Node {
            value: node.value.clone(),
            line,
        })
    }
}

/// The key that takes over the members of other objects (YAML's "merge" type, which 1.2 left to parsers; zot's has it).
const MERGE: &str = "<<";

/// The members that a merge key gives: of one object, or of several in a list, the first of which counts.
fn mergeable(node: Node, line: u32) -> Result<Vec<(String, Node)>, Fault> {
    let refused = || syntax(line as usize, "<< takes over an object, or a list of objects");
    match node.value {
        Value::Object(members) => Ok(members),
        Value::List(elements) => {
            let objects = elements.into_iter().map(|element| match element.value {
                Value::Object(members) => Ok(members),
                _ => Err(refused()),
            });
            Ok(objects.collect::<Result<Vec<_>, _>>()?.concat())
        }
        _ => Err(refused()),
    }
}

/// What an object says itself counts, wherever in it the merge key stands; of what is taken over, the first.
fn with_merged(mut members: Vec<(String, Node)>, merged: Vec<(String, Node)>) -> Vec<(String, Node)> {
    for (name, node) in merged {
        if !members.iter().any(|(own, _)| own.eq_ignore_ascii_case(&name)) {
            members.push((name, node));
        }
    }
    members
}

fn line_of(span: &Span) -> usize {
    span.start.line()
}

fn count(node: &Node) -> usize {
    match &node.value {
        Value::List(nodes) => nodes.iter().map(count).sum::<usize>() + 1,
        Value::Object(members) => members.iter().map(|(_, node)| count(node)).sum::<usize>() + 1,
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Str(_) => 1,
    }
}

/// YAML 1.2's core schema: `yes`, `on` and `0777` are strings, as zot's parser has them too.
fn scalar(text: String, style: ScalarStyle, text_tagged: bool) -> Value {
    if style != ScalarStyle::Plain || text_tagged {
        return Value::Str(text);
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let number_like = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let zero_padded =
        digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    if !number_like || zero_padded {
        return Value::Str(text);
    }
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(int), _) => Value::Int(int),
        (Err(_), Ok(float)) => Value::Float(float),
        (Err(_), Err(_)) => Value::Str(text),
    }
}

#[cfg(test)]
mod tests;
