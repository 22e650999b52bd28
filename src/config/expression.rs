//! Expressions of the Common Expression Language, as zot has them in policies and for claims of tokens.
//!
//! One is read once, when the configuration is: then it is short, knows only the names that it will be asked with, and goes
//! through lists in at most two levels. So what it costs to ask is bounded by what it is asked about, which whoever asks bounds.

mod asked;
mod shape;

use std::{
    collections::{BTreeSet, HashMap},
    fmt, panic,
    sync::{Arc, LazyLock},
};

use cel::{Context, Env, Program, Value};

pub use self::shape::Shape;

/// The longest expression, in bytes.
const MAX_BYTES: usize = 4 * 1024;
/// How deep brackets may stand in brackets, and how many choices there may be: the parser calls itself for each.
const MAX_BRACKETS: usize = 16;
const MAX_CHOICES: usize = 32;

/// The functions of the language.
static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// What an expression is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// Whatever it gives.
    Anything,
    /// True or false.
    Bool,
    /// A string.
    Text,
    /// A list of strings, or one string.
    Texts,
}

/// An expression that can be asked.
#[derive(Clone)]
pub struct Expression {
    text: Arc<str>,
    program: Arc<Program>,
    asked: Arc<BTreeSet<String>>,
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
    /// What is wrong with it, which includes that it can't give what it is to give, whatever the names stand for.
    pub fn parse(text: &str, names: &[(&str, Shape)], gives: Gives) -> Result<Self, String> {
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
        let shape = shape::of(program.expression(), &mut names.to_vec(), 0)?;
        let (fits, expected) = match gives {
            Gives::Anything => (true, ""),
            Gives::Bool => (shape.may_be(Shape::Bool), "true or false"),
            Gives::Text => (shape.may_be(Shape::Text), "a string"),
            Gives::Texts => {
                let may_be_one = shape.may_be(Shape::Text);
                (may_be_one || matches!(shape, Shape::List(_)), "a list of strings")
            }
        };
        if !fits {
            return Err(format!("it gives {}, expected {expected}", shape.name()));
        }
        Ok(Self {
            text: text.into(),
            asked: Arc::new(asked::of(program.expression())),
            program: Arc::new(program),
        })
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether what it comes to may depend on the value at `path`, such as `req.user.groups`.
    #[must_use]
    pub fn may_ask(&self, path: &str) -> bool {
        let is_in = |inner: &str, outer: &str| {
            let rest = inner.strip_prefix(outer);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.asked
            .iter()
            .any(|asked| is_in(asked, path) || is_in(path, asked))
    }

    /// What it comes to.
    ///
    /// # Errors
    /// Why it comes to nothing. It may show what it was asked about: for logs alone.
    pub fn value(&self, bindings: &[Binding]) -> Result<Value, String> {
        let evaluate = || {
            let mut context = Context::with_env(STANDARD.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings() -> Vec<Binding> {
        let groups: Vec<Value> = ["a", "b"].map(Value::from).to_vec();
        vec![("groups", Value::from(groups)), ("name", Value::from("ann"))]
    }

    const REQUEST: Shape = Shape::Object(&[
        ("tag", Shape::Text),
        ("time", Shape::Time),
        ("size", Shape::Number),
        ("said", Shape::Anything),
    ]);
    const NAMES: [(&str, Shape); 3] = [
        ("groups", Shape::List(&Shape::Text)),
        ("name", Shape::Text),
        ("req", REQUEST),
    ];

    fn parse(text: &str) -> Result<Expression, String> {
        Expression::parse(text, &NAMES, Gives::Anything)
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
    fn what_an_expression_asks_for_is_known_however_it_is_written() {
        for (text, asks) in [
            ("name == 'ann'", &["name"][..]),
            ("name == 'req.tag'", &["name"]),
            (
                "req.tag == 'x' && !has(req.said.more)",
                &["req.tag", "req.said", "req.said.more"],
            ),
            ("req['tag'] == 'x'", &["req.tag"]),
            ("req[\"t\\x61g\"] == 'x'", &["req.tag"]),
            (
                "req['t' + 'ag'] == 'x'",
                &["req.tag", "req.time", "req.said", "req.size"],
            ),
            (
                "req.exists(field, field == 'x')",
                &["req.tag", "req.time", "req.said", "req.size"],
            ),
            (
                "[req].exists(r, r.tag == 'x')",
                &["req.tag", "req.time", "req.said", "req.size"],
            ),
            ("{'a': req.tag}['a'] == name", &["req.tag", "name"]),
            ("groups.exists(g, g == req.tag)", &["groups", "req.tag"]),
            ("req.said.groups == 1", &["req.said", "req.said.groups"]),
            ("req.said == 1", &["req.said", "req.said.groups", "req.said.more"]),
            ("true", &[]),
        ] {
            let expression = parse(text).unwrap();
            let all = [
                "groups",
                "name",
                "req.tag",
                "req.time",
                "req.said",
                "req.said.groups",
                "req.said.more",
                "req.size",
            ];
            for path in all {
                // Whoever asks for all of it asks for its parts.
                let is_part =
                    asks.contains(&"req.said") && !asks.iter().any(|asks| asks.starts_with("req.said."));
                let expected = asks.contains(&path) || (is_part && path.starts_with("req.said."));
                assert_eq!(expression.may_ask(path), expected, "{text}: {path}");
            }
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_when_it_is_read() {
        for (text, problem) in [
            ("", "expected an expression of CEL"),
            ("name ==", "expected an expression of CEL"),
            (
                "nme == 'x'",
                "nothing is called nme here: there is groups, name, req",
            ),
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
    fn what_can_never_be_of_the_right_type_is_refused_when_it_is_read() {
        let gives = |text: &str, gives| Expression::parse(text, &NAMES, gives).map(drop);
        for (text, problem) in [
            ("name", "it gives a string, expected true or false"),
            ("1", "it gives a number, expected true or false"),
            ("req", "it gives an object, expected true or false"),
            (
                "groups.map(g, g == 'a')",
                "it gives a list, expected true or false",
            ),
            (
                "req.tag ? 'a' : 'b'",
                "?: is between what is true or false, not a string",
            ),
            ("true ? 1 : 2", "it gives a number, expected true or false"),
            ("req.time", "it gives a time, expected true or false"),
            (
                "req.tga == 'x'",
                "there is no field tga here, only tag, time, size, said",
            ),
            ("req['tga'] == 'x'", "there is no field tga here"),
            ("has(req.tga)", "there is no field tga here"),
            ("req.tag.name == 'x'", "a string has no field name"),
            ("groups.nothing == 'x'", "a list has no field nothing"),
            (
                "req.tag && true",
                "&& is between what is true or false, not a string",
            ),
            ("!req.tag", "! is between what is true or false, not a string"),
            (
                "req.time < '2030-01-01T00:00:00Z'",
                "< can't compare a time with a string",
            ),
            ("req.size == '1'", "== can't compare a number with a string"),
            (
                "req.size in groups",
                "in looks for a number in a list of a string",
            ),
            ("name in req.tag", "in looks in a list, not in a string"),
            (
                "req.size.startsWith('x')",
                "startsWith is of a string, not of a number",
            ),
            (
                "req.tag.getFullYear() == 2030",
                "getFullYear is of a time, not of a string",
            ),
            (
                "groups.exists(g, g == 1)",
                "== can't compare a string with a number",
            ),
            (
                "name.exists(g, true)",
                "there is nothing to go through in a string",
            ),
        ] {
            let refused = gives(text, Gives::Bool).unwrap_err();
            assert!(refused.starts_with(problem), "{text}: {refused}");
        }
        for text in [
            "req.said",
            "req.said.whatever[0].more",
            "req.said == 1 || req.said == 'x'",
            "groups[0] == 'a'",
            "{'a': true}['a']",
            "req.time < timestamp('2030-01-01T00:00:00Z') && req.time - timestamp(0) > duration('1h')",
            "req.time + duration('1h') > req.time",
            "groups.filter(g, g != 'a') == ['b']",
            "groups.exists_one(g, g == 'a')",
            "(req.size == 1 ? req.said : 'x' == name)",
            "type(name) == string && bool('true')",
            "name + '!' == name",
        ] {
            assert_eq!(gives(text, Gives::Bool), Ok(()), "{text}");
        }
        assert!(
            gives("groups", Gives::Text)
                .unwrap_err()
                .contains("a list, expected a string")
        );
        assert!(
            gives("1", Gives::Texts)
                .unwrap_err()
                .contains("expected a list of strings")
        );
        for text in ["name", "groups", "req.said", "['a']", "groups.map(g, g + '!')"] {
            assert_eq!(gives(text, Gives::Texts), Ok(()), "{text}");
        }
    }

    /// It is the language's, and so is the day on which a week begins.
    #[test]
    fn times_are_in_utc_or_in_the_zone_that_is_asked_for() {
        for (text, holds) in [
            ("timestamp('2023-05-28T23:30:00Z').getHours() == 23", true),
            (
                "timestamp('2023-05-28T23:30:00Z').getHours('Europe/Berlin') == 1",
                true,
            ),
            ("timestamp('2023-05-28T23:30:00Z').getHours('+02:00') == 1", true),
            ("timestamp('2023-05-28T23:30:00Z').getDayOfWeek() == 0", true),
            (
                "timestamp('2023-05-28T23:30:00Z').getDayOfWeek('Europe/Berlin') == 1",
                true,
            ),
            ("timestamp('2023-05-28T23:30:00Z') == timestamp(1685316600)", true),
        ] {
            assert_eq!(parse(text).unwrap().holds(&bindings()), Ok(holds), "{text}");
        }
    }

    #[test]
    fn what_comes_to_nothing_is_an_error() {
        for text in ["name", "1", "groups[7] == 'a'", "1 / 0 == 1", "name.matches('(')"] {
            assert!(parse(text).unwrap().holds(&bindings()).is_err(), "{text}");
        }
    }
}
