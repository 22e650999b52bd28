//! Parts of what stands in lists and under names that users choose, where no path leads.

use crate::config::{
    check::Checked,
    fault::FaultKind,
    tree::{Node, Value},
};

/// What an object has under a name, in any case.
pub(super) fn member<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    match &node.value {
        Value::Object(members) => members
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, node)| node),
        _ => None,
    }
}

/// The strings of a list, or of one with commas; what has another type has its fault already.
pub(super) fn lined_strings(node: Option<&Node>) -> Vec<(String, u32)> {
    let Some(node) = node else { return Vec::new() };
    match &node.value {
        Value::List(elements) => elements
            .iter()
            .filter_map(|element| match &element.value {
                Value::Str(text) => Some((text.clone(), element.line)),
                _ => None,
            })
            .collect(),
        Value::Str(text) => text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| (part.to_owned(), node.line))
            .collect(),
        _ => Vec::new(),
    }
}

/// A string that isn't empty, with its line; what has another type has its fault already.
pub(super) fn text(node: &Node, name: &str) -> Option<(String, u32)> {
    let node = member(node, name)?;
    match &node.value {
        Value::Str(text) if !text.is_empty() => Some((text.clone(), node.line)),
        _ => None,
    }
}

/// The same, with a fault where it isn't there.
pub(super) fn required(
    c: &mut Checked,
    path: &str,
    node: &Node,
    name: &str,
    why: &str,
) -> Option<(String, u32)> {
    let found = text(node, name);
    if found.is_none() {
        let problem = format!("is required: {why}");
        c.refuse_at(FaultKind::Missing, &format!("{path}.{name}"), node.line, problem);
    }
    found
}

/// What a list holds; what has another type has its fault already.
pub(super) fn elements(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::List(elements)) => elements,
        Some(_) | None => &[],
    }
}
