use std::path::{Path, PathBuf};

/// A checkpoint directory that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system says no.
    #[error("{path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it says.
        #[source]
        error: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{path}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The tensors of a checkpoint are not those of the model.
    #[error("{path}: tensor {tensor}: {message}")]
    Tensor {
        /// The directory.
        path: PathBuf,
        /// The tensor, as the files name it.
        tensor: String,
        /// What is wrong with it.
        message: String,
    },
    /// The output directory holds something already.
    #[error("{path}: the directory exists and is not empty (overwrite it with --force)")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
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

    /// A file that is not what its name says.
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
