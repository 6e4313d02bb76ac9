use crate::SchemeError;

/// A module cannot be quantized as requested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantizeError {
    /// The scheme does not fit a weight.
    #[error("{path}: {error}")]
    Scheme {
        /// Path of the weight.
        path: String,
        /// The error of the scheme.
        #[source]
        error: SchemeError,
    },
    /// No weight is selected.
    #[error(
        "no weight to quantize: the selection is {weights}; the model's matrices are {matrices}"
    )]
    NothingSelected {
        /// The selection.
        weights: String,
        /// Paths of some matrices of the module.
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
    /// An override cannot be parsed.
    #[error("override {text:?}: {message}")]
    Override {
        /// The text.
        text: String,
        /// What is wrong with it.
        message: String,
    },
    /// An override changes nothing.
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
    /// A weight, step size or zero point is not a finite number.
    #[error("{path}: has values that are not finite")]
    NotFinite {
        /// Path of the weight.
        path: String,
    },
    /// A packed weight has no dense one in the original.
    #[error("{path}: the original has no such matrix")]
    NoOriginal {
        /// Path of the weight.
        path: String,
    },
    /// A weight of the original has another shape than the packed one.
    #[error("{path}: the original's shape is {found:?}, expected {expected:?}")]
    OriginalShape {
        /// Path of the weight.
        path: String,
        /// The original's.
        found: [usize; 2],
        /// That of the packed weight.
        expected: [usize; 2],
    },
}
