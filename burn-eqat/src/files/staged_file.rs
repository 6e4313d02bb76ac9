use super::error::FileError;
use super::room::parent_of;
use super::sync::sync_dir;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A file that appears whole or not at all: it is written beside its place and renamed into it.
#[derive(Debug)]
pub struct StagedFile {
    target: PathBuf,
    staging: tempfile::NamedTempFile,
}

impl StagedFile {
    /// Begins a file that will be at `target`; one that is there is replaced when the new one is whole.
    ///
    /// # Errors
    ///
    /// When the directory that it is in cannot be written.
    pub fn begin(target: &Path) -> Result<Self, FileError> {
        let parent = parent_of(target);
        let staging = tempfile::Builder::new()
            .prefix(".eqat-")
            .tempfile_in(parent)
            .map_err(FileError::io(parent))?;
        Ok(Self {
            target: target.to_path_buf(),
            staging,
        })
    }

    /// Where the file is for now.
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// The file for now.
    pub fn file(&mut self) -> &mut File {
        self.staging.as_file_mut()
    }

    /// Moves the finished file to its place, once all of it is on the disk.
    ///
    /// # Errors
    ///
    /// When it cannot be renamed; what was at the target is still there then.
    pub fn commit(self) -> Result<(), FileError> {
        let io = || FileError::io(&self.target);
        // By its name: a writer may have put another file there.
        let path = self.staging.into_temp_path();
        let written = File::options().write(true).open(&path);
        written.and_then(|file| file.sync_all()).map_err(io())?;
        // A temporary file is private to its owner; a finished one is like any other.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let readable = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(&path, readable).map_err(io())?;
        }
        let persisted = path.persist(&self.target);
        persisted.map_err(|error| io()(error.error))?;
        sync_dir(parent_of(&self.target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("model.safetensors");
        fs::write(&target, "old").unwrap();
        let mut staged = StagedFile::begin(&target).unwrap();
        staged.file().write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        staged.commit().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        drop(StagedFile::begin(&target).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
