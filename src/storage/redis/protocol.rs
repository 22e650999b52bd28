//! The protocol, as far as it is needed: version 2 (RESP2), a request in one write, its answers in order.
//!
//! By hand, since it is these lines: a crate would bring a second pool, a task for each connection and what it depends on. Deliberately
//! absent: version 3, answers that nobody asked for, lists in lists.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// Most bytes of a line: an error's text is one.
const LINE: u64 = 64 << 10;
/// Most bytes of a string. A row is the longest there is.
const STRING: usize = 1 << 20;
/// Most answers in a list: those of the longest page.
const LIST: usize = 4_096;

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing.
    Nil,
    /// A number.
    Number(i64),
    /// A string, or a line.
    Text(Bytes),
    /// Several.
    List(Vec<Self>),
    /// A refusal: a word, and what there is to say.
    Refusal(String),
}

impl Answer {
    /// As text, if it is one or a number.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Self::Number(number) => Some(number.to_string()),
            Self::Nil | Self::List(_) | Self::Refusal(_) => None,
        }
    }

    /// As a number, if it is one, or text of one.
    pub(super) fn number(&self) -> Option<u64> {
        self.text()?.parse().ok()
    }
}

/// Appends a command: its name and what comes with it.
pub(super) fn write(to: &mut Vec<u8>, words: &[&[u8]]) {
    to.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        to.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        to.extend_from_slice(word);
        to.extend_from_slice(b"\r\n");
    }
}

/// Reads one answer.
///
/// # Errors
/// Of the connection, which is of no use any more then; [`io::ErrorKind::InvalidData`] where it isn't an answer.
pub(super) async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Answer> {
    let first = line(from).await?;
    let Some(length) = first.strip_prefix(b"*") else {
        return simple(from, &first).await;
    };
    let Some(length) = count(length, LIST)? else {
        return Ok(Answer::Nil);
    };
    let mut list = Vec::with_capacity(length);
    for _ in 0..length {
        let first = line(from).await?;
        list.push(simple(from, &first).await?);
    }
    Ok(Answer::List(list))
}

/// An answer that is no list and begins with this line.
async fn simple(from: &mut (impl AsyncBufRead + Unpin), first: &[u8]) -> io::Result<Answer> {
    let (kind, rest) = first.split_first().ok_or_else(|| invalid("an empty line"))?;
    match kind {
        b'+' => Ok(Answer::Text(Bytes::copy_from_slice(rest))),
        b'-' => Ok(Answer::Refusal(String::from_utf8_lossy(rest).into_owned())),
        b':' => Ok(Answer::Number(number(rest)?)),
        b'$' => {
            let Some(length) = count(rest, STRING)? else {
                return Ok(Answer::Nil);
            };
            let mut bytes = vec![0; length + 2];
            from.read_exact(&mut bytes).await?;
            bytes.truncate(length);
            Ok(Answer::Text(bytes.into()))
        }
        _ => Err(invalid("another kind of answer")),
    }
}

/// A line without its end.
async fn line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.take(LINE).read_until(b'\n', &mut line).await?;
    match line.strip_suffix(b"\r\n") {
        Some(content) => {
            line.truncate(content.len());
            Ok(line)
        }
        None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Err(invalid("a line without an end")),
    }
}

/// A length, or nothing where there is nothing.
fn count(text: &[u8], most: usize) -> io::Result<Option<usize>> {
    match number(text)? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) if length <= most => Ok(Some(length)),
            Ok(_) | Err(_) => Err(invalid("a length beyond all bounds")),
        },
    }
}

fn number(text: &[u8]) -> io::Result<i64> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| invalid("not a number"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_are_read_one_after_the_other_and_nonsense_is_none() {
        let mut all: &[u8] =
            b"+OK\r\n-ERR no\r\n:-7\r\n$-1\r\n$3\r\na\r\n\r\n*3\r\n$0\r\n\r\n:1\r\n-X y\r\n*-1\r\n";
        let text = |text: &'static [u8]| Answer::Text(Bytes::from_static(text));
        for expected in [
            text(b"OK"),
            Answer::Refusal("ERR no".to_owned()),
            Answer::Number(-7),
            Answer::Nil,
            text(b"a\r\n"),
            Answer::List(vec![
                text(b""),
                Answer::Number(1),
                Answer::Refusal("X y".to_owned()),
            ]),
            Answer::Nil,
        ] {
            assert_eq!(read(&mut all).await.unwrap(), expected);
        }
        for broken in [
            "",
            "\r\n",
            "HTTP/1.1 400\r\n",
            "$9\r\nabc\r\n",
            "$99999999\r\n",
            ":x\r\n",
            "*1\r\n*1\r\n:1\r\n",
            "+OK",
        ] {
            assert!(read(&mut broken.as_bytes()).await.is_err(), "{broken:?}");
        }
    }

    #[test]
    fn a_command_is_a_list_of_strings() {
        let mut written = Vec::new();
        write(&mut written, &[b"GET", b"a\r\n"]);
        assert_eq!(written, b"*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n");
    }
}
