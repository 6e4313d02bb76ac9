//! Exports models to the formats of other programs.

mod gguf;

pub use gguf::{Compatibility, GgufError};

use crate::error::Error;
use crate::load::LoadedLlama;
use burn::tensor::DType;
use burn_eqat::Quantize;
use burn_eqat::files::{
    StagedDir, check_room, copy_side_files, expected_size, export_dense, export_gptq,
};
use std::fs::File;
use std::io::Read;
use std::path::Path;

impl LoadedLlama {
    /// Writes a packed model as a GPTQ directory, version 2.
    ///
    /// # Errors
    ///
    /// When the model is not packed, GPTQ cannot store it, or a file cannot be written. The target is unchanged
    /// then.
    pub fn export_gptq(&self, target: &Path, force: bool) -> Result<(), Error> {
        let staged = StagedDir::begin(target, force)?;
        check_room(target, expected_size(&self.model, self.dtype()))?;
        export_gptq(&self.model, self.checkpoint.config(), self.dtype(), &staged)?;
        copy_side_files(self.checkpoint.dir(), staged.path())?;
        Ok(staged.commit()?)
    }

    /// Writes the model as a dense directory with its floats in `dtype`.
    ///
    /// # Errors
    ///
    /// When a file cannot be written. The target is unchanged then.
    pub fn export_dense(&self, target: &Path, dtype: DType, force: bool) -> Result<(), Error> {
        let staged = StagedDir::begin(target, force)?;
        let size = self.model.size_report();
        let bytes = (size.packed_weights + size.dense_params) * dtype.size();
        check_room(target, bytes as u64)?;
        export_dense(&self.model, self.checkpoint.config(), dtype, &staged)?;
        copy_side_files(self.checkpoint.dir(), staged.path())?;
        Ok(staged.commit()?)
    }

    /// Writes the model as a GGUF file. Returns notes on weights that take more space there than here.
    ///
    /// # Errors
    ///
    /// When GGUF has no lossless form of the weights or does not support the tokenizer, or the file cannot be
    /// written. The target is unchanged then.
    pub fn export_gguf(
        &self,
        target: &Path,
        compatibility: Compatibility,
        force: bool,
    ) -> Result<Vec<String>, Error> {
        if target.is_dir() {
            return Err(Error::input(
                target,
                "is a directory, expected a file's name",
            ));
        }
        if target.exists() && !force {
            return Err(Error::input(target, "exists (replace it with --force)"));
        }
        if target.exists() && !is_gguf(target)? {
            return Err(Error::input(
                target,
                "is not a GGUF file, so it is not replaced",
            ));
        }
        check_room(target, 0)?;
        gguf::write(self, target, compatibility)
    }
}

/// Whether a file may be replaced: it is a GGUF file, or empty.
fn is_gguf(path: &Path) -> Result<bool, Error> {
    let mut magic = Vec::new();
    let file = File::open(path).map_err(Error::read(path))?;
    file.take(4)
        .read_to_end(&mut magic)
        .map_err(Error::read(path))?;
    Ok(magic.is_empty() || magic == b"GGUF")
}
