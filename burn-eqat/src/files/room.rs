//! Checks early whether a file or directory can be written.

use super::error::FileError;
use std::path::{Path, PathBuf};

/// The parent directory of a path.
pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Checks that a file or directory of `bytes` can be written at `target`: that its parent directory is writable and
/// has enough space. Leaves nothing behind. Checks space on Unix only.
///
/// ```
/// use burn_eqat::files::{FileError, check_room};
///
/// # let parent = tempfile::tempdir()?;
/// # let target = parent.path().join("model");
/// check_room(&target, 1000)?;
/// # #[cfg(unix)]
/// assert!(matches!(check_room(&target, u64::MAX), Err(FileError::NoRoom { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When the parent directory is not writable, or does not have enough space.
pub fn check_room(target: &Path, bytes: u64) -> Result<(), FileError> {
    let parent = existing(parent_of(target));
    tempfile::Builder::new()
        .prefix(".eqat-")
        .tempfile_in(&parent)
        .map_err(FileError::io(&parent))?;
    match free_bytes(&parent) {
        Some(free) if free < bytes => Err(FileError::NoRoom {
            path: target.to_path_buf(),
            needed: bytes,
            free,
        }),
        _ => Ok(()),
    }
}

/// The nearest existing parent directory.
fn existing(path: &Path) -> PathBuf {
    let above = path.ancestors().find(|path| path.is_dir());
    let above = above.filter(|path| !path.as_os_str().is_empty());
    above.unwrap_or(Path::new(".")).to_path_buf()
}

/// The bytes that this process may still write there; `None` if unknown.
#[cfg(unix)]
fn free_bytes(dir: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(dir).ok()?;
    system.f_bavail.checked_mul(system.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_dir: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn room_is_looked_for_where_the_result_will_be() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("not/there/yet");
        check_room(&target, 1).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        #[cfg(unix)]
        {
            let error = check_room(&target, u64::MAX).unwrap_err().to_string();
            assert!(
                error.contains("there/yet: needs 18446744073709551615"),
                "{error}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_cannot_be_written_is_an_error() {
        // Not even root may write there.
        let error = check_room(Path::new("/proc/model"), 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("/proc"), "{error}");
    }
}
