//! Values in a query or a form.

use percent_encoding::percent_decode_str;

/// `name=value` pairs joined by `&`, with `+` for a space (application/x-www-form-urlencoded).
#[derive(Clone, Copy)]
pub(super) struct Form<'a>(pub(super) &'a str);

impl<'a> Form<'a> {
    pub(super) fn all(self, name: &str) -> impl Iterator<Item = String> {
        self.0.split('&').filter_map(move |pair| {
            let (found, value) = pair.split_once('=')?;
            (decoded(found) == name).then(|| decoded(value))
        })
    }

    /// The value of a name that is there once: of two nobody knows which counts.
    pub(super) fn first(self, name: &str) -> Option<String> {
        let mut all = self.all(name);
        all.next().filter(|_| all.next().is_none())
    }
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_browsers_and_clients_write_it() {
        let form = Form(
            "scope=repository%3Aa%3Apull+repository:b:push&scope=x&user=a%2Bb&p=%20&twice=1&twice=2&e&n=",
        );
        assert_eq!(
            form.all("scope").collect::<Vec<_>>(),
            ["repository:a:pull repository:b:push", "x"]
        );
        assert_eq!(form.first("user").as_deref(), Some("a+b"));
        assert_eq!(form.first("p").as_deref(), Some(" "));
        assert_eq!(form.first("n").as_deref(), Some(""));
        assert_eq!((form.first("twice"), form.first("e")), (None, None));
    }
}
