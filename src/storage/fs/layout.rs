//! Where what lies. Pure: no I/O.

use std::path::{Path, PathBuf};

use crate::storage::{ObjectKey, PartNumber, bounds};

/// Segments from this length on are spread over directories by their first two characters.
const LONG: usize = 16;

/// The index of the parts, inside the directory of an object.
pub(super) const INDEX: &str = "parts";
/// Bytes of a line of the index: number, ETag, offset of the end.
pub(super) const LINE: usize = 5 + 1 + 32 + 1 + 20 + 1;

/// Where everything of one key lies.
pub(super) struct Place {
    /// The directory.
    pub(super) dir: PathBuf,
    leaf: String,
}

impl Place {
    pub(super) fn of(root: &Path, key: &ObjectKey) -> Self {
        let (parents, leaf) = key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()));
        let mut dir = directory(root, parents);
        if let Some(shard) = shard(leaf) {
            dir.push(shard);
        }
        Self {
            dir,
            leaf: leaf.to_owned(),
        }
    }

    pub(super) fn object(&self) -> PathBuf {
        self.dir.join(format!("{}.o", self.leaf))
    }

    /// The directory of a multipart upload, if `id` can be one of ours.
    pub(super) fn upload(&self, id: &str) -> Option<PathBuf> {
        is_random_name(id).then(|| self.dir.join(format!("{}.{id}.u", self.leaf)))
    }

    /// A fresh name for a file that is being written.
    pub(super) fn temporary(&self) -> PathBuf {
        self.dir
            .join(format!("{}.{}.t", self.leaf, bounds::random_name()))
    }

    /// A fresh name for a directory that is being deleted.
    pub(super) fn trash(&self) -> PathBuf {
        self.dir
            .join(format!("{}.{}.x", self.leaf, bounds::random_name()))
    }
}

/// The directory of the keys that begin with the whole segments `parents`.
pub(super) fn directory(root: &Path, parents: &str) -> PathBuf {
    let mut dir = root.to_owned();
    for segment in parents.split('/').filter(|segment| !segment.is_empty()) {
        dir.extend(shard(segment));
        dir.push(segment);
    }
    dir
}

fn shard(segment: &str) -> Option<String> {
    let first = segment.get(..2).filter(|_| segment.len() >= LONG)?;
    Some(format!("{first}.s"))
}

/// What an entry of a directory is, by its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    /// The directory of the keys that go on after this segment.
    Segment(&'a str),
    /// The directory of the long segments that begin so.
    Shard(&'a str),
    /// An object; the last segment of its key.
    Object(&'a str),
    /// A multipart upload towards such a key.
    Upload(&'a str),
    /// What was being written to or deleted from such a key.
    Waste(&'a str),
}

impl<'a> Entry<'a> {
    /// Nothing for a name that isn't ours.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let Some((stem, suffix)) = name.rsplit_once('.') else {
            return Some(Self::Segment(name));
        };
        let leaf = |stem: &'a str| stem.split_once('.').map(|(leaf, _)| leaf);
        match suffix {
            "s" => Some(Self::Shard(stem)),
            "o" => Some(Self::Object(stem)),
            "u" => leaf(stem).map(Self::Upload),
            "t" | "x" => leaf(stem).map(Self::Waste),
            _ => None,
        }
    }
}

/// The file name of a part, if `etag` can be one of ours.
pub(super) fn part(number: PartNumber, etag: &str) -> Option<String> {
    is_random_name(etag).then(|| format!("{:05}.{etag}", number.get()))
}

fn is_random_name(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A line of the index: the part's file name and where its bytes end in the object.
pub(super) fn line(name: &str, end: u64) -> String {
    format!("{name} {end:020}\n")
}

/// What [`line()`] made, if it is that.
pub(super) fn parse_line(line: &[u8; LINE]) -> Option<(&str, u64)> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (name, end) = line.split_once(' ')?;
    let (number, etag) = name.split_once('.')?;
    let ours = is_random_name(etag) && number.len() == 5 && number.bytes().all(|b| b.is_ascii_digit());
    Some((name, end.parse().ok()?)).filter(|_| ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str) -> String {
        let place = Place::of(Path::new("/r"), &ObjectKey::parse(key).unwrap());
        place.object().to_str().unwrap().to_owned()
    }

    #[test]
    fn long_segments_are_spread() {
        assert_eq!(object("a"), "/r/a.o");
        assert_eq!(object("a/b-c"), "/r/a/b-c.o");
        assert_eq!(object("u/0123456789abcdef"), "/r/u/01.s/0123456789abcdef.o");
        assert_eq!(
            object("0123456789abcdef/tail/fedcba9876543210"),
            "/r/01.s/0123456789abcdef/tail/fe.s/fedcba9876543210.o"
        );
    }

    #[test]
    fn names_say_what_they_are() {
        let place = Place::of(Path::new("/r"), &ObjectKey::parse("a/leaf").unwrap());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let id = bounds::random_name();
        assert_eq!(Entry::parse(&name(&place.object())), Some(Entry::Object("leaf")));
        assert_eq!(
            Entry::parse(&name(&place.upload(&id).unwrap())),
            Some(Entry::Upload("leaf"))
        );
        assert_eq!(
            Entry::parse(&name(&place.temporary())),
            Some(Entry::Waste("leaf"))
        );
        assert_eq!(Entry::parse(&name(&place.trash())), Some(Entry::Waste("leaf")));
        assert_eq!(Entry::parse("ab.s"), Some(Entry::Shard("ab")));
        assert_eq!(Entry::parse("segment"), Some(Entry::Segment("segment")));
        assert_eq!(Entry::parse("notes.txt"), None);
        assert_eq!(Entry::parse("x.u"), None);
    }

    #[test]
    fn ids_of_others_make_no_path() {
        let place = Place::of(Path::new("/r"), &ObjectKey::parse("a").unwrap());
        for id in [
            "",
            "..",
            "../../etc/passwd",
            "0123456789ABCDEF0123456789ABCDEF",
            "1",
        ] {
            assert!(place.upload(id).is_none(), "{id}");
            assert!(part(PartNumber::new(1).unwrap(), id).is_none(), "{id}");
        }
    }

    #[test]
    fn a_line_of_the_index_reads_back() {
        let name = part(PartNumber::new(10_000).unwrap(), &bounds::random_name()).unwrap();
        let line = line(&name, u64::MAX);
        let line: &[u8; LINE] = line.as_bytes().try_into().unwrap();
        assert_eq!(parse_line(line), Some((name.as_str(), u64::MAX)));
        assert_eq!(parse_line(&[0; LINE]), None);
    }
}
