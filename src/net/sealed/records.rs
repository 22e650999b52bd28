//! Records of TLS 1.3, after the handshake: all of them are sealed (RFC 8446, section 5.2).

use std::io;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use bytes::BytesMut;
use rustls::ConnectionTrafficSecrets;

/// Type, version and length in front of a record.
pub(super) const HEADER: usize = 5;
/// Most bytes of plaintext in a record.
pub(super) const MOST: usize = 1 << 14;
/// Most bytes of one that is sealed, with its type, padding, and the tag.
const MOST_SEALED: usize = MOST + 256;
const TAG: usize = 16;

/// What a record carries. As the record's type, in and around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Alert = 21,
    Handshake = 22,
    Data = 23,
}

/// A record that was opened.
pub(super) struct Record {
    pub(super) content: Content,
    /// How many bytes of it there are, right after the header.
    pub(super) bytes: usize,
}

/// Why what comes can't be a record that may come now. As the alert that says so (RFC 8446, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It isn't sealed, or nothing that comes after a handshake is in it.
    Type = 10,
    /// It isn't the one that was sealed.
    Seal = 20,
    /// No record is as long, or as short.
    Length = 22,
}

/// The length of the record that begins with `bytes`, without its header; `None` where they are too few to tell.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, Wrong> {
    let [content, _, _, high, low, ..] = *bytes else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    match length {
        _ if content != Content::Data as u8 => Err(Wrong::Type),
        TAG..=MOST_SEALED => Ok(Some(length)),
        _ => Err(Wrong::Length),
    }
}

/// One direction's key, and how many records it has seen.
pub(super) struct Key {
    key: LessSafeKey,
    iv: [u8; 12],
    records: u64,
}

impl Key {
    /// Of a connection on which `records` were sealed with it already.
    pub(super) fn new((records, secrets): (u64, ConnectionTrafficSecrets)) -> io::Result<Self> {
        use ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
        let unusable = || io::Error::other("the handshake ended with keys that can't be used");
        let (algorithm, key, iv) = match &secrets {
            Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(unusable()),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| unusable())?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().try_into().map_err(|_| unusable())?,
            records,
        })
    }

    /// How many records it has seen.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Of the next record: never twice the same, for the records are counted (RFC 8446, section 5.3).
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.records.to_be_bytes()) {
            *byte ^= number;
        }
        self.records += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Opens, in place, the record at the front of `buffer`, which has `length` bytes after its header.
    pub(super) fn open(&mut self, buffer: &mut BytesMut, length: usize) -> Result<Record, Wrong> {
        let (header, sealed) = buffer.split_at_mut_checked(HEADER).ok_or(Wrong::Length)?;
        let header: [u8; HEADER] = header.try_into().map_err(|_| Wrong::Length)?;
        let sealed = sealed.get_mut(..length).ok_or(Wrong::Length)?;
        let nonce = self.nonce();
        let opened = self
            .key
            .open_in_place(nonce, Aad::from(header), sealed)
            .map_err(|_| Wrong::Seal)?;
        if opened.len() > MOST + 1 {
            return Err(Wrong::Length);
        }
        // The type is the last byte that isn't zero; zeros after it are padding. Only data may be none (section 5.4).
        let bytes = opened.iter().rposition(|byte| *byte != 0).ok_or(Wrong::Type)?;
        let content = match opened[bytes] {
            21 if bytes > 0 => Content::Alert,
            22 if bytes > 0 => Content::Handshake,
            23 => Content::Data,
            _ => return Err(Wrong::Type),
        };
        Ok(Record { content, bytes })
    }

    /// Appends `bytes`, of which there are at most [`MOST`], to `outgoing` as a record.
    pub(super) fn seal(&mut self, outgoing: &mut Vec<u8>, content: Content, bytes: &[u8]) -> io::Result<()> {
        self.seal_as(outgoing, content as u8, bytes)
    }

    /// As [`seal`](Self::seal), of any type.
    pub(super) fn seal_as(&mut self, outgoing: &mut Vec<u8>, content: u8, bytes: &[u8]) -> io::Result<()> {
        let failed = || io::Error::other("a record can't be sealed");
        let length = bytes.len() + 1 + TAG;
        let [high, low] = u16::try_from(length).map_err(|_| failed())?.to_be_bytes();
        let header: [u8; HEADER] = [Content::Data as u8, 3, 3, high, low];
        outgoing.reserve(HEADER + length);
        outgoing.extend_from_slice(&header);
        let at = outgoing.len();
        outgoing.resize(at + length, 0);
        let (sealed, tag) = outgoing[at..].split_at_mut(bytes.len());
        let nonce = self.nonce();
        self.key
            .seal_out_of_place_scatter(nonce, Aad::from(header), bytes, sealed, &[content], tag)
            .map_err(|_| failed())
    }
}
