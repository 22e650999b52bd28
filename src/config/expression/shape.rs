//! What an expression gives, as far as that is known before it is asked: enough to find names that nothing stands for, and what
//! can't come to anything whatever is asked about.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

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

/// Functions that are known, with what they are of where they are a value's, and what they give. Operators aren't called by such
/// names.
const FUNCTIONS: [(&str, Shape, Shape); 25] = [
    ("bool", Shape::Anything, Shape::Bool),
    ("bytes", Shape::Anything, Shape::Anything),
    ("contains", Shape::Text, Shape::Bool),
    ("double", Shape::Anything, Shape::Number),
    ("duration", Shape::Anything, Shape::Span),
    ("dyn", Shape::Anything, Shape::Anything),
    ("endsWith", Shape::Text, Shape::Bool),
    ("getDate", Shape::Time, Shape::Number),
    ("getDayOfMonth", Shape::Time, Shape::Number),
    ("getDayOfWeek", Shape::Time, Shape::Number),
    ("getDayOfYear", Shape::Time, Shape::Number),
    ("getFullYear", Shape::Time, Shape::Number),
    ("getHours", Shape::Anything, Shape::Number),
    ("getMilliseconds", Shape::Anything, Shape::Number),
    ("getMinutes", Shape::Anything, Shape::Number),
    ("getMonth", Shape::Time, Shape::Number),
    ("getSeconds", Shape::Anything, Shape::Number),
    ("int", Shape::Anything, Shape::Number),
    ("matches", Shape::Text, Shape::Bool),
    ("size", Shape::Anything, Shape::Number),
    ("startsWith", Shape::Text, Shape::Bool),
    ("string", Shape::Anything, Shape::Text),
    ("timestamp", Shape::Anything, Shape::Time),
    ("type", Shape::Anything, Shape::Anything),
    ("uint", Shape::Anything, Shape::Number),
];

/// What a name stands for, or an expression gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nobody knows before it is asked.
    Anything,
    /// True or false.
    Bool,
    /// A string.
    Text,
    /// A number of any type.
    Number,
    /// A moment.
    Time,
    /// A length of time.
    Span,
    /// A list of such.
    List(&'static Shape),
    /// An object with these fields, which are always there.
    Object(&'static [(&'static str, Shape)]),
}

impl Shape {
    /// As messages call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Anything => "anything",
            Self::Bool => "true or false",
            Self::Text => "a string",
            Self::Number => "a number",
            Self::Time => "a time",
            Self::Span => "a duration",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// Whether a value of this one may be one of `other`.
    pub(super) fn may_be(self, other: Self) -> bool {
        match (self, other) {
            (Self::Anything, _) | (_, Self::Anything) => true,
            (Self::List(_), Self::List(_)) | (Self::Object(_), Self::Object(_)) => true,
            (one, other) => one == other,
        }
    }

    /// What is known of a value that is of one of two.
    fn or(self, other: Self) -> Self {
        match self == other {
            true => self,
            false => Self::Anything,
        }
    }
}

/// Names, and what they stand for; the last of a name counts.
pub(super) type Names<'a> = Vec<(&'a str, Shape)>;

/// What `expression` gives.
///
/// # Errors
/// It knows a name or a function that isn't there, can't come to anything, or goes through lists in too many levels.
pub(super) fn of<'a>(expression: &'a IdedExpr, names: &mut Names<'a>, level: usize) -> Result<Shape, String> {
    match &expression.expr {
        Expr::Unspecified => Ok(Shape::Anything),
        Expr::Literal(value) => Ok(match value {
            LiteralValue::Boolean(_) => Shape::Bool,
            LiteralValue::String(_) => Shape::Text,
            LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_) => Shape::Number,
            LiteralValue::Bytes(_) | LiteralValue::Null => Shape::Anything,
        }),
        Expr::Ident(name) => named(name, names),
        Expr::Select(select) => {
            let found = field(of(&select.operand, names, level)?, &select.field)?;
            Ok(match select.test {
                true => Shape::Bool,
                false => found,
            })
        }
        Expr::Call(call) => called(call, names, level),
        Expr::List(list) => {
            for part in &list.elements {
                of(part, names, level)?;
            }
            Ok(Shape::List(&Shape::Anything))
        }
        Expr::Map(map) => entries(map.entries.iter().map(|entry| &entry.expr), names, level),
        Expr::Struct(object) => entries(object.entries.iter().map(|entry| &entry.expr), names, level),
        Expr::Comprehension(each) => comprehension(each, names, level),
    }
}

fn named(name: &str, names: &Names<'_>) -> Result<Shape, String> {
    let known = names.iter().rev().find(|(known, _)| *known == name);
    match known {
        Some((_, shape)) => Ok(*shape),
        None if TYPES.contains(&name) => Ok(Shape::Anything),
        None => {
            // What macros keep their results in has a name that nobody can write.
            let written = names
                .iter()
                .map(|(name, _)| *name)
                .filter(|name| !name.starts_with('@'));
            let known: Vec<&str> = written.collect();
            Err(format!(
                "nothing is called {name} here: there is {}",
                known.join(", ")
            ))
        }
    }
}

fn field(of: Shape, name: &str) -> Result<Shape, String> {
    match of {
        Shape::Anything => Ok(Shape::Anything),
        Shape::Object(fields) => match fields.iter().find(|(field, _)| *field == name) {
            Some((_, shape)) => Ok(*shape),
            None => {
                let known: Vec<&str> = fields.iter().map(|(field, _)| *field).collect();
                Err(format!(
                    "there is no field {name} here, only {}",
                    known.join(", ")
                ))
            }
        },
        other => Err(format!("{} has no field {name}", other.name())),
    }
}

fn entries<'a>(
    entries: impl Iterator<Item = &'a EntryExpr>,
    names: &mut Names<'a>,
    level: usize,
) -> Result<Shape, String> {
    for entry in entries {
        match entry {
            EntryExpr::StructField(field) => of(&field.value, names, level)?,
            EntryExpr::MapEntry(entry) => {
                of(&entry.key, names, level)?;
                of(&entry.value, names, level)?
            }
        };
    }
    Ok(Shape::Anything)
}

fn called<'a>(call: &'a CallExpr, names: &mut Names<'a>, level: usize) -> Result<Shape, String> {
    let function = call.func_name.as_str();
    let parts = call.target.iter().map(AsRef::as_ref).chain(&call.args);
    let shapes: Vec<Shape> = parts
        .map(|part| of(part, names, level))
        .collect::<Result<_, _>>()?;
    if !function.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return operator(call, &shapes);
    }
    let Some((_, takes, gives)) = FUNCTIONS.iter().find(|(name, ..)| *name == function) else {
        let known = FUNCTIONS.map(|(name, ..)| name);
        return Err(format!(
            "there is no function {function} here, only {}",
            known.join(", ")
        ));
    };
    match shapes.first() {
        Some(first) if !first.may_be(*takes) => Err(format!(
            "{function} is of {}, not of {}",
            takes.name(),
            first.name()
        )),
        Some(_) | None => Ok(*gives),
    }
}

fn operator(call: &CallExpr, shapes: &[Shape]) -> Result<Shape, String> {
    let sign = || call.func_name.replace(['_', '@'], "");
    let bools = |shapes: &[Shape]| match shapes.iter().find(|shape| !shape.may_be(Shape::Bool)) {
        Some(other) => Err(format!(
            "{} is between what is true or false, not {}",
            sign(),
            other.name()
        )),
        None => Ok(()),
    };
    let (first, second) = (
        shapes.first().copied().unwrap_or(Shape::Anything),
        shapes.get(1).copied().unwrap_or(Shape::Anything),
    );
    match call.func_name.as_str() {
        operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => {
            bools(shapes).map(|()| Shape::Bool)
        }
        operators::CONDITIONAL => {
            bools(&shapes[..shapes.len().min(1)])?;
            Ok(second.or(shapes.get(2).copied().unwrap_or(Shape::Anything)))
        }
        operators::EQUALS
        | operators::NOT_EQUALS
        | operators::LESS
        | operators::LESS_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS => match first.may_be(second) {
            true => Ok(Shape::Bool),
            false => Err(format!(
                "{} can't compare {} with {}",
                sign(),
                first.name(),
                second.name()
            )),
        },
        operators::IN => match second {
            Shape::List(element) if !first.may_be(*element) => Err(format!(
                "in looks for {} in a list of {}",
                first.name(),
                element.name()
            )),
            Shape::List(_) | Shape::Object(_) | Shape::Anything => Ok(Shape::Bool),
            other => Err(format!("in looks in a list, not in {}", other.name())),
        },
        operators::NOT_STRICTLY_FALSE => Ok(Shape::Bool),
        operators::INDEX => match (first, call.args.get(1).map(|key| &key.expr)) {
            (Shape::Object(_), Some(Expr::Literal(LiteralValue::String(name)))) => field(first, name.inner()),
            (Shape::List(element), _) => Ok(*element),
            _ => Ok(Shape::Anything),
        },
        // Times and spans make each other.
        operators::ADD | operators::SUBSTRACT => Ok(match (first, second) {
            (Shape::Text | Shape::Number, _) => first.or(second),
            (Shape::List(_), _) => Shape::List(&Shape::Anything),
            _ => Shape::Anything,
        }),
        _ => Ok(first.or(second)),
    }
}

fn comprehension<'a>(
    each: &'a ComprehensionExpr,
    names: &mut Names<'a>,
    level: usize,
) -> Result<Shape, String> {
    if level == MAX_LEVELS {
        return Err(format!(
            "expected at most {MAX_LEVELS} of all, exists, map and filter in each other"
        ));
    }
    let element = match of(&each.iter_range, names, level)? {
        Shape::List(element) => *element,
        Shape::Anything | Shape::Object(_) => Shape::Anything,
        other => return Err(format!("there is nothing to go through in {}", other.name())),
    };
    let found = of(&each.accu_init, names, level)?;
    let before = names.len();
    names.push((&each.iter_var, element));
    names.extend(each.iter_var2.as_deref().map(|name| (name, Shape::Anything)));
    names.push((&each.accu_var, found));
    let parts = [&each.loop_cond, &each.loop_step, &each.result];
    let mut gives = Shape::Anything;
    for part in parts {
        gives = of(part, names, level + 1)?;
    }
    names.truncate(before);
    Ok(gives)
}
