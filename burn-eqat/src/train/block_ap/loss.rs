//! What a block is trained on.

use super::relative::relative_to_positions;
use super::{BlockApConfig, BlockSample, ReconstructionLoss};
use crate::train::{Blockwise, TrainError};
use burn::tensor::Tensor;

/// The loss of a block: how far what comes out of it is from the original, some original blocks further on.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockLoss {
    /// The block that trains.
    pub index: usize,
    /// The block whose output is compared: the same, or one behind it.
    pub last: usize,
    kind: ReconstructionLoss,
}

impl BlockLoss {
    /// The loss of block `index` of that many blocks.
    pub fn new(config: &BlockApConfig, index: usize, blocks: usize) -> Self {
        Self {
            index,
            last: last(config, index, blocks),
            kind: config.loss,
        }
    }

    /// The loss of a sample, `[1]`.
    pub fn of<M: Blockwise>(
        &self,
        model: &M,
        sample: BlockSample<M>,
    ) -> Result<Tensor<1>, TrainError> {
        let (output, target) = self.compared(model, sample)?;
        Ok(model.reconstruction_error(self.last, output, target))
    }

    /// What is compared of a sample: the output and its target.
    pub fn compared<M: Blockwise>(
        &self,
        model: &M,
        sample: BlockSample<M>,
    ) -> Result<(M::Hidden, M::Hidden), TrainError> {
        let (context, mut output) = (sample.context, sample.input);
        for index in self.index..=self.last {
            let next = model.run_block(index, output, &context);
            output = next.map_err(TrainError::Model)?;
        }
        Ok(match self.kind {
            ReconstructionLoss::Squared | ReconstructionLoss::Auto => (output, sample.target),
            ReconstructionLoss::Relative => relative_to_positions(output, sample.target),
        })
    }
}

/// The block whose output is compared where block `index` of that many is trained.
pub(super) fn last(config: &BlockApConfig, index: usize, blocks: usize) -> usize {
    let last = index.saturating_add(config.lookahead);
    last.min(blocks.saturating_sub(1))
}
