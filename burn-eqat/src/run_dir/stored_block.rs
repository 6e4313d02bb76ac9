use super::{RunDir, RunDirError};
use crate::files::{FileError, PartFile};
use crate::module::{is_under, place_scales};
use burn::module::{Module, ParamId};
use burn::tensor::TensorData;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A finished block in a run directory, which is read when it is needed. Clones share everything.
///
/// A phase gives it to a model whose blocks need not stay in memory
/// ([`Blockwise::store_block`](crate::train::Blockwise::store_block)). It holds the run directory open, and is of use until that is
/// [removed](RunDir::remove).
#[derive(Clone)]
pub struct StoredBlock {
    file: Arc<PartFile>,
    /// No other process may write there while this is read.
    _run: RunDir,
    /// What the names in the file begin with.
    prefix: String,
    scales: Option<Arc<HostScales>>,
}

/// Step sizes in host memory, by the paths of their weights in the block.
pub(crate) type HostScales = BTreeMap<String, HostScale>;

/// The step sizes of a weight.
#[derive(Clone, Debug)]
pub(crate) struct HostScale {
    /// What the parameter is called by gradients and optimizers.
    pub id: ParamId,
    /// `[groups, d_output]`.
    pub data: TensorData,
}

impl StoredBlock {
    /// Reads the block into one of the right shape, whose own data is not used (a new Burn module allocates none of it). Weights
    /// that were packed come packed.
    ///
    /// # Errors
    ///
    /// When the file is gone, or is that of another block.
    pub fn read<B: Module>(&self, block: B) -> Result<B, FileError> {
        let block = self.file.load(block, &self.prefix, &|_| true)?;
        Ok(match &self.scales {
            Some(scales) => place_scales(block, scales),
            None => block,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The same block with other step sizes.
    pub(crate) fn with_scales(&self, scales: Arc<HostScales>) -> Self {
        Self {
            scales: Some(scales),
            ..self.clone()
        }
    }

    /// The step sizes that it was given.
    pub(crate) fn scales(&self) -> Option<&Arc<HostScales>> {
        self.scales.as_ref()
    }
}

impl fmt::Debug for StoredBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredBlock")
            .field("path", &self.path())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl RunDir {
    /// Keeps the block at a path of a module as `role`.
    pub(crate) fn store_block<M: Module>(
        &self,
        role: &str,
        module: &M,
        path: &str,
        facts: Value,
    ) -> Result<(), RunDirError> {
        self.store_part(role, module, &|param| is_under(param, path), facts)
    }

    /// The block at a path of a module, which [`store_block`](Self::store_block) has kept as `role`; `None` where it has not.
    pub(crate) fn stored_block(
        &self,
        role: &str,
        path: &str,
    ) -> Result<Option<StoredBlock>, RunDirError> {
        let Some(stored) = self.stored(role)? else {
            return Ok(None);
        };
        Ok(Some(StoredBlock {
            file: Arc::new(PartFile::open(&stored.path)?),
            _run: self.clone(),
            prefix: format!("{path}."),
            scales: None,
        }))
    }
}
