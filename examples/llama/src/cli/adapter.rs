use crate::error::Error;
use crate::load::LoadedLlama;
use burn_eqat::adapter::{Adapter, AdapterError};
use serde::Serialize;
use std::path::PathBuf;

/// `--adapter` of the commands that run a model.
#[derive(clap::Args, Serialize, Clone, Debug)]
pub(super) struct AdapterArg {
    /// Step sizes of `llama tune` for a packed model, in place of its own
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<PathBuf>,
}

impl AdapterArg {
    /// Whether there is one.
    pub(super) fn is_given(&self) -> bool {
        self.adapter.is_some()
    }

    /// Puts it into a model.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is one of another model.
    pub(super) fn apply(&self, mut loaded: LoadedLlama) -> Result<LoadedLlama, Error> {
        let Some(file) = &self.adapter else {
            return Ok(loaded);
        };
        let adapter = Adapter::load(file)?;
        loaded.model = adapter.apply(loaded.model).map_err(|error| match error {
            // Of the model, which has a name here.
            AdapterError::NotPacked => {
                let message = format!("{error}, for the adapter {}", file.display());
                Error::input(loaded.checkpoint.dir(), message)
            }
            error => error.into(),
        })?;
        Ok(loaded)
    }
}
