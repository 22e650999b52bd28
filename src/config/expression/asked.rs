//! What an expression asks of what it is asked about: which fields of which names.

use std::collections::BTreeSet;

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};

/// The fields that `expression` asks for, by their paths: `req.user.groups`. Where a value is taken as a whole, as by a macro that goes
/// through an object, or by a field whose name isn't written there, that is the path to the value.
pub(super) fn of(expression: &IdedExpr) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(expression, &mut found);
    found
}

fn collect(expression: &IdedExpr, found: &mut BTreeSet<String>) {
    if let Some(path) = path(expression) {
        found.insert(path);
        return;
    }
    let mut each = |part: &IdedExpr| collect(part, found);
    match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select(select) => each(&select.operand),
        Expr::Call(call) => {
            let parts = call.target.iter().map(AsRef::as_ref).chain(&call.args);
            parts.for_each(each);
        }
        Expr::List(list) => list.elements.iter().for_each(each),
        Expr::Map(map) => map.entries.iter().for_each(|entry| parts(&entry.expr, &mut each)),
        Expr::Struct(object) => object
            .entries
            .iter()
            .for_each(|entry| parts(&entry.expr, &mut each)),
        Expr::Comprehension(through) => {
            for part in [
                &through.iter_range,
                &through.accu_init,
                &through.loop_cond,
                &through.loop_step,
                &through.result,
            ] {
                each(part);
            }
        }
    }
}

fn parts(entry: &EntryExpr, each: &mut impl FnMut(&IdedExpr)) {
    match entry {
        EntryExpr::StructField(field) => each(&field.value),
        EntryExpr::MapEntry(entry) => {
            each(&entry.key);
            each(&entry.value);
        }
    }
}

/// The path of a name, or of a field whose name is written there.
fn path(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) => Some(format!("{}.{}", path(&select.operand)?, select.field)),
        Expr::Call(call) if call.func_name == operators::INDEX => {
            match (call.args.first(), call.args.get(1).map(|field| &field.expr)) {
                (Some(of), Some(Expr::Literal(LiteralValue::String(field)))) => {
                    Some(format!("{}.{}", path(of)?, field.inner()))
                }
                _ => None,
            }
        }
        _ => None,
    }
}
