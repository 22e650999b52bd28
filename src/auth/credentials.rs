//! The `Authorization` header, read once.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};

/// What a request carries to prove who sends it. It has no `Debug`: nothing may write it anywhere.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    None,
    /// A name and a password (RFC 7617).
    Basic {
        /// May be empty.
        user: String,
        /// May be empty.
        password: String,
    },
    /// A token (RFC 6750).
    Bearer(String),
    /// Something that can't be read, or several at once: no guess is made which counts.
    Malformed,
}

impl Credentials {
    /// Those in `headers`.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::None,
            (Some(value), None) => value.to_str().map_or(Self::Malformed, Self::read),
            (Some(_), Some(_)) => Self::Malformed,
        }
    }

    fn read(value: &str) -> Self {
        let Some((scheme, rest)) = value.split_once(' ') else {
            return Self::Malformed;
        };
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
            return Self::Bearer(rest.to_owned());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Self::Malformed;
        }
        let text = STANDARD
            .decode(rest)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        match text.as_deref().and_then(|text| text.split_once(':')) {
            Some((user, password)) => Self::Basic {
                user: user.to_owned(),
                password: password.to_owned(),
            },
            None => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Credentials {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        Credentials::of(&headers)
    }

    #[test]
    fn one_header_is_read_and_two_are_none_of_them() {
        let basic = |user: &str, password: &str| Credentials::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        assert!(of(&[]) == Credentials::None);
        assert!(of(&["Basic YTpiOmM="]) == basic("a", "b:c"));
        assert!(of(&["basic  Og=="]) == basic("", ""));
        assert!(of(&["BEARER x.y.z"]) == Credentials::Bearer("x.y.z".to_owned()));
        for wrong in [
            "",
            "Basic",
            "Basic !",
            "Basic YQ==",
            "Basic /zo=",
            "Bearer ",
            "Digest x",
        ] {
            assert!(of(&[wrong]) == Credentials::Malformed, "{wrong:?}");
        }
        assert!(of(&["Basic YTpi", "Basic YTpi"]) == Credentials::Malformed);
    }
}
