use crate::files::FileError;

pub use crate::train::ModelError;

/// An error of text, tokens or a language model.
#[derive(Debug, thiserror::Error)]
pub enum LmError {
    /// A file cannot be read, or has wrong contents.
    #[error(transparent)]
    File(#[from] FileError),
    /// A token is outside the model's vocabulary.
    #[error(
        "{origin}: token {token} at position {position} of window {window} is outside the \
         vocabulary of {vocab_size}"
    )]
    Token {
        /// Where the token is from.
        origin: String,
        /// The token.
        token: i64,
        /// Its window.
        window: usize,
        /// Its position in the window.
        position: usize,
        /// The size of the vocabulary.
        vocab_size: usize,
    },
    /// The tokenizer failed.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A text is too short to be split.
    #[error("holds {found} windows of {seq_len} tokens, expected {expected} or more")]
    TooFewWindows {
        /// The number of windows.
        found: usize,
        /// Tokens of a window.
        seq_len: usize,
        /// The smallest number that is enough.
        expected: usize,
    },
    /// Windows are too short for a prediction.
    #[error("windows have {seq_len} tokens, expected 2 or more")]
    ShortWindows {
        /// Tokens of a window.
        seq_len: usize,
    },
    /// A prompt is empty, or longer than the model's positions.
    #[error("the prompt has {tokens} tokens, expected 1 to {limit}")]
    Prompt {
        /// Tokens of the prompt.
        tokens: usize,
        /// The model's positions.
        limit: usize,
    },
    /// The model failed.
    #[error(transparent)]
    Model(ModelError),
    /// Stopped by a callback.
    #[error("interrupted")]
    Interrupted,
}

impl LmError {
    /// The error of a model. Errors of files and of this module keep their type.
    pub(super) fn model(error: ModelError) -> Self {
        let error = match error.downcast::<FileError>() {
            Ok(file) => return LmError::File(*file),
            Err(error) => error,
        };
        match error.downcast::<LmError>() {
            Ok(own) => *own,
            Err(error) => LmError::Model(error),
        }
    }

    pub(super) fn tokenizer(error: tokenizers::Error) -> Self {
        LmError::Tokenizer(error.to_string())
    }
}
