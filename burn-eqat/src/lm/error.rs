use crate::files::FileError;

pub use crate::train::ModelError;

/// Text, tokens or a language model that something is wrong with.
#[derive(Debug, thiserror::Error)]
pub enum LmError {
    /// A file that cannot be read, or does not hold what it should.
    #[error(transparent)]
    File(#[from] FileError),
    /// A token that the model has no embedding for.
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
        /// How many tokens the model has.
        vocab_size: usize,
    },
    /// The tokenizer failed.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A text that is too short to be split.
    #[error("holds {found} windows of {seq_len} tokens, expected {expected} or more")]
    TooFewWindows {
        /// How many windows there are.
        found: usize,
        /// Tokens of a window.
        seq_len: usize,
        /// How many are needed at least.
        expected: usize,
    },
    /// A window or a batch that nothing can be predicted in.
    #[error("windows have {seq_len} tokens, expected 2 or more")]
    ShortWindows {
        /// Tokens of a window.
        seq_len: usize,
    },
    /// A prompt that is empty, or longer than the model's positions.
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
    /// The error of a model. What was an error of a file or of this module before stays one.
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
