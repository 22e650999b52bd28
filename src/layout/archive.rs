//! Tar archives of layouts.

use std::{
    collections::HashMap,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use tempfile::NamedTempFile;

use super::{INDEX, LayoutError, MARK};

/// Where each file of an archive lies: its first byte, its length. Of two with one name the later one counts.
pub(super) fn files(archive: &File) -> io::Result<HashMap<String, (u64, u64)>> {
    let mut files = HashMap::new();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path()?;
        let Some(name) = path.to_str() else { continue };
        let name = name.strip_prefix("./").unwrap_or(name).to_owned();
        files.insert(name, (entry.raw_file_position(), entry.size()));
    }
    Ok(files)
}

/// Makes `archive` of the layout in `folder`: what says that it is one comes first, so that it can be read as a stream. It is there
/// once it is whole. Blocks.
///
/// # Errors
/// [`LayoutError`].
pub fn pack(folder: &Path, archive: &Path) -> Result<(), LayoutError> {
    let packed = draft(archive).and_then(|draft| {
        write(folder, draft.as_file())?;
        Ok(draft.persist(archive)?)
    });
    packed
        .map(drop)
        .map_err(|error| LayoutError::file(archive, error))
}

/// A file beside `archive` that nobody else has, and that goes when it doesn't become one.
fn draft(archive: &Path) -> io::Result<NamedTempFile> {
    let beside = archive.parent().filter(|folder| !folder.as_os_str().is_empty());
    tempfile::Builder::new()
        .suffix(".tar.unfinished")
        // As of any file: the process's mask says what is left of it.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(beside.unwrap_or(Path::new(".")))
}

fn write(folder: &Path, archive: &File) -> io::Result<()> {
    let mut builder = tar::Builder::new(io::BufWriter::new(archive));
    builder.mode(tar::HeaderMode::Deterministic);
    for name in [MARK, INDEX] {
        builder.append_path_with_name(folder.join(name), name)?;
    }
    let blobs = folder.join("blobs");
    for algorithm in sorted(&blobs)? {
        for hex in sorted(&blobs.join(&algorithm))? {
            let name = format!("blobs/{algorithm}/{hex}");
            builder.append_path_with_name(folder.join(&name), &name)?;
        }
    }
    let file = builder.into_inner()?;
    file.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

fn sorted(folder: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
