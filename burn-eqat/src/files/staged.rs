use super::error::FileError;
use super::replaceable::checkpoint_files;
use super::room::parent_of;
use super::sync::{sync_dir, sync_files};
use std::fs;
use std::path::{Path, PathBuf};

/// A directory that appears complete or not at all. It is filled under a temporary name, and then renamed.
///
/// ```
/// use burn_eqat::files::StagedDir;
/// use std::fs;
///
/// # let parent = tempfile::tempdir()?;
/// # let dir = parent.path().join("model");
/// let staged = StagedDir::begin(&dir, false)?;
/// fs::write(staged.path().join("config.json"), "{}")?;
/// assert!(!dir.exists());
/// staged.commit()?;
/// assert!(dir.join("config.json").exists());
/// // It is not empty now.
/// assert!(StagedDir::check(&dir, false).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StagedDir {
    target: PathBuf,
    force: bool,
    staging: tempfile::TempDir,
}

impl StagedDir {
    /// Checks that a directory may be written at `target`, without writing anything. With `force`, an
    /// existing directory may be replaced if all its files belong to a checkpoint.
    ///
    /// # Errors
    ///
    /// When `target` is a file, or a directory that is not empty. With `force`, when the directory has anything
    /// that does not belong to a checkpoint.
    pub fn check(target: &Path, force: bool) -> Result<(), FileError> {
        match fs::read_dir(target) {
            Ok(_) if force => checkpoint_files(target).map(drop),
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

    /// Begins a directory for `target`. With `force`, an existing checkpoint is replaced.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check), or when the parent directory cannot be written.
    pub fn begin(target: &Path, force: bool) -> Result<Self, FileError> {
        Self::check(target, force)?;
        // Use the real name: `.` cannot be renamed, and renaming would replace a link by its target.
        let target = &fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf());
        let parent = parent_of(target);
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

    /// Moves the finished directory to its target, once all of it is on the disk.
    ///
    /// # Errors
    ///
    /// When it cannot be renamed. The target is unchanged then.
    pub fn commit(self) -> Result<(), FileError> {
        sync_files(self.staging.path())?;
        let target = self.target.clone();
        if !target.exists() {
            self.publish().map_err(FileError::io(&target))?;
            return sync_dir(parent_of(&target));
        }
        // Two renames: the old directory is moved aside, and moved back if anything fails. Its contents are
        // checked when nobody can add anything to it any more.
        Self::check(&target, self.force)?;
        let aside = self.staging.path().with_extension("old");
        fs::rename(&target, &aside).map_err(FileError::io(&target))?;
        let published = checkpoint_files(&aside)
            .and_then(|old| self.publish().map(|()| old).map_err(FileError::io(&target)));
        match published {
            Ok(old) => {
                sync_dir(parent_of(&target))?;
                // The new directory is in place; failing to remove the old one is not an error.
                let _ = old.into_iter().try_for_each(fs::remove_file);
                let _ = fs::remove_dir(&aside);
                Ok(())
            }
            Err(error) => {
                let _ = fs::rename(&aside, &target);
                Err(error)
            }
        }
    }

    fn publish(self) -> std::io::Result<()> {
        // A temporary directory is private; a finished one gets the usual permissions.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(self.staging.path(), fs::Permissions::from_mode(0o755))?;
        }
        fs::rename(self.staging.path(), &self.target)?;
        // It was renamed, so there is nothing left to remove.
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
        fs::write(target.join("config.json"), "1").unwrap();
        let error = StagedDir::begin(&target, false).unwrap_err();
        assert!(error.to_string().contains("not empty"), "{error}");

        let staged = StagedDir::begin(&target, true).unwrap();
        assert!(target.join("config.json").exists());
        staged.commit().unwrap();
        assert!(target.exists() && !target.join("config.json").exists());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_a_checkpoint_is_never_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("model");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("config.json"), "1").unwrap();
        // It comes while the new one is being made.
        let staged = StagedDir::begin(&target, true).unwrap();
        fs::write(target.join("thesis.tex"), "mine").unwrap();
        let error = staged.commit().unwrap_err();
        assert!(error.to_string().contains("thesis.tex"), "{error}");
        let error = StagedDir::begin(&target, true).unwrap_err();
        assert!(error.to_string().contains("thesis.tex"), "{error}");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 2);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_no_directory() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("model");
        fs::write(&target, "mine").unwrap();
        assert!(StagedDir::begin(&target, false).is_err());
        assert!(StagedDir::begin(&target, true).is_err());
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    }
}
