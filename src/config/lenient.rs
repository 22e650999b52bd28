//! The forms that zot's decoder takes for others, written out as what they mean, so that everything after this meets one
//! form of each: one object for a list of objects, an empty object for an empty list and the other way round, a list of
//! objects for an object by name, a number for a string and a string of digits for a number, a digit for a boolean.
//!
//! Deliberately absent: values that mean "not said" (`check`), and a number for a secret, whose digits YAML may have
//! changed (`0123`): that is refused.

use super::{
    keys::{self, Kind},
    tree::{Node, Value},
};

/// Rewrites a whole file.
pub(super) fn written_out(mut root: Node) -> Node {
    if let Value::Object(members) = &mut root.value {
        object(members, "");
    }
    root
}

fn object(members: &mut [(String, Node)], pattern: &str) {
    let driver = keys::driver(members);
    for (name, node) in members {
        if let Some(key) = keys::find(pattern, name, driver.as_deref()) {
            value(node, key.kind, key.path);
        }
    }
}

fn value(node: &mut Node, kind: Kind, pattern: &str) {
    node.value = match (kind, std::mem::replace(&mut node.value, Value::Null)) {
        (Kind::List, Value::Object(members)) if members.is_empty() => Value::List(Vec::new()),
        (Kind::List, Value::Object(members)) => Value::List(vec![Node {
            value: Value::Object(members),
            line: node.line,
        }]),
        (Kind::Map | Kind::Object, Value::List(elements)) if elements.is_empty() => Value::Object(Vec::new()),
        (Kind::Map, Value::List(elements)) => by_name(elements),
        (Kind::Text | Kind::Texts, Value::Int(int)) => Value::Str(int.to_string()),
        (Kind::Text | Kind::Texts, Value::Float(float)) => Value::Str(float.to_string()),
        (Kind::Int | Kind::Number, Value::Str(text)) => text.parse().map_or(Value::Str(text), Value::Int),
        (Kind::Bool, Value::Int(int)) => Value::Bool(int != 0),
        (Kind::Bool, Value::Str(text)) => match text.as_str() {
            "1" | "t" | "T" => Value::Bool(true),
            "0" | "f" | "F" => Value::Bool(false),
            _ => Value::Str(text),
        },
        (_, other) => other,
    };
    match (kind, &mut node.value) {
        (Kind::List, Value::List(elements)) => {
            let pattern = format!("{pattern}[]");
            for element in elements {
                if let Value::Object(members) = &mut element.value {
                    object(members, &pattern);
                }
            }
        }
        (Kind::Texts, Value::List(elements)) => {
            for element in elements {
                value(element, Kind::Text, pattern);
            }
        }
        (_, Value::Object(members)) => object(members, pattern),
        _ => {}
    }
}

/// The members of all elements, where all are objects: a name that stands twice has its fault later.
fn by_name(elements: Vec<Node>) -> Value {
    if !elements
        .iter()
        .all(|element| matches!(element.value, Value::Object(_)))
    {
        return Value::List(elements);
    }
    let members = elements.into_iter().map(|element| match element.value {
        Value::Object(members) => members,
        _ => Vec::new(),
    });
    Value::Object(members.flatten().collect())
}
