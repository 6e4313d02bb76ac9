use serde_json::Value;
use std::path::PathBuf;

/// A file of a run whose checksum is right.
#[derive(Debug)]
pub(crate) struct Stored {
    pub path: PathBuf,
    /// What was kept with it.
    pub facts: Value,
}
