use std::path::{Path, PathBuf};

/// A file or directory of a model cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// An error of the operating system.
    #[error("{path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error.
        #[source]
        error: std::io::Error,
    },
    /// A file has wrong contents.
    #[error("{path}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The tensors of a file are not those of the model.
    #[error("{path}: tensor {tensor}: {message}")]
    Tensor {
        /// The file or directory.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// What is wrong with it.
        message: String,
    },
    /// The output directory is not empty.
    #[error("{path}: the directory exists and is not empty")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The output directory has something that is not part of a checkpoint, so it is not replaced.
    #[error(
        "{path}: holds {entry:?}, which is not part of a checkpoint: expected a directory of \
         checkpoint files only, or none"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Name of the first such file or folder.
        entry: String,
    },
    /// There is not enough space on the disk.
    #[error("{path}: needs {needed} bytes, and the file system has {free} bytes free")]
    NoRoom {
        /// The file or directory that was to be written.
        path: PathBuf,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
}

impl FileError {
    /// Adds the path to an error of the operating system.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |error| FileError::Io {
            path: path.to_path_buf(),
            error,
        }
    }

    /// An error for a file with wrong contents.
    pub fn invalid(path: &Path, message: impl ToString) -> Self {
        FileError::Invalid {
            path: path.to_path_buf(),
            message: message.to_string(),
        }
    }

    pub(crate) fn tensor(path: &Path, tensor: &str, message: impl Into<String>) -> Self {
        FileError::Tensor {
            path: path.to_path_buf(),
            tensor: tensor.to_string(),
            message: message.into(),
        }
    }
}
