//! A layout that is there.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};

use super::{Entry, INDEX, LayoutError, MARK, MAX_INDEX_BYTES, archive, index::Index, path_of};
use crate::oci::{Digest, MAX_MANIFEST_BYTES};

/// How deep below a directory layouts are looked for.
const DEPTH: usize = 64;

/// A layout that is there. Clones are the same.
#[derive(Clone, Debug)]
pub struct Layout(Arc<Place>);

#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    Archive {
        path: PathBuf,
        file: File,
        // Where each file lies: its first byte, its length.
        files: HashMap<String, (u64, u64)>,
    },
}

/// Something in a layout, read in pieces.
#[derive(Debug)]
pub struct Content {
    file: File,
    first: u64,
    length: u64,
}

impl Content {
    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// At most `most` bytes from `at` on; fewer only at the end. Blocks.
    ///
    /// # Errors
    /// Of the file, also when it has become shorter.
    pub fn read(&self, at: u64, most: usize) -> io::Result<Bytes> {
        let left = self.length.saturating_sub(at);
        let length = usize::try_from(left).map_or(most, |left| left.min(most));
        let mut bytes = BytesMut::zeroed(length);
        self.file.read_exact_at(&mut bytes, self.first + at)?;
        Ok(bytes.freeze())
    }
}

impl Layout {
    /// Opens the layout in a directory or in a tar archive.
    ///
    /// # Errors
    /// [`LayoutError`]; it isn't looked at further than that it is one.
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        let none = |problem| LayoutError::None {
            path: path.to_owned(),
            problem,
        };
        let failed = |source| LayoutError::file(path, source);
        if fs::metadata(path).map_err(failed)?.is_dir() {
            return match path.join(MARK).is_file() {
                true => Ok(Self(Arc::new(Place::Folder(path.to_owned())))),
                false => Err(none("it has no file oci-layout")),
            };
        }
        let file = File::open(path).map_err(failed)?;
        let mut magic = [0; 4];
        if file.read_exact_at(&mut magic, 0).is_ok()
            && (magic[..2] == [0x1f, 0x8b] || magic == [0x28, 0xb5, 0x2f, 0xfd])
        {
            return Err(none("it is compressed: unpack it to a tar archive first"));
        }
        let files = archive::files(&file).map_err(failed)?;
        if !files.contains_key(MARK) {
            return Err(none("it is no tar archive with a file oci-layout"));
        }
        Ok(Self(Arc::new(Place::Archive {
            path: path.to_owned(),
            file,
            files,
        })))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match &*self.0 {
            Place::Folder(path) | Place::Archive { path, .. } => path,
        }
    }

    /// What is in it.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn entries(&self) -> Result<Vec<Entry>, LayoutError> {
        let Some(index) = self.file(INDEX)? else {
            return Err(LayoutError::None {
                path: self.path().to_owned(),
                problem: "it has no index.json",
            });
        };
        if index.length > MAX_INDEX_BYTES {
            return Err(LayoutError::Index {
                path: self.path().to_owned(),
                problem: format!("it has {} bytes", index.length),
            });
        }
        let bytes = self.whole(&index)?;
        Ok(Index::read(self.path(), &bytes)?.entries())
    }

    /// A manifest, if it is there. Blocks.
    ///
    /// # Errors
    /// [`LayoutError`], also when it isn't what its name says.
    pub fn document(&self, digest: &Digest) -> Result<Option<Bytes>, LayoutError> {
        let Some(content) = self.content(digest)? else {
            return Ok(None);
        };
        if content.length > MAX_MANIFEST_BYTES as u64 {
            return Err(LayoutError::TooLong {
                digest: digest.clone(),
                size: content.length,
            });
        }
        let bytes = self.whole(&content)?;
        let actual = Digest::of(digest.algorithm(), &bytes);
        if actual != *digest {
            return Err(LayoutError::Digest {
                expected: digest.clone(),
                actual,
            });
        }
        Ok(Some(bytes))
    }

    /// The content of this name, if it is there. Whether it has that digest isn't looked at.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn content(&self, digest: &Digest) -> Result<Option<Content>, LayoutError> {
        self.file(&path_of(digest))
    }

    fn file(&self, name: &str) -> Result<Option<Content>, LayoutError> {
        match &*self.0 {
            Place::Folder(folder) => {
                let path = folder.join(name);
                let opened = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
                match opened {
                    Ok((metadata, file)) => Ok(Some(Content {
                        file,
                        first: 0,
                        length: metadata.len(),
                    })),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(LayoutError::file(&path, error)),
                }
            }
            Place::Archive { path, file, files } => {
                let Some((first, length)) = files.get(name) else {
                    return Ok(None);
                };
                let file = file.try_clone().map_err(|error| LayoutError::file(path, error))?;
                Ok(Some(Content {
                    file,
                    first: *first,
                    length: *length,
                }))
            }
        }
    }

    fn whole(&self, content: &Content) -> Result<Bytes, LayoutError> {
        let length = usize::try_from(content.length).unwrap_or(usize::MAX);
        let read = content.read(0, length);
        read.map_err(|error| LayoutError::file(self.path(), error))
    }
}

/// The layout at `path`, or those below that directory, each with its path from there (empty for `path` itself), by name.
///
/// # Errors
/// [`LayoutError`], also when there is none.
pub fn find(path: &Path) -> Result<Vec<(String, Layout)>, LayoutError> {
    let failed = |source| LayoutError::file(path, source);
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![(String::new(), Layout::open(path)?)]);
    }
    let mut found = Vec::new();
    look(path, "", DEPTH, &mut found)?;
    if found.is_empty() {
        return Err(LayoutError::None {
            path: path.to_owned(),
            problem: "there is no file oci-layout in it, nor below it",
        });
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

fn look(
    folder: &Path,
    name: &str,
    depth: usize,
    found: &mut Vec<(String, Layout)>,
) -> Result<(), LayoutError> {
    let is_layout = folder.join(MARK).is_file();
    if is_layout {
        found.push((name.to_owned(), Layout::open(folder)?));
    }
    let failed = |source| LayoutError::file(folder, source);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, part) = (entry.path(), entry.file_name());
        // No link is followed: it may lead in a circle.
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        let Some(part) = part.to_str().filter(|_| is_folder && depth > 0) else {
            continue;
        };
        // A repository may be called so, too.
        if is_layout && part == "blobs" && !path.join(MARK).is_file() {
            continue;
        }
        let name = if name.is_empty() {
            part.to_owned()
        } else {
            format!("{name}/{part}")
        };
        look(&path, &name, depth - 1, found)?;
    }
    Ok(())
}

/// All of a file of at most `most` bytes, if there is one.
pub(super) fn small(path: &Path, most: u64) -> Result<Option<Vec<u8>>, LayoutError> {
    let read = File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > most {
            true => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
            false => Ok(bytes),
        }
    });
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LayoutError::file(path, error)),
    }
}
