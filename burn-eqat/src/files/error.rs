use std::path::{Path, PathBuf};

/// A file or directory of a model that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("{path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        error: std::io::Error,
    },
    /// A file that does not hold what it should.
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
        /// The tensor, as the file names it.
        tensor: String,
        /// What is wrong with it.
        message: String,
    },
    /// The output directory holds something already.
    #[error("{path}: the directory exists and is not empty")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The output directory holds something that is not part of a checkpoint, and is not replaced.
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
    /// There is not enough room on the disk.
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

    /// A file that does not hold what it should.
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
