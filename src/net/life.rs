//! How long certificates live. What is made of it is for whoever asks: a member warns, `verify` judges.

use std::{path::Path, time::Duration};

use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::tls::{TlsError, read_certificates};

/// From when until when the certificates of a file can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Not before.
    pub from: OffsetDateTime,
    /// Not after.
    pub until: OffsetDateTime,
}

/// Where in its life something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before its beginning.
    NotYet,
    /// Far from its end.
    Valid,
    /// Near its end.
    EndsSoon,
    /// After it.
    Ended,
}

impl Life {
    /// Of a certificate with its intermediates, in a PEM file: as long as all of them live.
    ///
    /// # Errors
    /// [`TlsError`]: it can't be read, or holds no certificate.
    pub fn of_chain(file: &Path) -> Result<Self, TlsError> {
        let shorter = |a: Self, b: Self| Self {
            from: a.from.max(b.from),
            until: a.until.min(b.until),
        };
        Self::of_file(file, shorter)
    }

    /// Of certificates of authorities, in a PEM file: as long as one of them lives, for where one follows another both
    /// are in it for a while.
    ///
    /// # Errors
    /// As [`of_chain`](Self::of_chain).
    pub fn of_authorities(file: &Path) -> Result<Self, TlsError> {
        let longer = |a: Self, b: Self| Self {
            from: a.from.min(b.from),
            until: a.until.max(b.until),
        };
        Self::of_file(file, longer)
    }

    fn of_file(file: &Path, both: impl Fn(Self, Self) -> Self) -> Result<Self, TlsError> {
        let certificates = read_certificates(file)?;
        let lives = certificates.iter().filter_map(|der| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            let validity = certificate.validity();
            Some(Self {
                from: validity.not_before.to_datetime(),
                until: validity.not_after.to_datetime(),
            })
        });
        lives.reduce(both).ok_or_else(|| TlsError::Empty {
            file: file.to_owned(),
        })
    }

    /// Where in its life it is at a time; less than `soon` before its end is near it.
    #[must_use]
    pub fn phase(&self, now: OffsetDateTime, soon: Duration) -> Phase {
        if self.until <= now {
            Phase::Ended
        } else if self.from > now {
            Phase::NotYet
        } else if self.until - now < soon {
            Phase::EndsSoon
        } else {
            Phase::Valid
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_has_its_phases() {
        let day = time::Duration::days(1);
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let soon = Duration::from_secs(14 * 24 * 60 * 60);
        let phase = |from: i32, until: i32| {
            let life = Life {
                from: now + day * from,
                until: now + day * until,
            };
            life.phase(now, soon)
        };
        assert_eq!(phase(-1, 14), Phase::Valid);
        assert_eq!(phase(-1, 13), Phase::EndsSoon);
        assert_eq!(phase(-2, 0), Phase::Ended);
        assert_eq!(phase(1, 2), Phase::NotYet);
    }
}
