use crate::ConfigError;
use burn_eqat::QuantizeError;
use burn_eqat::files::FileError;
use burn_eqat::lm::LmError;
use burn_eqat::train::TrainError;
use std::path::{Path, PathBuf};

/// What can go wrong between the command line and the model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A checkpoint directory.
    #[error("{0}{hint}", hint = hint(.0))]
    File(#[from] FileError),
    /// A `config.json` that no Llama can be built from.
    #[error("{path}: {error}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: ConfigError,
    },
    /// A model that cannot be quantized as asked.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// A file that does not hold what it should.
    #[error("{path}: {message}")]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A text, tokens, or a model that ran into something on them.
    #[error(transparent)]
    Lm(LmError),
    /// A model that has no lossless form in GGUF.
    #[error(transparent)]
    Gguf(#[from] crate::export::GgufError),
    /// A plot of a report.
    #[error("cannot draw the plot \"{plot}\": {message}")]
    Plot {
        /// What it shows.
        plot: String,
        /// What is wrong.
        message: String,
    },
    /// A setting that makes no sense.
    #[error("{0}")]
    Setting(String),
    /// Training that could not go on.
    #[error(transparent)]
    Train(TrainError),
    /// A model that could not be saved where it should be, and is elsewhere.
    #[error("{error}; the model was saved to {path} instead")]
    Rescued {
        /// Why it is not where it should be.
        #[source]
        error: Box<Error>,
        /// Where it is.
        path: PathBuf,
    },
    /// Interrupted from the keyboard, or asked to end by the system.
    #[error("interrupted")]
    Interrupted,
}

/// What the command line has to offer for an error of the library.
fn hint(error: &FileError) -> &'static str {
    match error {
        FileError::NotEmpty { .. } => " (replace it with --force)",
        _ => "",
    }
}

impl Error {
    /// Adds the path to an error of the operating system.
    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |error| Error::input(path, error)
    }

    /// A file that does not hold what it should.
    pub(crate) fn input(path: &Path, message: impl ToString) -> Self {
        Error::Input {
            path: path.to_path_buf(),
            message: message.to_string(),
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
            TrainError::Callback(error) => match error.downcast::<Error>() {
                Ok(error) => *error,
                Err(error) => Error::Train(TrainError::Callback(error)),
            },
            error => Error::Train(error),
        }
    }
}
