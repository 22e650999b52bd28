//! The query of a request: `key=value` pairs joined by `&`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A query, decoded while it is read. Unknown keys (a session's state) are nobody's business.
#[derive(Clone, Copy)]
pub(super) struct Query<'a>(pub(super) &'a str);

impl<'a> Query<'a> {
    /// All values of a key, in order. Bytes that aren't UTF-8 become U+FFFD, which no grammar here accepts.
    ///
    /// A `+` stays one: no value here may hold a space, and `application/spdx+json` is often sent unescaped.
    pub(super) fn all(self, key: &str) -> impl Iterator<Item = Cow<'a, str>> {
        self.0.split('&').filter_map(move |pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name) == key).then(|| decode(value))
        })
    }

    /// The value of a key, the first if there are several.
    pub(super) fn first(self, key: &str) -> Option<Cow<'a, str>> {
        self.all(key).next()
    }
}

fn decode(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_found_by_key() {
        let query = Query("a=1&b=%2F%3a&a=2&c&%64=x+y&e=%ff&=z&&f=g=h");
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(query.first("b").as_deref(), Some("/:"));
        assert_eq!(query.first("c").as_deref(), Some(""));
        assert_eq!(query.first("d").as_deref(), Some("x+y"));
        assert_eq!(query.first("e").as_deref(), Some("\u{fffd}"));
        assert_eq!(query.first("f").as_deref(), Some("g=h"));
        assert_eq!(query.first("g"), None);
        assert_eq!(Query("").first("a"), None);
    }
}
