//! Writing and deleting objects. Everything here blocks.

use std::{
    collections::HashSet,
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io::{self, IoSlice, Write},
    path::{Path, PathBuf},
};

use parking_lot::{Mutex, MutexGuard};

use super::layout::{self, Entry, INDEX, Place};
use crate::storage::{ObjectKey, Part, PartNumber, Payload, StoreError, StoreErrorKind, bounds};

/// How often a write makes its directory anew when a delete at the same time removes it as empty.
const ATTEMPTS: usize = 8;

pub(super) struct Disk {
    root: PathBuf,
    /// Held while directories are made or removed. Who has written into a directory that it found waits for this
    /// before it acknowledges: then whoever made the directory has synced it.
    directories: Mutex<()>,
    /// Held while the set of parts of an upload changes; by the hash of its id.
    uploads: [Mutex<()>; 64],
    hasher: RandomState,
}

fn not_found(operation: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::NotFound, operation)
}

/// As [`StoreError::io`], for calls that give an object its name: the caller may not use a key again.
fn named(operation: &'static str, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::DirectoryNotEmpty
        | io::ErrorKind::AlreadyExists => StoreError::with_source(StoreErrorKind::Misuse, operation, error),
        _ => StoreError::io(operation, error),
    }
}

/// `Ok` also when there is nothing.
fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn write_payload(mut file: &File, payload: &Payload) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = payload.chunks().iter().map(|chunk| IoSlice::new(chunk)).collect();
    let mut slices = &mut slices[..];
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    file.sync_data()
}

impl Disk {
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        fs::create_dir_all(&root)?;
        sync_dir(&root)?;
        root.parent().map_or(Ok(()), sync_dir)?;
        Ok(Self {
            root,
            directories: Mutex::default(),
            uploads: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        })
    }

    fn place(&self, key: &ObjectKey) -> Place {
        Place::of(&self.root, key)
    }

    pub(super) fn object(&self, key: &ObjectKey) -> PathBuf {
        self.place(key).object()
    }

    fn lock_upload(&self, id: &str) -> MutexGuard<'_, ()> {
        let stripe = self.hasher.hash_one(id) % 64;
        self.uploads[usize::try_from(stripe).unwrap_or(0)].lock()
    }

    /// Makes `dir` and what is missing above it, and waits until it would survive a power loss.
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let _lock = self.directories.lock();
        let mut path = self.root.clone();
        for segment in dir.strip_prefix(&self.root).map_err(io::Error::other)? {
            let parent = path.clone();
            path.push(segment);
            match fs::create_dir(&path) {
                Ok(()) => sync_dir(&parent)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Creates something in `dir` by `create`, making `dir` if it is missing.
    fn create_in<T>(&self, dir: &Path, create: impl Fn() -> io::Result<T>) -> io::Result<T> {
        for _ in 0..ATTEMPTS {
            match create() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_dir(dir)?,
                other => return other,
            }
        }
        create()
    }

    /// Makes what happened to the entries of `dir` durable, and `dir` itself.
    fn settle(&self, dir: &Path) -> io::Result<()> {
        sync_dir(dir)?;
        drop(self.directories.lock());
        Ok(())
    }

    /// Removes `dir` and the directories above it that are empty, but for the topmost ones.
    fn prune(&self, dir: &Path) {
        let _lock = self.directories.lock();
        for dir in dir.ancestors() {
            let inner = dir
                .parent()
                .is_some_and(|parent| parent.starts_with(&self.root) && *parent != self.root);
            if !inner || fs::remove_dir(dir).is_err() {
                return;
            }
        }
    }

    pub(super) fn put(&self, key: &ObjectKey, payload: &Payload) -> Result<(), StoreError> {
        let place = self.place(key);
        let temporary = place.temporary();
        let file = self
            .create_in(&place.dir, || File::create_new(&temporary))
            .map_err(|error| StoreError::io("put", error))?;
        let written = write_payload(&file, payload)
            .and_then(|()| fs::rename(&temporary, place.object()))
            .and_then(|()| self.settle(&place.dir));
        written.map_err(|error| {
            // If that fails too, `sweep` finds it.
            let _ = fs::remove_file(&temporary);
            self.prune(&place.dir);
            named("put", error)
        })
    }

    pub(super) fn begin(&self, key: &ObjectKey) -> Result<String, StoreError> {
        let place = self.place(key);
        let id = bounds::random_name();
        let dir = place.upload(&id).ok_or_else(|| not_found("begin"))?;
        self.create_in(&place.dir, || fs::create_dir(&dir))
            .and_then(|()| self.settle(&place.dir))
            .map_err(|error| StoreError::io("begin", error))?;
        Ok(id)
    }

    pub(super) fn part(
        &self,
        key: &ObjectKey,
        upload: &str,
        number: PartNumber,
        payload: &Payload,
    ) -> Result<String, StoreError> {
        let dir = self.place(key).upload(upload).ok_or_else(|| not_found("part"))?;
        let etag = bounds::random_name();
        let name = layout::part(number, &etag).ok_or_else(|| not_found("part"))?;
        let path = dir.join(&name);
        // Without a temporary name: until it is acknowledged, nobody knows the ETag.
        let file = File::create_new(&path).map_err(|error| StoreError::io("part", error))?;
        let written = write_payload(&file, payload)
            .and_then(|()| sync_dir(&dir))
            .and_then(|()| self.replace(upload, &dir, &name));
        written.map_err(|error| {
            let _ = fs::remove_file(&path);
            StoreError::io("part", error)
        })?;
        Ok(etag)
    }

    pub(super) fn last_part(&self, key: &ObjectKey, upload: &str) -> Result<Option<PartNumber>, StoreError> {
        let missing = || not_found("last_part");
        let dir = self.place(key).upload(upload).ok_or_else(missing)?;
        let entries = fs::read_dir(dir).map_err(|error| StoreError::io("last_part", error))?;
        let mut last = None;
        for entry in entries {
            let name = entry
                .map_err(|error| StoreError::io("last_part", error))?
                .file_name();
            let number = name
                .to_str()
                .and_then(|name| name.split_once('.')?.0.parse().ok());
            last = last.max(number.and_then(PartNumber::new));
        }
        Ok(last)
    }

    /// Removes the parts of the same number as `name` in `dir`, the directory of `upload`.
    fn replace(&self, upload: &str, dir: &Path, name: &str) -> io::Result<()> {
        let _lock = self.lock_upload(upload);
        let mut others = Vec::new();
        let mut found = false;
        for entry in fs::read_dir(dir)? {
            let other = entry?.file_name();
            if other == *name {
                found = true;
            } else if other
                .to_str()
                .is_some_and(|other| other.get(..6) == name.get(..6))
            {
                others.push(other);
            }
        }
        // Not found: another upload of this part, at the same time, has replaced this one.
        if found {
            for other in others {
                missing_is_fine(fs::remove_file(dir.join(other)))?;
            }
        }
        Ok(())
    }

    pub(super) fn complete(&self, key: &ObjectKey, upload: &str, parts: &[Part]) -> Result<(), StoreError> {
        let place = self.place(key);
        let dir = place.upload(upload).ok_or_else(|| not_found("complete"))?;
        let _lock = self.lock_upload(upload);
        if !dir.is_dir() {
            return Err(not_found("complete"));
        }
        let (names, index) = check_parts(&dir, parts)?;
        let object = place.object();
        fs::write(dir.join(INDEX), index)
            .and_then(|()| File::open(dir.join(INDEX))?.sync_all())
            .and_then(|()| sync_dir(&dir))
            .and_then(|()| fs::rename(&dir, &object))
            .and_then(|()| self.settle(&place.dir))
            .map_err(|error| named("complete", error))?;
        if let Err(error) = remove_others(&object, &names) {
            // They cost space until the object is deleted, no more.
            tracing::warn!(%key, %error, "parts that weren't named can't be removed");
        }
        Ok(())
    }

    pub(super) fn abort(&self, key: &ObjectKey, upload: &str) -> Result<(), StoreError> {
        let place = self.place(key);
        let Some(dir) = place.upload(upload) else {
            return Ok(());
        };
        let _lock = self.lock_upload(upload);
        self.remove(&place, &dir)
            .map_err(|error| StoreError::io("abort", error))
    }

    pub(super) fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let place = self.place(key);
        self.remove(&place, &place.object())
            .map_err(|error| StoreError::io("delete", error))
    }

    /// Removes `path`, a file or a directory of `place`, at once for everyone else; durably.
    fn remove(&self, place: &Place, path: &Path) -> io::Result<()> {
        let removed = match fs::symlink_metadata(path) {
            Err(error) => Err(error),
            Ok(metadata) if !metadata.is_dir() => fs::remove_file(path),
            Ok(_) => {
                let trash = place.trash();
                fs::rename(path, &trash).and_then(|()| missing_is_fine(fs::remove_dir_all(&trash)))
            }
        };
        missing_is_fine(removed)?;
        missing_is_fine(sync_dir(&place.dir))?;
        self.prune(&place.dir);
        Ok(())
    }

    pub(super) fn sweep(&self, prefix: &str, keep: &[ObjectKey]) -> Result<(), StoreError> {
        let (parents, rest) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        let base = prefix.strip_suffix(rest).unwrap_or_default();
        let keep = keep.iter().map(ObjectKey::as_str).collect();
        let dir = layout::directory(&self.root, parents);
        self.sweep_dir(&dir, base, rest, &keep)
            .map_err(|error| StoreError::io("sweep", error))
    }

    /// Sweeps `dir`, which holds the keys that begin with `base`: those that go on with `rest`.
    fn sweep_dir(&self, dir: &Path, base: &str, rest: &str, keep: &HashSet<&str>) -> io::Result<()> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let path = entry.path();
            let swept =
                |leaf: &str| leaf.starts_with(rest) && !keep.contains(format!("{base}{leaf}").as_str());
            match name.to_str().and_then(Entry::parse) {
                Some(Entry::Shard(shard)) if shard.starts_with(rest) || rest.starts_with(shard) => {
                    self.sweep_dir(&path, base, rest, keep)?;
                }
                Some(Entry::Segment(segment)) if segment.starts_with(rest) => {
                    self.sweep_dir(&path, &format!("{base}{segment}/"), "", keep)?;
                }
                Some(Entry::Object(leaf)) if swept(leaf) => {
                    self.sweep_entry(&path, &format!("{base}{leaf}"))?;
                }
                Some(Entry::Upload(leaf)) if swept(leaf) => {
                    self.sweep_entry(&path, &format!("{base}{leaf}"))?;
                }
                Some(Entry::Waste(leaf)) if leaf.starts_with(rest) => {
                    self.sweep_entry(&path, &format!("{base}{leaf}"))?;
                }
                _ => {}
            }
        }
        missing_is_fine(sync_dir(dir))?;
        self.prune(dir);
        Ok(())
    }

    fn sweep_entry(&self, path: &Path, key: &str) -> io::Result<()> {
        match ObjectKey::parse(key) {
            Some(key) => self.remove(&self.place(&key), path),
            // Not ours.
            None => Ok(()),
        }
    }
}

/// The file names of `parts`, which must all be in `dir` as they were named, and the index that names them.
fn check_parts(dir: &Path, parts: &[Part]) -> Result<(HashSet<String>, String), StoreError> {
    let invalid = || StoreError::new(StoreErrorKind::InvalidPart, "complete");
    let mut names = HashSet::new();
    let mut index = String::with_capacity(parts.len() * layout::LINE);
    let mut end = 0_u64;
    for part in parts {
        let name = layout::part(part.number, &part.etag).ok_or_else(invalid)?;
        match fs::metadata(dir.join(&name)) {
            Ok(metadata) if metadata.len() == part.length => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("complete", error));
            }
            Ok(_) | Err(_) => return Err(invalid()),
        }
        end += part.length;
        index.push_str(&layout::line(&name, end));
        names.insert(name);
    }
    Ok((names, index))
}

/// Removes the parts in `object` that `names` doesn't have.
fn remove_others(object: &Path, names: &HashSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(object)? {
        let entry = entry?;
        let name = entry.file_name();
        let named = name
            .to_str()
            .is_some_and(|name| name == INDEX || names.contains(name));
        if !named {
            missing_is_fine(fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}
