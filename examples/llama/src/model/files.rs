use super::DecoderBlock;
use crate::LlamaConfig;
use burn::tensor::Device;
use burn_eqat::files::{Checkpoint, FileError};
use std::sync::Arc;

/// Blocks that stay in their checkpoint until one is asked for, so that no more than one of them is in
/// memory at a time.
#[derive(Clone, Debug)]
pub struct BlockFiles(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    checkpoint: Checkpoint,
    config: LlamaConfig,
    device: Device,
}

impl BlockFiles {
    /// The blocks of a checkpoint, once the files say that all of them are there.
    pub(crate) fn new(
        checkpoint: &Checkpoint,
        config: &LlamaConfig,
        device: &Device,
    ) -> Result<Self, FileError> {
        for index in 0..config.num_hidden_layers {
            let block = DecoderBlock::new(config, index, device);
            checkpoint.check_part(block, &prefix(index), computed)?;
        }
        Ok(BlockFiles(Arc::new(Inner {
            checkpoint: checkpoint.clone(),
            config: config.clone(),
            device: device.clone(),
        })))
    }

    pub(super) fn len(&self) -> usize {
        self.0.config.num_hidden_layers
    }

    /// Reads a block.
    ///
    /// # Panics
    ///
    /// When the files have changed since they were checked.
    pub(super) fn read(&self, index: usize) -> DecoderBlock {
        let Inner {
            checkpoint,
            config,
            device,
        } = &*self.0;
        let block = DecoderBlock::new(config, index, device);
        let read = checkpoint.load_part(block, &prefix(index), computed);
        read.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Where a block's tensors are in files.
fn prefix(index: usize) -> String {
    format!("model.layers.{index}.")
}

/// Whether a tensor is computed here, though some writers store it.
pub(crate) fn computed(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}
