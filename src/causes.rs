//! An error with its causes, for people.

use std::error::Error;

/// The error and its causes, on one line. What an error says already of its cause isn't said again.
#[must_use]
pub fn in_a_line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in of(error) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// The causes of an error, the nearest first.
pub fn of<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&'a (dyn Error + 'static)| {
        (*cause).source()
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Trouble {
        #[error("a.pem can't be read: {source}")]
        Read { source: io::Error },
        #[error("no certificate")]
        None(#[source] Box<Trouble>),
    }

    #[test]
    fn nothing_is_said_twice() {
        let read = || Trouble::Read {
            source: io::Error::other("gone"),
        };
        assert_eq!(in_a_line(&read()), "a.pem can't be read: gone");
        let outer = Trouble::None(Box::new(read()));
        assert_eq!(in_a_line(&outer), "no certificate: a.pem can't be read: gone");
    }
}
