use crate::ConfigError;
use burn_eqat::QuantizeError;
use burn_eqat::files::FileError;
use std::path::{Path, PathBuf};

/// What can go wrong between the command line and the model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A checkpoint directory.
    #[error(transparent)]
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
    /// A text, token or choices file.
    #[error("{path}: {message}")]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A token that the model has no embedding for.
    #[error(
        "{source_name}: token {token} at position {position} of window {window} is outside the \
         vocabulary of {vocab_size}"
    )]
    Token {
        /// Where the token is from.
        source_name: String,
        /// The token.
        token: i64,
        /// Its window.
        window: usize,
        /// Its place in the window.
        position: usize,
        /// How many tokens the model has.
        vocab_size: usize,
    },
    /// The tokenizer refused.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A model that has no lossless form in GGUF.
    #[error(transparent)]
    Gguf(#[from] crate::export::GgufError),
    /// A setting that makes no sense.
    #[error("{0}")]
    Setting(String),
    /// Training that could not go on.
    #[error(transparent)]
    Train(#[from] burn_eqat::train::TrainError),
    /// Interrupted from the keyboard.
    #[error("interrupted")]
    Interrupted,
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
