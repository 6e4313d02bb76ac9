use super::error::FileError;
use super::room::parent_of;
use super::sync::sync_dir;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A file that appears complete or not at all. It is written under a temporary name, and then renamed.
///
/// ```
/// use burn_eqat::files::StagedFile;
/// use std::io::Write;
///
/// # let parent = tempfile::tempdir()?;
/// # let target = parent.path().join("report.json");
/// let mut staged = StagedFile::begin(&target)?;
/// staged.file().write_all(b"{}")?;
/// assert!(!target.exists());
/// staged.commit()?;
/// assert_eq!(std::fs::read_to_string(&target)?, "{}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StagedFile {
    target: PathBuf,
    staging: tempfile::NamedTempFile,
}

impl StagedFile {
    /// Begins a file for `target`. An existing file is replaced once the new one is complete.
    ///
    /// # Errors
    ///
    /// When the parent directory cannot be written.
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

    /// The temporary path of the file.
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// The file for now.
    pub fn file(&mut self) -> &mut File {
        self.staging.as_file_mut()
    }

    /// Moves the finished file to its target, once all of it is on the disk.
    ///
    /// # Errors
    ///
    /// When it cannot be renamed. The target is unchanged then.
    pub fn commit(self) -> Result<(), FileError> {
        let io = || FileError::io(&self.target);
        // Use the name: a writer may have replaced the file.
        let path = self.staging.into_temp_path();
        let written = File::options().write(true).open(&path);
        written.and_then(|file| file.sync_all()).map_err(io())?;
        // A temporary file is private; a finished one gets the usual permissions.
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
