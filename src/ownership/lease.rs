//! A lease's row, and what a member says of itself in it.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{Incarnation, KeyHash};
use crate::{
    config::Collecting,
    placement::MemberId,
    storage::{Entry, StoreError, StoreErrorKind, Version, rows},
};

/// The settings that must be the same on all members, as hashes: a lease names none of the values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedSettings(Vec<(String, [u8; 32])>);

impl SharedSettings {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With the value of `key`, a key of the configuration.
    #[must_use]
    pub fn with(mut self, key: &str, value: &[u8]) -> Self {
        // The key and a zero byte in front, so that two settings of one value don't hash the same.
        let mut hash = Sha256::new();
        hash.update(key.as_bytes());
        hash.update([0]);
        hash.update(value);
        self.0.push((key.to_owned(), hash.finalize().into()));
        self
    }

    /// Keys that both have, with other values.
    pub(super) fn differs(&self, other: &Self) -> Vec<String> {
        let differs = |(key, hash): &&(String, [u8; 32])| {
            other.0.iter().any(|(other, value)| other == key && value != hash)
        };
        self.0
            .iter()
            .filter(differs)
            .map(|(key, _)| key.clone())
            .collect()
    }
}

/// What a member says of itself, apart from its keys and whether it leaves.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// `host:port` at which others reach its mesh listener.
    pub mesh_address: String,
    /// Oldest and newest version of the mesh protocol that it speaks.
    pub protocol: (u32, u32),
    /// What must be the same everywhere.
    pub settings: SharedSettings,
    /// Whether it collects.
    pub collecting: Collecting,
}

impl Announcement {
    /// What of `other` doesn't go together with this: keys of the configuration, or `protocol`.
    pub(super) fn differs(&self, other: &Self) -> Vec<String> {
        let mut differs = self.settings.differs(&other.settings);
        if self.protocol.0 > other.protocol.1 || other.protocol.0 > self.protocol.1 {
            differs.push("protocol".to_owned());
        }
        differs
    }
}

/// One lease, out of its row.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) member: MemberId,
    pub(super) incarnation: Incarnation,
    pub(super) said: Announcement,
    pub(super) keys: Vec<KeyHash>,
    pub(super) left: bool,
    pub(super) drained: bool,
}

impl Lease {
    /// The row's bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let settings = self.said.settings.0.iter();
        let row = rows::Lease {
            min_reader: 1,
            incarnation: self.incarnation.to_bytes().to_vec().into(),
            mesh_address: self.said.mesh_address.clone(),
            protocol_min: self.said.protocol.0,
            protocol_max: self.said.protocol.1,
            public_key_hashes: self
                .keys
                .iter()
                .map(|key| key.to_bytes().to_vec().into())
                .collect(),
            settings: settings
                .map(|(key, hash)| rows::SharedSetting {
                    key: key.clone(),
                    hash: hash.to_vec().into(),
                })
                .collect(),
            left: self.left,
            drained: self.drained,
            collects_nothing: self.said.collecting == Collecting::Off,
        };
        row.encode_to_vec()
    }

    /// From a row of the leases' partition.
    pub(super) fn read(entry: &Entry) -> Result<(Self, Version), StoreError> {
        let corrupt = |source: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::with_source(StoreErrorKind::Corrupt, "read a lease", source)
        };
        let row = rows::Lease::decode(entry.row.bytes.clone()).map_err(|error| corrupt(error.into()))?;
        let member = entry
            .sort
            .parse()
            .map_err(|error: crate::placement::MemberIdError| corrupt(error.into()))?;
        let incarnation = <[u8; 16]>::try_from(&*row.incarnation).map_err(|error| corrupt(error.into()))?;
        let settings = row
            .settings
            .into_iter()
            .filter_map(|setting| Some((setting.key, <[u8; 32]>::try_from(&*setting.hash).ok()?)));
        let keys = row.public_key_hashes.iter();
        let lease = Self {
            member,
            incarnation: Incarnation::from_bytes(incarnation),
            said: Announcement {
                mesh_address: row.mesh_address,
                protocol: (row.protocol_min, row.protocol_max),
                settings: SharedSettings(settings.collect()),
                collecting: match row.collects_nothing {
                    true => Collecting::Off,
                    false => Collecting::On,
                },
            },
            keys: keys
                .filter_map(|key| Some(KeyHash::from_bytes(<[u8; 32]>::try_from(&**key).ok()?)))
                .collect(),
            left: row.left,
            drained: row.drained,
        };
        Ok((lease, entry.row.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Row;

    fn said(key: &[u8], protocol: (u32, u32)) -> Announcement {
        Announcement {
            mesh_address: "127.0.0.1:9443".to_owned(),
            protocol,
            settings: SharedSettings::new()
                .with("cluster.hashKey", key)
                .with("storage.storageDriver.bucket", b"registry"),
            collecting: Collecting::Off,
        }
    }

    #[test]
    fn a_lease_is_read_as_it_was_written() {
        let lease = Lease {
            member: "127.0.0.1:5000".parse().unwrap(),
            incarnation: Incarnation::random(),
            said: said(b"a", (1, 2)),
            keys: vec![KeyHash::from_bytes([7; 32])],
            left: true,
            drained: true,
        };
        let version = Version::random();
        let row = Row {
            bytes: lease.bytes().into(),
            version,
        };
        let entry = Entry {
            sort: "127.0.0.1:5000".to_owned(),
            row,
        };
        let (read, of) = Lease::read(&entry).unwrap();
        assert_eq!(of, version);
        assert_eq!(format!("{read:?}"), format!("{lease:?}"));
        let nameless = Entry {
            sort: "somewhere".to_owned(),
            ..entry
        };
        assert!(Lease::read(&nameless).is_err());
    }

    #[test]
    fn what_differs_is_named_and_no_value_is_told() {
        let (a, b) = (said(b"a", (1, 1)), said(b"b", (1, 1)));
        assert_eq!(a.differs(&b), ["cluster.hashKey"]);
        assert_eq!(a.differs(&a), [""; 0]);
        assert_eq!(a.differs(&said(b"a", (2, 3))), ["protocol"]);
        assert_eq!(a.differs(&said(b"a", (1, 3))), [""; 0]);
        // A release that shares more settings is no other cluster.
        let more = Announcement {
            settings: a.settings.clone().with("later", b"x"),
            ..a.clone()
        };
        assert_eq!(a.differs(&more), [""; 0]);
        assert_eq!(more.differs(&a), [""; 0]);
    }
}
