use crate::SchemeError;

/// A module that cannot be quantized as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantizeError {
    /// The scheme does not fit a weight.
    #[error("{path}: {error}")]
    Scheme {
        /// Path of the weight.
        path: String,
        /// What does not fit.
        #[source]
        error: SchemeError,
    },
    /// Nothing is selected.
    #[error("no weight to quantize: asked for {weights}; the model's matrices are {matrices}")]
    NothingSelected {
        /// What was asked for.
        weights: String,
        /// Paths of some matrices that there are.
        matrices: String,
    },
    /// Not a regular expression.
    #[error("pattern {pattern:?}: {message}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        message: String,
    },
    /// An override that cannot be read.
    #[error("override {text:?}: {message}")]
    Override {
        /// The text.
        text: String,
        /// What is wrong with it.
        message: String,
    },
    /// An override that changes nothing.
    #[error("the scheme override {pattern:?} matches none of the selected weights")]
    UnusedOverride {
        /// The pattern.
        pattern: String,
    },
    /// The weight has quantization attached already.
    #[error("{path}: already quantized")]
    AlreadyQuantized {
        /// Path of the weight.
        path: String,
    },
    /// A weight, step size or zero point that is not a finite number.
    #[error("{path}: holds numbers that are not finite")]
    NotFinite {
        /// Path of the weight.
        path: String,
    },
}
