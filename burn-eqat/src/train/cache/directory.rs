//! The directory of the files on disk, and those in it that a killed process left.

use crate::files::{FileError, check_room};
use crate::train::TrainError;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// What the names of all cache files begin and end with.
const PREFIX: &str = "burn-eqat-cache-";
const SUFFIX: &str = ".tmp";

/// A directory of cache files.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// Opens a directory, which is made where there is none, and deletes the files in it that nobody holds.
    pub fn open(path: PathBuf) -> Result<Self, TrainError> {
        fs::create_dir_all(&path).map_err(io_error(&path))?;
        delete_stale(&path);
        Ok(Self(path))
    }

    /// Fails where files of so many bytes do not fit.
    pub fn check_room(&self, bytes: u64) -> Result<(), TrainError> {
        check_room(&self.0.join(PREFIX), bytes).map_err(|error| {
            let message = match error {
                FileError::NoRoom { needed, free, .. } => {
                    format!("needs {needed} bytes, and the file system has {free} bytes free")
                }
                FileError::Io { error, .. } => error.to_string(),
                other => other.to_string(),
            };
            let path = self.0.clone();
            TrainError::Cache { path, message }
        })
    }

    /// An empty file that is deleted when it is dropped.
    pub fn new_file(&self) -> Result<NamedTempFile, TrainError> {
        let file = tempfile::Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            .tempfile_in(&self.0)
            .map_err(io_error(&self.0))?;
        // Held for as long as the file is open; whoever can have it knows that this process is gone. File systems
        // without locks let nobody have it, so nothing is deleted there.
        let _ = file.as_file().lock();
        Ok(file)
    }
}

/// Deletes cache files that no process holds. Another that makes one at this very moment may lose its name, which on Unix
/// does it no harm: an open file stays until it is closed.
fn delete_stale(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // No links, and no pipes, which would not open.
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !(is_file && name.starts_with(PREFIX) && name.ends_with(SUFFIX)) {
            continue;
        }
        let path = entry.path();
        if let Ok(file) = File::open(&path)
            && file.try_lock().is_ok()
        {
            // It may be another user's, and then it is not ours to delete.
            let _ = fs::remove_file(&path);
        }
    }
}

/// An error of the operating system at a file of the cache.
pub(super) fn io_error(path: &Path) -> impl Fn(std::io::Error) -> TrainError + '_ {
    move |error| TrainError::Cache {
        path: path.to_path_buf(),
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below");
        let held = Directory::open(path.clone()).unwrap().new_file().unwrap();
        let (_, stale) = Directory(path.clone()).new_file().unwrap().keep().unwrap();
        let other = path.join("model.safetensors");
        fs::write(&other, "").unwrap();
        Directory::open(path.clone()).unwrap();
        assert!(held.path().exists() && other.exists());
        assert!(!stale.exists());
        drop(held);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_cannot_be_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Directory::open(file.join("below")).unwrap_err();
        assert!(matches!(error, TrainError::Cache { path, .. } if path.starts_with(&file)));
        #[cfg(unix)]
        {
            let directory = Directory::open(dir.path().to_path_buf()).unwrap();
            let error = directory.check_room(u64::MAX).unwrap_err().to_string();
            assert!(error.contains("needs 18446744073709551615"), "{error}");
        }
    }
}
