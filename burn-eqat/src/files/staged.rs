use super::FileError;
use std::fs;
use std::path::{Path, PathBuf};

/// A directory that appears whole or not at all: it is filled beside its place and renamed into it.
#[derive(Debug)]
pub struct StagedDir {
    target: PathBuf,
    force: bool,
    staging: tempfile::TempDir,
}

impl StagedDir {
    /// Checks that a directory may be written at `target`, without writing anything.
    ///
    /// # Errors
    ///
    /// When it exists and is not an empty directory, unless `force` is set.
    pub fn check(target: &Path, force: bool) -> Result<(), FileError> {
        if force && (!target.exists() || target.is_dir()) {
            return Ok(());
        }
        match fs::read_dir(target) {
            Ok(mut entries) => match entries.next() {
                None => Ok(()),
                Some(_) => Err(FileError::NotEmpty {
                    path: target.to_path_buf(),
                }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(FileError::io(target)(error)),
        }
    }

    /// Begins a directory that will be at `target`; with `force`, one that is there is replaced.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check), or when its parent cannot be written.
    pub fn begin(target: &Path, force: bool) -> Result<Self, FileError> {
        Self::check(target, force)?;
        // By its real name: `.` cannot be renamed, and a link would be replaced by what it points to.
        let target = &fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf());
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(FileError::io(parent))?;
        let staging = tempfile::Builder::new()
            .prefix(".eqat-")
            .tempdir_in(parent)
            .map_err(FileError::io(parent))?;
        Ok(Self {
            target: target.to_path_buf(),
            force,
            staging,
        })
    }

    /// Where to write for now.
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Moves the finished directory to its place.
    ///
    /// # Errors
    ///
    /// When it cannot be renamed; what was at the target is still there then.
    pub fn commit(self) -> Result<(), FileError> {
        let target = self.target.clone();
        let error = FileError::io(&target);
        if !self.target.exists() {
            return self.publish().map_err(error);
        }
        Self::check(&self.target, self.force)?;
        // Two renames: the old directory steps aside and comes back should the new one fail.
        let aside = self.staging.path().with_extension("old");
        fs::rename(&self.target, &aside).map_err(FileError::io(&target))?;
        match self.publish() {
            Ok(()) => {
                // The new directory is in place; an old one that cannot go is no failure.
                let _ = fs::remove_dir_all(&aside);
                Ok(())
            }
            Err(failure) => {
                let _ = fs::rename(&aside, &target);
                Err(error(failure))
            }
        }
    }

    fn publish(self) -> std::io::Result<()> {
        // A temporary directory is private to its owner; a finished one is like any other.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(self.staging.path(), fs::Permissions::from_mode(0o755))?;
        }
        fs::rename(self.staging.path(), &self.target)?;
        // Renamed away: there is nothing left to remove.
        let _ = self.staging.keep();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appears_whole_or_not_at_all() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("model");
        let staged = StagedDir::begin(&target, false).unwrap();
        fs::write(staged.path().join("a"), "1").unwrap();
        assert!(!target.exists());
        staged.commit().unwrap();
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "1");

        drop(StagedDir::begin(&parent.path().join("never"), false).unwrap());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_there_is_kept_unless_forced() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("model");
        fs::create_dir(&target).unwrap();
        StagedDir::begin(&target, false).unwrap().commit().unwrap();
        fs::write(target.join("mine"), "1").unwrap();
        let error = StagedDir::begin(&target, false).unwrap_err();
        assert!(error.to_string().contains("not empty"), "{error}");

        let staged = StagedDir::begin(&target, true).unwrap();
        assert!(target.join("mine").exists());
        staged.commit().unwrap();
        assert!(target.exists() && !target.join("mine").exists());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_no_directory() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("model");
        fs::write(&target, "mine").unwrap();
        assert!(StagedDir::begin(&target, false).is_err());
        assert!(StagedDir::begin(&target, true).is_err());
    }
}
