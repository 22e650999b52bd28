//! Tar archives of layouts.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::Path,
};

use super::{INDEX, LayoutError, MARK, UNFINISHED};

/// What an archive is called in [`UNFINISHED`].
const DRAFT: &str = "archive.tar";

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
/// once it is whole; a draft that was left when a former process was ended is written anew. Blocks.
///
/// # Errors
/// [`LayoutError`].
pub fn pack(folder: &Path, archive: &Path) -> Result<(), LayoutError> {
    let unfinished = folder.join(UNFINISHED);
    let draft = unfinished.join(DRAFT);
    let packed = fs::create_dir_all(&unfinished)
        .and_then(|()| write(folder, &File::create(&draft)?))
        .and_then(|()| fs::rename(&draft, archive))
        .and_then(|()| fs::remove_dir_all(&unfinished));
    packed.map_err(|error| LayoutError::file(archive, error))
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
