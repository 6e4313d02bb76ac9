use crate::ConfigError;
use crate::model::LlamaError;
use burn_eqat::adapter::AdapterError;
use burn_eqat::files::FileError;
use burn_eqat::lm::LmError;
use burn_eqat::train::TrainError;
use burn_eqat::{ComputeTypeError, QuantizeError, RunDirError};
use std::path::{Path, PathBuf};

/// An error of the command line or the model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A checkpoint directory.
    #[error("{0}{hint}", hint = hint(.0))]
    File(#[from] FileError),
    /// A `config.json` does not describe a supported Llama.
    #[error("{path}: {error}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: ConfigError,
    },
    /// A model cannot be quantized as requested.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// A file has wrong contents.
    #[error("{path}: {message}")]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// An error of text, tokens or a language model.
    #[error(transparent)]
    Lm(LmError),
    /// A model that cannot be run as asked.
    #[error(transparent)]
    Model(LlamaError),
    /// A model has no lossless form in GGUF.
    #[error(transparent)]
    Gguf(#[from] crate::export::GgufError),
    /// A set of step sizes.
    #[error(transparent)]
    Adapter(AdapterError),
    /// A run directory.
    #[error("{0}{hint}", hint = run_hint(.0))]
    Run(#[from] RunDirError),
    /// A plot of a report.
    #[error("cannot draw the plot \"{plot}\": {message}")]
    Plot {
        /// What it shows.
        plot: String,
        /// What is wrong.
        message: String,
    },
    /// A compute type that the device does not have.
    #[error("--dtype: {0}")]
    ComputeType(#[from] ComputeTypeError),
    /// A run that does not fit on the machine.
    #[error("{0} (begin all the same with --ignore-plan)")]
    Lacking(#[from] crate::plan::Lacking),
    /// A setting that makes no sense.
    #[error("{0}")]
    Setting(String),
    /// An error that stopped training.
    #[error(transparent)]
    Train(TrainError),
    /// A model could not be saved to its target, and was saved elsewhere.
    #[error("{error}; the model was saved to {path} instead")]
    Rescued {
        /// Why it could not be saved to its target.
        #[source]
        error: Box<Error>,
        /// Where it is.
        path: PathBuf,
    },
    /// Interrupted by Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

/// A hint of the command line for an error of the library.
fn hint(error: &FileError) -> &'static str {
    match error {
        FileError::NotEmpty { .. } => " (replace it with --force)",
        _ => "",
    }
}

/// What the command line has to offer for an error of a run directory.
fn run_hint(error: &RunDirError) -> &'static str {
    match error {
        RunDirError::Exists { .. } => " (go on with --resume, or begin anew with --force)",
        _ => "",
    }
}

impl Error {
    /// Adds the path to an error of the operating system.
    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |error| Error::input(path, error)
    }

    /// An error for a file with wrong contents.
    pub(crate) fn input(path: &Path, message: impl ToString) -> Self {
        Error::Input {
            path: path.to_path_buf(),
            message: message.to_string(),
        }
    }
}

impl From<LlamaError> for Error {
    fn from(error: LlamaError) -> Self {
        match error {
            LlamaError::File(error) => Error::File(error),
            error => Error::Model(error),
        }
    }
}

impl From<AdapterError> for Error {
    fn from(error: AdapterError) -> Self {
        match error {
            AdapterError::File(error) => Error::File(error),
            error => Error::Adapter(error),
        }
    }
}

impl From<LmError> for Error {
    fn from(error: LmError) -> Self {
        match error {
            LmError::File(error) => Error::File(error),
            LmError::Interrupted => Error::Interrupted,
            error => Error::Lm(error),
        }
    }
}

impl From<TrainError> for Error {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Interrupted => Error::Interrupted,
            TrainError::RunDir(error) => Error::Run(error),
            TrainError::Callback(error) => match error.downcast::<Error>() {
                Ok(error) => *error,
                Err(error) => Error::Train(TrainError::Callback(error)),
            },
            error => Error::Train(error),
        }
    }
}
