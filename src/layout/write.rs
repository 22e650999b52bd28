//! A layout that is being written, by one process, and goes on where a former one was ended.
//!
//! Content has its name only once it is whole and was compared with its digest; until then it lies in a folder of its own. So what
//! has a name is there, whenever the process ends.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256, Sha512};

use super::{
    Entry, INDEX, LayoutError, MARK, MAX_INDEX_BYTES, UNFINISHED, VERSION, index::Index, path_of, read::small,
};
use crate::oci::{Algorithm, Digest};

/// A layout that is being written.
#[derive(Debug)]
pub struct Growing {
    folder: PathBuf,
    index: Mutex<Index>,
}

/// Content that arrives.
#[derive(Debug)]
pub struct Incoming {
    digest: Digest,
    file: File,
    path: PathBuf,
    whole: PathBuf,
    length: u64,
    hash: Hash,
}

#[derive(Debug)]
enum Hash {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hash {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    fn digest(self) -> Digest {
        let (algorithm, bytes) = match self {
            Self::Sha256(hash) => (Algorithm::Sha256, hash.finalize().to_vec()),
            Self::Sha512(hash) => (Algorithm::Sha512, hash.finalize().to_vec()),
        };
        // A hash has its algorithm's length.
        Digest::from_bytes(algorithm, &bytes).unwrap_or_else(|_| Digest::of(algorithm, &[]))
    }
}

impl Growing {
    /// Begins a layout in a directory, or goes on with the one that is there.
    ///
    /// # Errors
    /// [`LayoutError`], also when something else is in the directory.
    pub fn open(folder: &Path) -> Result<Self, LayoutError> {
        let failed = |source| LayoutError::file(folder, source);
        fs::create_dir_all(folder).map_err(failed)?;
        for entry in fs::read_dir(folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if ![MARK, INDEX, "blobs", UNFINISHED].iter().any(|own| name == *own) {
                return Err(LayoutError::None {
                    path: folder.to_owned(),
                    problem: "there is something else in it",
                });
            }
        }
        for part in ["blobs/sha256", UNFINISHED] {
            fs::create_dir_all(folder.join(part)).map_err(failed)?;
        }
        let index = match small(&folder.join(INDEX), MAX_INDEX_BYTES)? {
            Some(bytes) => Index::read(folder, &bytes)?,
            None => Index::default(),
        };
        let growing = Self {
            folder: folder.to_owned(),
            index: Mutex::new(index),
        };
        growing.replace(MARK, VERSION.as_bytes())?;
        growing.save()?;
        Ok(growing)
    }

    /// Whether the content is there, whole.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.folder.join(path_of(digest)).is_file()
    }

    /// A manifest that is there.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, LayoutError> {
        small(
            &self.folder.join(path_of(digest)),
            crate::oci::MAX_MANIFEST_BYTES as u64,
        )
    }

    /// Begins to take content, or goes on with what is there of it, which is read again. Blocks.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn begin(&self, digest: &Digest) -> Result<Incoming, LayoutError> {
        let name = format!("{}-{}", digest.algorithm(), digest.hex());
        let path = self.folder.join(UNFINISHED).join(name);
        let whole = self.folder.join(path_of(digest));
        let hash = match digest.algorithm() {
            Algorithm::Sha256 => Hash::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hash::Sha512(Sha512::new()),
        };
        let opened = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&path);
        let mut incoming = Incoming {
            digest: digest.clone(),
            file: opened.map_err(|error| LayoutError::file(&path, error))?,
            path,
            whole,
            length: 0,
            hash,
        };
        incoming.read_again()?;
        Ok(incoming)
    }

    /// Has an entry in the list, from the next [`save`](Self::save) on.
    pub fn enter(&self, entry: &Entry) {
        self.index.lock().enter(entry);
    }

    /// Writes the list of entries.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn save(&self) -> Result<(), LayoutError> {
        let bytes = self.index.lock().bytes();
        self.replace(INDEX, &bytes)
    }

    /// Writes the list, and leaves nothing behind that isn't of a layout.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn finish(&self) -> Result<(), LayoutError> {
        self.save()?;
        let unfinished = self.folder.join(UNFINISHED);
        fs::remove_dir_all(&unfinished).map_err(|error| LayoutError::file(&unfinished, error))
    }

    /// Writes a file, whole or not at all.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), LayoutError> {
        let draft = self.folder.join(UNFINISHED).join(name);
        let written = fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, self.folder.join(name)));
        written.map_err(|error| LayoutError::file(&self.folder.join(name), error))
    }
}

impl Incoming {
    /// How many bytes are there.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    fn read_again(&mut self) -> Result<(), LayoutError> {
        let mut piece = vec![0; 1 << 20];
        loop {
            let read = self.file.read(&mut piece);
            match read.map_err(|error| LayoutError::file(&self.path, error))? {
                0 => return Ok(()),
                n => {
                    self.hash.update(&piece[..n]);
                    self.length += n as u64;
                }
            }
        }
    }

    /// Takes the next bytes. Blocks.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| LayoutError::file(&self.path, error))?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// It is whole. Blocks.
    ///
    /// # Errors
    /// [`LayoutError`], also when it isn't what its name says; then nothing of it is kept.
    pub fn finish(self) -> Result<(), LayoutError> {
        let failed = |source| LayoutError::file(&self.path, source);
        let actual = self.hash.digest();
        if actual != self.digest {
            fs::remove_file(&self.path).map_err(failed)?;
            return Err(LayoutError::Digest {
                expected: self.digest,
                actual,
            });
        }
        self.file.sync_data().map_err(failed)?;
        let folder = self.whole.parent().map_or(Ok(()), fs::create_dir_all);
        folder
            .and_then(|()| fs::rename(&self.path, &self.whole))
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Layout, find, pack};

    fn written(folder: &Path, algorithm: Algorithm) -> (Digest, Digest) {
        let growing = Growing::open(folder).unwrap();
        let (document, blob) = (Digest::of(algorithm, b"{}"), Digest::of(algorithm, b"a blob"));
        let mut incoming = growing.begin(&document).unwrap();
        incoming.write(b"{}").unwrap();
        incoming.finish().unwrap();
        growing.begin(&blob).unwrap().write(b"a b").unwrap();
        assert!(growing.has(&document) && !growing.has(&blob));
        // As after a crash.
        let growing = Growing::open(folder).unwrap();
        let mut incoming = growing.begin(&blob).unwrap();
        assert_eq!(incoming.length(), 3);
        incoming.write(b"lob").unwrap();
        incoming.finish().unwrap();
        growing.enter(&Entry {
            media_type: None,
            digest: document.clone(),
            size: 2,
            name: Some("library/alpine:3".to_owned()),
        });
        growing.finish().unwrap();
        (document, blob)
    }

    #[test]
    fn what_was_written_is_read_from_a_directory_and_from_an_archive() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let scratch = tempfile::tempdir().unwrap();
            let (folder, archive) = (scratch.path().join("layout"), scratch.path().join("layout.tar"));
            let (document, blob) = written(&folder, algorithm);
            // As a process left it that was ended while it wrote.
            let draft = folder.join(UNFINISHED).join("archive.tar");
            fs::create_dir_all(draft.parent().unwrap()).unwrap();
            fs::write(&draft, vec![b'x'; 1 << 20]).unwrap();
            pack(&folder, &archive).unwrap();
            assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2);
            for path in [&folder, &archive] {
                let layout = Layout::open(path).unwrap();
                let entries = layout.entries().unwrap();
                assert_eq!(entries.len(), 1);
                assert_eq!(entries[0].name.as_deref(), Some("library/alpine:3"));
                assert_eq!(layout.document(&document).unwrap().unwrap(), "{}");
                let content = layout.content(&blob).unwrap().unwrap();
                assert_eq!(content.length(), 6);
                assert_eq!(content.read(2, 100).unwrap(), "blob");
                assert_eq!(content.read(0, 1).unwrap(), "a");
                assert!(layout.content(&Digest::of(algorithm, b"?")).unwrap().is_none());
            }
            let names: Vec<_> = fs::read_dir(&folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(names.len(), 3, "{names:?}");
        }
    }

    #[test]
    fn wrong_content_gets_no_name_and_is_never_a_document() {
        let scratch = tempfile::tempdir().unwrap();
        let growing = Growing::open(scratch.path()).unwrap();
        let digest = Digest::of(Algorithm::Sha256, b"right");
        for _ in 0..2 {
            let mut incoming = growing.begin(&digest).unwrap();
            assert_eq!(incoming.length(), 0);
            incoming.write(b"wrong").unwrap();
            assert!(matches!(incoming.finish(), Err(LayoutError::Digest { .. })));
            assert!(!growing.has(&digest));
        }
        fs::write(scratch.path().join(path_of(&digest)), b"wrong").unwrap();
        let layout = Layout::open(scratch.path()).unwrap();
        assert!(matches!(
            layout.document(&digest),
            Err(LayoutError::Digest { .. })
        ));
    }

    #[test]
    fn layouts_are_found_below_a_directory_as_zot_keeps_them() {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["a", "a/b", "c/d/e"] {
            written(&scratch.path().join(name), Algorithm::Sha256);
        }
        fs::write(scratch.path().join("a/blobs").join(MARK), VERSION).unwrap();
        fs::create_dir_all(scratch.path().join("_trash/x")).unwrap();
        let found = find(scratch.path()).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["a", "a/b", "a/blobs", "c/d/e"]);
        let one = find(&scratch.path().join("c/d/e")).unwrap();
        assert_eq!((one.len(), &*one[0].0), (1, ""));
        for none in [scratch.path().join("_trash"), scratch.path().join("absent")] {
            assert!(find(&none).is_err());
        }
        let other = scratch.path().join("_trash");
        assert!(matches!(Growing::open(&other), Err(LayoutError::None { .. })));
        fs::write(scratch.path().join("x.tar"), b"no archive").unwrap();
        assert!(Layout::open(&scratch.path().join("x.tar")).is_err());
    }
}
