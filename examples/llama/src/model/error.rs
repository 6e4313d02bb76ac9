use burn_eqat::files::FileError;
use burn_eqat::lm::ModelError;

/// A Llama that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LlamaError {
    /// A block is in a file that has changed since it was checked.
    #[error(transparent)]
    File(#[from] FileError),
    /// A block that is neither in memory nor in a file.
    #[error("block {index}: expected one of the model's {blocks}")]
    NoBlock {
        /// The block.
        index: usize,
        /// How many there are.
        blocks: usize,
    },
    /// A cache of another model.
    #[error("the cache is one of {found} blocks, expected {expected}")]
    Cache {
        /// Its entries.
        found: usize,
        /// The model's blocks.
        expected: usize,
    },
}

impl LlamaError {
    /// As burn-eqat takes the errors of a model: one of a file stays one.
    pub(super) fn into_model(self) -> ModelError {
        match self {
            LlamaError::File(error) => error.into(),
            error => error.into(),
        }
    }
}
