//! Saves a model elsewhere if its target cannot be written, so that hours of work are not lost.

use crate::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Saves to a target. If that fails, saves beside it, at `<target>.rescued`, and then returns the error. `save` gets
/// the path, and whether it may replace a checkpoint there.
///
/// # Errors
///
/// As `save`. [`Error::Rescued`] says where the model is instead.
pub(crate) fn save_or_rescue(
    target: &Path,
    force: bool,
    save: impl Fn(&Path, bool) -> Result<(), Error>,
) -> Result<(), Error> {
    let Err(error) = save(target, force) else {
        return Ok(());
    };
    let Some(path) = rescue_path(target) else {
        return Err(error);
    };
    match save(&path, false) {
        Ok(()) => Err(Error::Rescued {
            error: Box::new(error),
            path,
        }),
        Err(_) => Err(error),
    }
}

/// The first of `<target>.rescued`, `<target>.rescued-2` and so on that is free.
fn rescue_path(target: &Path) -> Option<PathBuf> {
    let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf());
    let name = target.file_name()?.to_string_lossy().into_owned();
    let names = (1..100).map(|attempt| match attempt {
        1 => format!("{name}.rescued"),
        _ => format!("{name}.rescued-{attempt}"),
    });
    let mut paths = names.map(|name| target.with_file_name(name));
    paths.find(|path| !path.exists())
}
