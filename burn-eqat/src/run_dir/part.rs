//! Parts of a module in a run directory, and their digests.

use super::{RunDir, RunDirError, Stored, checksum};
use crate::files::{digest_part, load_part, save_part};
use burn::module::Module;
use crc32fast::Hasher;
use serde_json::Value;

impl RunDir {
    /// Keeps the parameters of a module whose paths are `inside`.
    pub(crate) fn store_part<M: Module>(
        &self,
        role: &str,
        module: &M,
        inside: &dyn Fn(&str) -> bool,
        facts: Value,
    ) -> Result<(), RunDirError> {
        let file = format!("{role}.safetensors");
        self.store(role, &file, facts, |path| save_part(module, inside, path))
    }

    /// Loads what [`store_part`](Self::store_part) has kept into a module that has the part as it was.
    pub(crate) fn load_part<M: Module>(
        &self,
        module: M,
        inside: &dyn Fn(&str) -> bool,
        stored: &Stored,
    ) -> Result<M, RunDirError> {
        Ok(load_part(module, inside, &stored.path)?)
    }

    /// A digest of the parameters of a module whose paths are `inside`: their names, shapes, types and values.
    pub(crate) fn digest<M: Module>(
        &self,
        module: &M,
        inside: &dyn Fn(&str) -> bool,
    ) -> Result<String, RunDirError> {
        let mut hasher = Hasher::new();
        digest_part(module, inside, self.path(), &mut hasher)?;
        Ok(checksum::text(hasher))
    }
}
