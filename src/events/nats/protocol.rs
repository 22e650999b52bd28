//! What a NATS server says: lines, and messages of a length that their line says.

use serde::Deserialize;

use super::super::error::NatsError;

/// The longest line.
const MAX_LINE: usize = 64 << 10;
/// The longest message that is read: receipts are short.
const MAX_MESSAGE: usize = 1 << 20;

/// What a server says of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServerInfo {
    pub(super) tls_required: bool,
    pub(super) headers: bool,
    pub(super) jetstream: bool,
    pub(super) max_payload: usize,
    pub(super) nonce: Option<String>,
}

/// One thing that a server says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Info(Vec<u8>),
    Ping,
    Pong,
    Ok,
    Error(String),
    /// What came on our subscription.
    Message {
        subject: String,
        /// Of its headers, that nobody answers the subject.
        has_no_responder: bool,
        body: Vec<u8>,
    },
}

/// Takes the first thing off what was read; `None` is for not all of it there.
pub(super) fn take(read: &mut Vec<u8>) -> Result<Option<Said>, NatsError> {
    let Some(end) = read.windows(2).position(|pair| pair == b"\r\n") else {
        return match read.len() > MAX_LINE {
            true => Err(NatsError::Protocol("a line without an end".to_owned())),
            false => Ok(None),
        };
    };
    let line = String::from_utf8_lossy(read.get(..end).unwrap_or_default()).into_owned();
    let (verb, rest) = line.split_once([' ', '\t']).unwrap_or((&line, ""));
    let said = match verb.to_ascii_uppercase().as_str() {
        "INFO" => Said::Info(rest.trim().as_bytes().to_vec()),
        "PING" => Said::Ping,
        "PONG" => Said::Pong,
        "+OK" => Said::Ok,
        "-ERR" => Said::Error(rest.trim().trim_matches('\'').to_owned()),
        "MSG" => return message(read, end + 2, rest, Headers::Without),
        "HMSG" => return message(read, end + 2, rest, Headers::With),
        other => return Err(NatsError::Protocol(other.chars().take(40).collect())),
    };
    read.drain(..end + 2);
    Ok(Some(said))
}

#[derive(Clone, Copy, PartialEq)]
enum Headers {
    With,
    Without,
}

/// A message: `subject sid [reply] [bytes of headers] bytes`.
fn message(
    read: &mut Vec<u8>,
    begin: usize,
    line: &str,
    headers: Headers,
) -> Result<Option<Said>, NatsError> {
    let malformed = || NatsError::Protocol("a message without its length".to_owned());
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |back: usize| {
        let word = words.len().checked_sub(back).and_then(|at| words.get(at));
        word.and_then(|word| word.parse::<usize>().ok())
            .ok_or_else(malformed)
    };
    let whole = number(1)?;
    let of_headers = match headers {
        Headers::With => number(2)?,
        Headers::Without => 0,
    };
    if whole > MAX_MESSAGE || of_headers > whole {
        return Err(malformed());
    }
    let Some(content) = read.get(begin..begin + whole + 2) else {
        return Ok(None);
    };
    let (head, body) = content.split_at(of_headers);
    let said = Said::Message {
        subject: words.first().copied().unwrap_or_default().to_owned(),
        has_no_responder: head.starts_with(b"NATS/1.0 503"),
        body: body.get(..whole - of_headers).unwrap_or_default().to_vec(),
    };
    read.drain(..begin + whole + 2);
    Ok(Some(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_taken_apart_wherever_it_is_cut() {
        let text = b"INFO {\"headers\":true}\r\n+OK\r\nPING\r\nMSG _INBOX.a.1 1 5\r\nhello\r\nHMSG _INBOX.a.2 1 16 18\r\nNATS/1.0 503\r\n\r\nab\r\n-ERR 'Authorization Violation'\r\nPONG\r\n";
        let message = |subject: &str, has_no_responder, body: &[u8]| Said::Message {
            subject: subject.to_owned(),
            has_no_responder,
            body: body.to_vec(),
        };
        let expected = [
            Said::Info(b"{\"headers\":true}".to_vec()),
            Said::Ok,
            Said::Ping,
            message("_INBOX.a.1", false, b"hello"),
            message("_INBOX.a.2", true, b"ab"),
            Said::Error("Authorization Violation".to_owned()),
            Said::Pong,
        ];
        for cut in [1, 2, 3, 7, text.len()] {
            let (mut read, mut found) = (Vec::new(), Vec::new());
            for piece in text.chunks(cut) {
                read.extend_from_slice(piece);
                while let Some(said) = take(&mut read).unwrap() {
                    found.push(said);
                }
            }
            assert_eq!(found, expected, "in pieces of {cut}");
        }
        for wrong in [
            "HTTP/1.1 400 Bad Request\r\n",
            "MSG a 1 x\r\n",
            "HMSG a 1 9 8\r\n",
            "MSG a 1 99999999\r\n",
        ] {
            assert!(take(&mut wrong.as_bytes().to_vec()).is_err(), "{wrong}");
        }
    }
}
