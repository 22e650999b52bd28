//! Expressions of the Common Expression Language, as zot has them in policies and for claims of tokens.
//!
//! One is read once, when the configuration is: then it is short, knows only the names that it will be asked with, and goes
//! through lists in at most two levels. So what it costs to ask is bounded by what it is asked about, which whoever asks bounds.

use std::{collections::HashMap, fmt, panic, sync::Arc};

use cel::{
    Context, Program, Value,
    common::ast::{EntryExpr, Expr, IdedExpr},
};

/// The longest expression, in bytes.
const MAX_BYTES: usize = 4 * 1024;
/// How deep brackets may stand in brackets, and how many choices there may be: the parser calls itself for each.
const MAX_BRACKETS: usize = 16;
const MAX_CHOICES: usize = 32;
/// How many macros that go through a list may stand in each other.
const MAX_LEVELS: usize = 2;

/// Names of types, which stand for themselves.
const TYPES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

/// Functions that are known; operators aren't called by such names.
const FUNCTIONS: [&str; 13] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

/// An expression that can be asked.
#[derive(Clone)]
pub struct Expression {
    text: Arc<str>,
    program: Arc<Program>,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// A name, and what it stands for.
pub type Binding = (&'static str, Value);

impl Expression {
    /// Reads an expression that will be asked with these names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("expected an expression of at most {MAX_BYTES} bytes"));
        }
        if brackets(text) > MAX_BRACKETS || text.matches('?').count() > MAX_CHOICES {
            return Err(format!(
                "expected at most {MAX_BRACKETS} brackets in each other, and {MAX_CHOICES} choices"
            ));
        }
        // What the parser of a grammar makes of the strangest input is its own; here it is a fault like any other.
        let program = panic::catch_unwind(|| Program::compile(text))
            .map_err(|_| "expected an expression of CEL".to_owned())?
            .map_err(|error| format!("expected an expression of CEL: {}", one_line(&error.to_string())))?;
        check(program.expression(), &mut names.to_vec(), 0)?;
        Ok(Self {
            text: text.into(),
            program: Arc::new(program),
        })
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it comes to.
    ///
    /// # Errors
    /// Why it comes to nothing. It may show what it was asked about: for logs alone.
    pub fn value(&self, bindings: &[Binding]) -> Result<Value, String> {
        let evaluate = || {
            let mut context = Context::default();
            for (name, value) in bindings {
                context.add_variable_from_value(*name, value.clone());
            }
            self.program.execute(&context).map_err(|error| error.to_string())
        };
        // It is asked about what others send: whatever they may find in the interpreter, it is a "no".
        panic::catch_unwind(panic::AssertUnwindSafe(evaluate))
            .unwrap_or_else(|_| Err("the interpreter gave up".to_owned()))
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// Why that can't be said.
    pub fn holds(&self, bindings: &[Binding]) -> Result<bool, String> {
        match self.value(bindings)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(format!("it gives {}, not a bool", other.type_of())),
        }
    }

    /// The text that it gives.
    ///
    /// # Errors
    /// Why it gives none.
    pub fn text(&self, bindings: &[Binding]) -> Result<String, String> {
        text(self.value(bindings)?)
    }

    /// The texts of the list that it gives; one by itself is a list of it.
    ///
    /// # Errors
    /// Why it gives none.
    pub fn texts(&self, bindings: &[Binding]) -> Result<Vec<String>, String> {
        match self.value(bindings)? {
            Value::List(list) => list.iter().cloned().map(text).collect(),
            Value::Null => Ok(Vec::new()),
            one => Ok(vec![text(one)?]),
        }
    }
}

/// What a text of JSON says, for expressions: a number that is whole is one to them, too.
#[must_use]
pub fn value_of(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(number)) => Value::Float(number),
            (None, None) => Value::Null,
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(list) => Value::from(list.iter().map(value_of).collect::<Vec<_>>()),
        serde_json::Value::Object(members) => {
            let members = members
                .iter()
                .map(|(name, value)| (name.clone(), value_of(value)));
            Value::from(members.collect::<HashMap<String, Value>>())
        }
    }
}

fn text(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.to_string()),
        other => Err(format!("it gives {}, not a string", other.type_of())),
    }
}

/// How deep they stand in each other, those in strings counted too.
fn brackets(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for sign in text.chars() {
        match sign {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Refuses names that nothing stands for, and macros in macros in macros.
fn check<'a>(expression: &'a IdedExpr, names: &mut Vec<&'a str>, level: usize) -> Result<(), String> {
    match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) => Ok(()),
        Expr::Ident(name) => match names.contains(&name.as_str()) || TYPES.contains(&name.as_str()) {
            true => Ok(()),
            false => Err(format!(
                "nothing is called {name} here: there is {}",
                names.join(", ")
            )),
        },
        Expr::Select(select) => check(&select.operand, names, level),
        Expr::Call(call) => {
            let function = call.func_name.as_str();
            let is_operator = !function.starts_with(|c: char| c.is_ascii_alphabetic());
            if !is_operator && !FUNCTIONS.contains(&function) {
                return Err(format!(
                    "there is no function {function} here, only {}",
                    FUNCTIONS.join(", ")
                ));
            }
            for part in call.target.iter().map(AsRef::as_ref).chain(&call.args) {
                check(part, names, level)?;
            }
            Ok(())
        }
        Expr::List(list) => list
            .elements
            .iter()
            .try_for_each(|part| check(part, names, level)),
        Expr::Map(map) => map
            .entries
            .iter()
            .try_for_each(|entry| check_entry(&entry.expr, names, level)),
        Expr::Struct(object) => object
            .entries
            .iter()
            .try_for_each(|entry| check_entry(&entry.expr, names, level)),
        Expr::Comprehension(each) => {
            if level == MAX_LEVELS {
                return Err(format!(
                    "expected at most {MAX_LEVELS} of all, exists, map and filter in each other"
                ));
            }
            check(&each.iter_range, names, level)?;
            check(&each.accu_init, names, level)?;
            let before = names.len();
            names.push(&each.iter_var);
            names.extend(each.iter_var2.as_deref());
            names.push(&each.accu_var);
            for part in [&each.loop_cond, &each.loop_step, &each.result] {
                check(part, names, level + 1)?;
            }
            names.truncate(before);
            Ok(())
        }
    }
}

fn check_entry<'a>(entry: &'a EntryExpr, names: &mut Vec<&'a str>, level: usize) -> Result<(), String> {
    match entry {
        EntryExpr::StructField(field) => check(&field.value, names, level),
        EntryExpr::MapEntry(entry) => {
            check(&entry.key, names, level)?;
            check(&entry.value, names, level)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings() -> Vec<Binding> {
        let groups: Vec<Value> = ["a", "b"].map(Value::from).to_vec();
        vec![("groups", Value::from(groups)), ("name", Value::from("ann"))]
    }

    fn parse(text: &str) -> Result<Expression, String> {
        Expression::parse(text, &["groups", "name"])
    }

    #[test]
    fn an_expression_gives_what_it_says() {
        let asked = bindings();
        assert_eq!(parse("name + '!'").unwrap().text(&asked).unwrap(), "ann!");
        assert_eq!(
            parse("groups.map(g, 'x:' + g)").unwrap().texts(&asked).unwrap(),
            ["x:a", "x:b"]
        );
        assert_eq!(parse("name").unwrap().texts(&asked).unwrap(), ["ann"]);
        for (text, holds) in [
            ("'a' in groups && name.startsWith('an')", true),
            ("groups.exists(g, g == 'c')", false),
            ("name.matches('^a.n$')", true),
            ("size(groups) == 2 && type(name) == string", true),
        ] {
            assert_eq!(parse(text).unwrap().holds(&asked), Ok(holds), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_when_it_is_read() {
        for (text, problem) in [
            ("", "expected an expression of CEL"),
            ("name ==", "expected an expression of CEL"),
            ("nme == 'x'", "nothing is called nme here: there is groups, name"),
            ("lower(name) == 'ann'", "there is no function lower here"),
            ("groups.all(g, g == h)", "nothing is called h here"),
            (
                "groups.all(a, groups.all(b, groups.all(c, true)))",
                "expected at most 2 of all",
            ),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.starts_with(problem), "{text}: {refused}");
        }
        let long = format!("name == '{}'", "x".repeat(MAX_BYTES));
        assert!(parse(&long).unwrap_err().contains("at most 4096 bytes"));
        let deep = format!("{}name{}", "(".repeat(1000), ")".repeat(1000));
        assert!(parse(&deep).unwrap_err().contains("at most 16 brackets"));
        let choices = "name == 'a' ? true : ".repeat(100) + "false";
        assert!(parse(&choices).unwrap_err().contains("32 choices"));
        for long in ["!", "-", "name + ", "name == 'a' || ", "groups[0] + "] {
            // Whatever comes of it, it is no end of the process.
            let _ = parse(&(long.repeat(250) + "name"));
        }
    }

    #[test]
    fn what_comes_to_nothing_is_an_error() {
        for text in [
            "name",
            "1",
            "groups[7] == 'a'",
            "1 / 0 == 1",
            "name.matches('(')",
            "groups.nothing",
        ] {
            assert!(parse(text).unwrap().holds(&bindings()).is_err(), "{text}");
        }
    }
}
