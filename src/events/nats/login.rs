//! How one logs in at a NATS server.

use std::{fs, io, path::Path};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::super::error::SinkError;
use crate::config::{Secret, SinkLogin};

/// What is shown to a server.
#[derive(Debug)]
pub(super) enum Login {
    None,
    Password(String, Secret),
    Token(Secret),
    /// A user's JWT, and the key that it names.
    Key {
        jwt: Secret,
        key: Box<Ed25519KeyPair>,
    },
}

impl Login {
    pub(super) fn new(config: &SinkLogin) -> Result<Self, SinkError> {
        Ok(match config {
            SinkLogin::None => Self::None,
            SinkLogin::Password(user, password) => Self::Password(user.clone(), password.clone()),
            SinkLogin::Token(token) => Self::Token(token.clone()),
            SinkLogin::File(path) => Self::of_file(path).map_err(|source| SinkError::Login {
                path: path.clone(),
                source,
            })?,
        })
    }

    /// A file as nsc writes it: the JWT and the seed, each between lines of dashes.
    fn of_file(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let lacks = |what: &str| io::Error::other(format!("there is no {what} in it"));
        let jwt = between(&text, "NATS USER JWT").ok_or_else(|| lacks("NATS USER JWT"))?;
        let seed = between(&text, "USER NKEY SEED").ok_or_else(|| lacks("USER NKEY SEED"))?;
        let key = key(seed).ok_or_else(|| io::Error::other("its seed isn't one of a user"))?;
        Ok(Self::Key {
            jwt: Secret::new(jwt),
            key: Box::new(key),
        })
    }

    /// Members of `CONNECT`, for a server that gave this nonce.
    pub(super) fn answer(&self, nonce: Option<&str>) -> io::Result<Value> {
        Ok(match self {
            Self::None => json!({}),
            Self::Password(user, password) => json!({ "user": user, "pass": password.expose() }),
            Self::Token(token) => json!({ "auth_token": token.expose() }),
            Self::Key { jwt, key } => {
                let nonce =
                    nonce.ok_or_else(|| io::Error::other("the server takes no keys: it gave no nonce"))?;
                let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(nonce.as_bytes()).as_ref());
                json!({ "jwt": jwt.expose(), "sig": signature })
            }
        })
    }
}

/// The line after the one that begins a part of this name.
fn between<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.starts_with("-----BEGIN ") && line.contains(name))?;
    lines
        .next()
        .filter(|line| !line.is_empty() && !line.starts_with('-'))
}

/// The key of a seed: base32 of a prefix of two bytes, 32 bytes, and their CRC.
fn key(seed: &str) -> Option<Ed25519KeyPair> {
    let bytes = base32(seed)?;
    let content: &[u8; 36] = bytes.as_slice().try_into().ok()?;
    let (checked, sum) = content.split_at(34);
    // S for a seed, U for a user's.
    let [first, second, raw @ ..] = checked else {
        return None;
    };
    let is_users = first & 0xf8 == 18 << 3 && (first & 7) << 5 | (second & 0xf8) >> 3 == 20 << 3;
    if !is_users || sum != crc16(checked).to_le_bytes() {
        return None;
    }
    Ed25519KeyPair::from_seed_unchecked(raw).ok()
}

/// RFC 4648, without padding.
fn base32(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for c in text.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'2'..=b'7' => c - b'2' + 26,
            _ => return None,
        };
        held = held << 5 | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x1021,
        })
    })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::KeyPair as _;

    use super::*;

    #[test]
    fn a_seed_gives_the_key_that_it_names() {
        // RFC 8032's first test: its seed, as NATS writes it, with the checksum by another implementation (Python's binascii).
        let seed = "SUAJ2YNRTXX72WTAXKCEV5ES5QWMIRCJYVUXWMTJDFYDXLADDSXH6YALCA";
        let key = key(seed).unwrap();
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(hex::encode(key.public_key().as_ref()), public);
        let mut wrong = seed.to_owned();
        wrong.replace_range(10..11, if &seed[10..11] == "A" { "B" } else { "A" });
        for wrong in [&wrong, "", "SUA", &seed.to_lowercase()] {
            assert!(super::key(wrong).is_none(), "{wrong}");
        }
    }
}
