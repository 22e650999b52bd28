//! The table of keys as text. `docs/configuration.md` carries it between two marks, and a test compares them.

use std::fmt::Write as _;

use super::keys::{self, GROUPS, Key, Kind, Verdict};

/// Every configuration key with what becomes of it, as Markdown tables.
#[must_use]
pub fn keys_as_markdown() -> String {
    // Writing to a string can't fail.
    let mut text = String::new();
    for group in GROUPS {
        let _ = writeln!(
            text,
            "\n### {}\n\n| key | value | here |\n|---|---|---|",
            group.title
        );
        for key in group.keys {
            let _ = writeln!(text, "| `{}` | {} | {} |", key.path, value(key.kind), here(key));
        }
    }
    text.push('\n');
    text
}

fn value(kind: Kind) -> String {
    match kind {
        Kind::Object | Kind::Section | Kind::Driver(_) => "object".to_owned(),
        Kind::Map => "object by name".to_owned(),
        Kind::List => "list of objects".to_owned(),
        Kind::Any => "anything".to_owned(),
        Kind::Text => "string".to_owned(),
        Kind::Secret => "string, never shown, or `{file}`, `{env}`".to_owned(),
        Kind::Texts => "list of strings".to_owned(),
        Kind::Bool => "boolean".to_owned(),
        Kind::Int | Kind::Number => "number".to_owned(),
        Kind::Port => "port".to_owned(),
        Kind::Duration => "duration".to_owned(),
        Kind::OneOf(names) => names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn here(key: &Key) -> String {
    if let Some(whole) = whole(key) {
        return format!("as `{}`", whole.path);
    }
    match key.verdict {
        Verdict::Same => "as in zot".to_owned(),
        Verdict::Mapped(how) => how.to_owned(),
        Verdict::NoEffect(why) => format!("**no effect**, with a warning: {why}"),
        Verdict::Own(what) => format!("**ours**: {what}"),
        Verdict::Later(what) => format!("**not yet**: {what}"),
        Verdict::Refused(what) => format!("**refused**: {what}"),
    }
}

/// The object that isn't served as a whole and this key with it.
fn whole(key: &Key) -> Option<&'static Key> {
    let refused = matches!(
        key.verdict,
        Verdict::NoEffect(_) | Verdict::Later(_) | Verdict::Refused(_)
    );
    let above = |row: &&Key| {
        let below = key.path.strip_prefix(row.path);
        below.is_some_and(|rest| rest.starts_with(['.', '['])) && row.verdict == key.verdict
    };
    if refused { keys::all().find(above) } else { None }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    const BEGIN: &str = "<!-- keys: written by UPDATE_DOCS=1 cargo test --lib config::docs; don't edit -->\n";
    const END: &str = "<!-- end of keys -->\n";

    #[test]
    fn the_documentation_lists_every_key_as_the_table_has_it() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        let text = fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("the mark before the keys");
        let (table, after) = rest.split_once(END).expect("the mark after the keys");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(
                &path,
                format!("{before}{BEGIN}{}{END}{after}", keys_as_markdown()),
            )
            .unwrap();
            return;
        }
        assert!(
            table == keys_as_markdown(),
            "docs/configuration.md is not what the table says: UPDATE_DOCS=1 cargo test --lib config::docs"
        );
    }
}
