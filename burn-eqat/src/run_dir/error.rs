use crate::files::FileError;
use std::path::PathBuf;

/// A run directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// A run that was to begin is there already.
    #[error("{path}: holds a run already")]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// There is no run to go on with.
    #[error("{path}: holds no run: expected a directory in which a run was begun")]
    NoRun {
        /// The directory.
        path: PathBuf,
    },
    /// Another process uses it.
    #[error("{path}: another process uses this run")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A setting, the model or the data is not that of the run.
    #[error("{path}: {setting} is {now}, but the run began with {run}")]
    Differs {
        /// The directory.
        path: PathBuf,
        /// What differs, such as `block_ap.epochs`.
        setting: String,
        /// The value that the run began with.
        run: String,
        /// The value now.
        now: String,
    },
    /// A file of the run has changed since it was written.
    #[error("{path}: {message}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what can be done.
        message: &'static str,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}
