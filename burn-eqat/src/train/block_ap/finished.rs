//! Finished blocks in a run directory.

use super::BlockAp;
use super::blocks::Blocks;
use crate::RunDir;
use crate::files::FileError;
use crate::module::is_under;
use crate::train::{Blockwise, Flow, FlowParts, TrainError};
use serde_json::{Value, json};
use std::path::Path;

/// The blocks that a run directory has, if there is one.
pub(super) struct Finished<'a> {
    run_dir: Option<&'a RunDir>,
    blocks: &'a Blocks,
}

/// A block that is about to be trained: what it was before.
pub(super) struct Original(Option<String>);

/// A digest of the batches that were seen, where there is a run directory.
pub(super) struct DataDigest {
    hasher: Option<crc32fast::Hasher>,
    batches: usize,
}

impl DataDigest {
    /// Takes a batch.
    pub fn add<H: Flow>(&mut self, hidden: &H) -> Result<(), TrainError> {
        if let Some(hasher) = &mut self.hasher {
            let mut parts = FlowParts::default();
            let taken = hidden.clone().take_apart(&mut parts);
            taken.map_err(|error| TrainError::Data(error.to_string()))?;
            parts.each_bytes(&mut |bytes| hasher.update(bytes));
            self.batches += 1;
        }
        Ok(())
    }
}

/// Where the run directory has what a probe multiplied the rates by.
const PROBED: &str = "block_ap_probed_rates";

impl<'a> Finished<'a> {
    /// Fails where the run directory is that of another model or configuration.
    pub fn new<M: Blockwise>(
        run_dir: Option<&'a RunDir>,
        blocks: &'a Blocks,
        model: &M,
        phase: &BlockAp,
    ) -> Result<Self, TrainError> {
        if let Some(run) = run_dir {
            let mut config = phase.config.clone();
            // It changes nothing of the result.
            config.cache.dir = None;
            let settings = serde_json::to_value(&config);
            let mut settings = settings.map_err(|error| TrainError::Setting(error.to_string()))?;
            phase.devices.add_to(&mut settings);
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

    /// What the rates were multiplied by, where a probe has said it before.
    pub fn probed(&self) -> Result<Option<f64>, TrainError> {
        let Some(run) = self.run_dir else {
            return Ok(None);
        };
        let wrong = |value: &Value| {
            let message = format!("{PROBED} is {value}, expected a number above 0");
            FileError::invalid(run.path(), message).into()
        };
        match run.note(PROBED) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64().filter(|factor| *factor > 0.0) {
                Some(factor) => Ok(Some(factor)),
                None => Err(wrong(&value)),
            },
        }
    }

    /// Keeps it.
    pub fn keep_probed(&self, factor: f64) -> Result<(), TrainError> {
        match self.run_dir {
            Some(run) => Ok(run.set_note(PROBED, json!(factor))?),
            None => Ok(()),
        }
    }

    /// What is to see the batches that go into the first block.
    pub fn data_digest(&self) -> DataDigest {
        DataDigest {
            hasher: self.run_dir.map(|_| crc32fast::Hasher::new()),
            batches: 0,
        }
    }

    /// Fails where the data is not that which the run began with.
    pub fn check_data(&self, split: &str, digest: DataDigest) -> Result<(), TrainError> {
        let (Some(run), Some(hasher)) = (self.run_dir, digest.hasher) else {
            return Ok(());
        };
        let value = json!({
            "batches": digest.batches,
            "digest": format!("{:08x}", hasher.finalize()),
        });
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
        let digest = original.0.map_or(Value::Null, Value::from);
        Ok(run.store_block(&role(index), model, self.blocks.path(index), digest)?)
    }

    /// Takes block `index`, which is finished, out of memory where the model can read it again.
    pub fn unload<M: Blockwise>(&self, model: &mut M, index: usize) -> Result<(), TrainError> {
        let Some(run) = self.run_dir else {
            return Ok(());
        };
        if let Some(stored) = run.stored_block(&role(index), self.blocks.path(index))? {
            model.store_block(index, stored);
        }
        Ok(())
    }
}

/// What a run directory calls a finished block.
fn role(index: usize) -> String {
    format!("block-{index:04}")
}
