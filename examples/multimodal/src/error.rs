use crate::config::ConfigError;
use crate::model::MultimodalError;
use burn::data::dataset::DatasetError;
use burn_eqat::files::FileError;
use burn_eqat::lm::LmError;
use burn_eqat::train::TrainError;
use burn_eqat::{QuantizeError, SchemeError};
use std::path::{Path, PathBuf};

/// An error of the command line or the model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A checkpoint directory, or a file of it.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file does not describe what is supported.
    #[error("{path}: {error}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: ConfigError,
    },
    /// An image, a sound or a file has wrong contents.
    #[error("{path}: {message}")]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A setting that makes no sense.
    #[error("{0}")]
    Setting(String),
    /// A model that cannot be run as asked.
    #[error(transparent)]
    Model(#[from] MultimodalError),
    /// The decoder: its tokenizer or template.
    #[error(transparent)]
    Llama(#[from] llama::Error),
    /// Text or tokens.
    #[error(transparent)]
    Lm(#[from] LmError),
    /// A scheme that there is not.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    /// A model cannot be quantized as asked.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// An error that stopped training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Data could not be loaded.
    #[error(transparent)]
    Data(#[from] DatasetError),
}

impl Error {
    /// An error for a file with wrong contents.
    pub(crate) fn input(path: &Path, message: impl ToString) -> Self {
        Error::Input {
            path: path.to_path_buf(),
            message: message.to_string(),
        }
    }

    /// An error for a file that describes something else.
    pub(crate) fn config(path: &Path) -> impl FnOnce(ConfigError) -> Self + '_ {
        move |error| Error::Config {
            path: path.to_path_buf(),
            error,
        }
    }
}
