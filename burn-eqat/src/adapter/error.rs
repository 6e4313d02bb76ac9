use super::BaseDifference;
use crate::files::FileError;
use std::path::{Path, PathBuf};

/// An adapter cannot be made, read, written, or put into a model.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The file cannot be read or written, or has wrong contents.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model has no step sizes.
    #[error("the model has no packed weights, expected one that was quantized before")]
    NotPacked,
    /// A weight of the model is still in training.
    #[error("{path}: is fake-quantized, expected a packed weight: pack it first")]
    FakeQuantized {
        /// Path of the weight.
        path: String,
    },
    /// The adapter was made of another packed model.
    #[error("{}is an adapter of another packed model: {difference}", named(.file))]
    WrongBase {
        /// The adapter's file, if it is from one.
        file: Option<PathBuf>,
        /// In what the models differ.
        difference: BaseDifference,
    },
    /// The model does not have a parameter that the adapter has.
    #[error("{}parameter {path}: {message}", named(.file))]
    Parameter {
        /// The adapter's file, if it is from one.
        file: Option<PathBuf>,
        /// Path of the parameter.
        path: String,
        /// What is wrong, and what was expected.
        message: String,
    },
}

impl AdapterError {
    pub(super) fn parameter(file: Option<&Path>, path: &str, message: impl Into<String>) -> Self {
        AdapterError::Parameter {
            file: file.map(Path::to_path_buf),
            path: path.to_string(),
            message: message.into(),
        }
    }
}

/// The file as the beginning of a message.
fn named(file: &Option<PathBuf>) -> String {
    match file {
        Some(file) => format!("{}: ", file.display()),
        None => String::new(),
    }
}
