//! Finished blocks in a run directory.

use super::BlockApConfig;
use super::blocks::Blocks;
use crate::RunDir;
use crate::files::FileError;
use crate::module::is_under;
use crate::train::{Blockwise, Flow, TrainError};
use serde_json::{Value, json};
use std::path::Path;

/// The blocks that a run directory has, if there is one.
pub(super) struct Finished<'a> {
    run_dir: Option<&'a RunDir>,
    blocks: &'a Blocks,
}

/// A block that is about to be trained: what it was before.
pub(super) struct Original(Option<String>);

impl<'a> Finished<'a> {
    /// Fails where the run directory is that of another model or configuration.
    pub fn new<M: Blockwise>(
        run_dir: Option<&'a RunDir>,
        blocks: &'a Blocks,
        model: &M,
        config: &BlockApConfig,
    ) -> Result<Self, TrainError> {
        if let Some(run) = run_dir {
            let settings = serde_json::to_value(config);
            let settings = settings.map_err(|error| TrainError::Setting(error.to_string()))?;
            run.agree("block_ap", settings)?;
            let outside = |path: &str| !blocks.paths().iter().any(|block| is_under(path, block));
            let model = json!({
                "blocks": blocks.paths(),
                "digest_outside_blocks": run.digest(model, &outside)?,
            });
            run.agree("model", model)?;
        }
        Ok(Self { run_dir, blocks })
    }

    /// How many blocks from the first on are finished.
    pub fn count(&self) -> Result<usize, TrainError> {
        let Some(run) = self.run_dir else {
            return Ok(0);
        };
        for index in 0..self.blocks.len() {
            if run.stored(&role(index))?.is_none() {
                return Ok(index);
            }
        }
        Ok(self.blocks.len())
    }

    /// Fails where the data is not that which the run began with. `batches` are those that go into the first block.
    pub fn check_data<'h, H: Flow + 'h>(
        &self,
        split: &str,
        batches: impl Iterator<Item = &'h H>,
    ) -> Result<(), TrainError> {
        let Some(run) = self.run_dir else {
            return Ok(());
        };
        let (mut hasher, mut count) = (crc32fast::Hasher::new(), 0);
        for batch in batches {
            batch.each_tensor(&mut |data| hasher.update(data.as_bytes()));
            count += 1;
        }
        let digest = format!("{:08x}", hasher.finalize());
        let value = json!({ "batches": count, "digest": digest });
        Ok(run.agree(&format!("block_ap_data.{split}"), value)?)
    }

    /// What block `index` of a model is before it is trained; it has to be loaded.
    pub fn original<M: Blockwise>(&self, model: &M, index: usize) -> Result<Original, TrainError> {
        let path = self.blocks.path(index);
        let digest = self
            .run_dir
            .map(|run| run.digest(model, &|param| is_under(param, path)));
        Ok(Original(digest.transpose()?))
    }

    /// The model with block `index` as it was finished; `None` where it was not.
    pub fn load<M: Blockwise>(
        &self,
        model: &M,
        index: usize,
        original: &Original,
    ) -> Result<Option<M>, TrainError> {
        let Some(run) = self.run_dir else {
            return Ok(None);
        };
        let Some(stored) = run.stored(&role(index))? else {
            return Ok(None);
        };
        let path = self.blocks.path(index);
        let digest = original.0.clone().map_or(Value::Null, Value::from);
        run.compare(&format!("digest of {path}"), &stored.facts, &digest)?;
        let inside = |param: &str| is_under(param, path);
        Ok(Some(run.load_part(model.clone(), &inside, &stored)?))
    }

    /// The error of a finished block that was there a moment ago.
    pub fn gone(&self, index: usize) -> TrainError {
        let message = format!("{} is gone since the run was resumed", role(index));
        let path = self.run_dir.map_or(Path::new("."), RunDir::path);
        FileError::invalid(path, message).into()
    }

    /// Keeps block `index` of a model, which is finished.
    pub fn store<M: Blockwise>(
        &self,
        model: &M,
        index: usize,
        original: Original,
    ) -> Result<(), TrainError> {
        let Some(run) = self.run_dir else {
            return Ok(());
        };
        let path = self.blocks.path(index);
        let digest = original.0.map_or(Value::Null, Value::from);
        let inside = |param: &str| is_under(param, path);
        Ok(run.store_part(&role(index), model, &inside, digest)?)
    }
}

/// What a run directory calls a finished block.
fn role(index: usize) -> String {
    format!("block-{index:04}")
}
