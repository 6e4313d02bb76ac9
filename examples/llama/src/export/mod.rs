//! Models in the form that other engines run.

mod gguf;

pub use gguf::{Compatibility, GgufError};

use crate::error::Error;
use crate::load::LoadedLlama;
use burn::tensor::DType;
use burn_eqat::files::{StagedDir, copy_side_files, export_dense, export_gptq};
use std::path::Path;

impl LoadedLlama {
    /// Writes a packed model as a GPTQ directory, version 2.
    ///
    /// # Errors
    ///
    /// When the model is not packed, GPTQ cannot hold it, or a file cannot be written; nothing is at the
    /// target then that was not there before.
    pub fn export_gptq(&self, target: &Path, force: bool) -> Result<(), Error> {
        let staged = StagedDir::begin(target, force)?;
        export_gptq(&self.model, self.checkpoint.config(), self.dtype(), &staged)?;
        copy_side_files(self.checkpoint.dir(), staged.path())?;
        Ok(staged.commit()?)
    }

    /// Writes the model as a dense directory with its floats in `dtype`.
    ///
    /// # Errors
    ///
    /// When a file cannot be written; nothing is at the target then that was not there before.
    pub fn export_dense(&self, target: &Path, dtype: DType, force: bool) -> Result<(), Error> {
        let staged = StagedDir::begin(target, force)?;
        export_dense(&self.model, self.checkpoint.config(), dtype, &staged)?;
        copy_side_files(self.checkpoint.dir(), staged.path())?;
        Ok(staged.commit()?)
    }

    /// Writes the model as a GGUF file; gives back notes on what takes more room there than here.
    ///
    /// # Errors
    ///
    /// When GGUF has no lossless form of the weights, the tokenizer is of no kind that it knows, or the
    /// file cannot be written; nothing is at the target then that was not there before.
    pub fn export_gguf(
        &self,
        target: &Path,
        compatibility: Compatibility,
        force: bool,
    ) -> Result<Vec<String>, Error> {
        if target.exists() && (!force || target.is_dir()) {
            let message = match target.is_dir() {
                true => "is a directory, expected a file's name",
                false => "exists (overwrite it with --force)",
            };
            return Err(Error::input(target, message.to_string()));
        }
        gguf::write(self, target, compatibility)
    }
}
