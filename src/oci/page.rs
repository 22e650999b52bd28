//! Which part of a listing is asked for.
//!
//! Deliberately absent: a check that `last` exists. A listing goes on after it in byte order, whether or not it does.

/// The most entries one answer holds, and how many it holds when the client doesn't say.
pub const MAX_PAGE: usize = 1000;

/// The longest `last`, in bytes: no repository name, tag or digest is longer.
const MAX_LAST_BYTES: usize = 255;

/// `n` and `last` of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most this many entries, 0 to [`MAX_PAGE`]. With 0 the answer is empty and has no `Link`.
    pub limit: usize,
    /// Only entries after this one, in byte order.
    pub last: Option<String>,
}

/// The part asked for makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an unsigned number is expected for 'n', and at most 255 bytes for 'last'")]
pub struct PageError;

impl Default for Page {
    fn default() -> Self {
        Self {
            limit: MAX_PAGE,
            last: None,
        }
    }
}

impl Page {
    /// Reads the values of the two parameters. A larger `n` than [`MAX_PAGE`] is lowered to it; an empty `last` is none.
    ///
    /// # Errors
    /// [`PageError`] when `n` isn't made of digits or `last` is longer than any entry could be.
    pub fn parse(n: Option<&str>, last: Option<&str>) -> Result<Self, PageError> {
        let limit = match n {
            None => MAX_PAGE,
            Some("") => return Err(PageError),
            Some(digits) if !digits.bytes().all(|b| b.is_ascii_digit()) => return Err(PageError),
            // Digits only fail to be a number by being too large a one.
            Some(digits) => digits.parse().unwrap_or(MAX_PAGE).min(MAX_PAGE),
        };
        let last = last.filter(|last| !last.is_empty());
        if last.is_some_and(|last| last.len() > MAX_LAST_BYTES) {
            return Err(PageError);
        }
        Ok(Self {
            limit,
            last: last.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_parameters_the_page_is_the_first_and_largest() {
        assert_eq!(Page::parse(None, None), Ok(Page::default()));
        assert_eq!(Page::parse(None, Some("")), Ok(Page::default()));
    }

    #[test]
    fn n_is_clamped_and_zero_is_kept() {
        for (n, limit) in [
            ("0", 0),
            ("7", 7),
            ("1000", 1000),
            ("1001", 1000),
            (&*"9".repeat(40), 1000),
        ] {
            assert_eq!(
                Page::parse(Some(n), Some("a")),
                Ok(Page {
                    limit,
                    last: Some("a".into())
                })
            );
        }
    }

    #[test]
    fn anything_but_an_unsigned_number_is_refused() {
        for n in ["", "-1", "+1", "1.0", "a", " 1", "0x1"] {
            assert_eq!(Page::parse(Some(n), None), Err(PageError), "{n:?}");
        }
        assert_eq!(Page::parse(None, Some(&"a".repeat(256))), Err(PageError));
    }
}
