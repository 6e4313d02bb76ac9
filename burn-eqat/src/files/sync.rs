//! Syncs files and directories to the disk.

use super::error::FileError;
use std::fs::{self, File};
use std::path::Path;

/// Waits until a directory and all its files are on the disk.
pub(super) fn sync_files(dir: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(dir).map_err(FileError::io(dir))? {
        let path = entry.map_err(FileError::io(dir))?.path();
        if path.is_file() {
            sync_file(&path)?;
        }
    }
    sync_dir(dir)
}

/// Waits until a file is on the disk.
pub(crate) fn sync_file(path: &Path) -> Result<(), FileError> {
    let file = File::options().write(true).open(path);
    let synced = file.and_then(|file| file.sync_all());
    synced.map_err(FileError::io(path))
}

/// Waits until the names in a directory are on the disk.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), FileError> {
    // Elsewhere a directory cannot be opened as a file.
    if cfg!(unix) {
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(FileError::io(dir))?;
    }
    Ok(())
}
