//! What this user may do with files and folders, asked without doing it.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
};

use nix::unistd::{AccessFlags, access};

/// Whether files can be made in a folder.
///
/// # Errors
/// As the system says; [`io::ErrorKind::NotFound`] where there is no such folder.
pub fn may_make_in(folder: &Path) -> io::Result<()> {
    // A relative path of one part is in the working directory.
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    if !fs::metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    access(folder, AccessFlags::W_OK | AccessFlags::X_OK).map_err(Into::into)
}

/// Whether a folder is there and files can be made in it, or it can be made with those above it.
///
/// # Errors
/// As the system says.
pub fn may_make(folder: &Path) -> io::Result<()> {
    match folder.try_exists()? {
        true => may_make_in(folder),
        false => match folder.ancestors().skip(1).find(|above| above.exists()) {
            Some(nearest) => may_make_in(nearest),
            None => may_make_in(Path::new("")),
        },
    }
}

/// Whether a file can be appended to, or made where it isn't there.
///
/// # Errors
/// As the system says.
pub fn may_append(file: &Path) -> io::Result<()> {
    match OpenOptions::new().append(true).open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            may_make_in(file.parent().unwrap_or(Path::new("")))
        }
        opened => opened.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_made_isnt() {
        let folder = tempfile::tempdir().unwrap();
        let (file, deep) = (folder.path().join("log"), folder.path().join("a/b/c"));
        may_append(&file).unwrap();
        may_make(&deep).unwrap();
        may_make(Path::new("no-such-folder-here")).unwrap();
        assert!(!file.exists() && !deep.exists());
        let kind = |result: io::Result<()>| result.map_err(|error| error.kind());
        assert_eq!(kind(may_append(&deep)), Err(io::ErrorKind::NotFound));
        fs::write(&file, "").unwrap();
        may_append(&file).unwrap();
        assert_eq!(
            kind(may_make(&file.join("below"))),
            Err(io::ErrorKind::NotADirectory)
        );
        assert_eq!(
            kind(may_append(&file.join("below"))),
            Err(io::ErrorKind::NotADirectory)
        );
        assert_eq!(kind(may_make_in(&file)), Err(io::ErrorKind::NotADirectory));
    }
}
