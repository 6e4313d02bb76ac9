use burn_eqat::files::FileError;
use burn_eqat::train::ModelError;
use llama::model::LlamaError;

/// A multimodal model that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum MultimodalError {
    /// Media that the tower does not take.
    #[error("the batch has {found}, expected {expected}")]
    Media {
        /// What there is.
        found: &'static str,
        /// What the model takes.
        expected: &'static str,
    },
    /// Media of another shape.
    #[error("the media have the shape {found:?} each, expected {expected:?}")]
    Shape {
        /// Theirs.
        found: Vec<usize>,
        /// The model's.
        expected: Vec<usize>,
    },
    /// Another number of places than of features.
    #[error("the tokens have {found} places for features of media, expected {expected}")]
    Places {
        /// Tokens in whose place features come.
        found: usize,
        /// Features of all media of the batch.
        expected: usize,
    },
    /// A model without a tower.
    #[error("the model has no tower: expected one that sees or one that hears")]
    NoTower,
    /// A prompt that is longer than the decoder's positions, or empty.
    #[error("the prompt has {tokens} positions, expected 1 to {limit}")]
    Prompt {
        /// Its positions, features among them.
        tokens: usize,
        /// The decoder's.
        limit: usize,
    },
    /// The decoder.
    #[error(transparent)]
    Llama(#[from] LlamaError),
}

impl MultimodalError {
    /// As burn-eqat takes the errors of a model: one of a file stays one.
    pub(super) fn into_model(self) -> ModelError {
        match self {
            MultimodalError::Llama(LlamaError::File(error)) => Box::<FileError>::new(error),
            error => error.into(),
        }
    }
}
