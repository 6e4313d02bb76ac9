use super::engine::{BlockSample, Models};
use super::{BlockApConfig, BlockApEvent, BlockTrainer};
use crate::QuantizeError;
use crate::module::{Selected as Weight, check_overrides, in_part, select_part};
use crate::train::error::ErrorSlot;
use crate::train::{Blockwise, TrainError};
use burn::module::list_param_ids;

/// Block-AP: trains each block of a model in turn to do quantized what it did in full precision.
///
/// Data flows through the model once. A block learns to turn what the quantized blocks before it make
/// into what the original block makes of the original inputs (mean squared error); then it is packed,
/// and the next block gets its output. Made by [`BlockApConfig::init`].
///
/// Use it as a strategy of Burn's `SupervisedTraining` (metrics, dashboard, interruption), or call
/// [`run`](Self::run).
#[derive(Clone, Debug)]
pub struct BlockAp {
    pub(super) config: BlockApConfig,
    pub(super) error: ErrorSlot,
}

impl BlockAp {
    pub(super) fn new(config: BlockApConfig) -> Self {
        Self {
            config,
            error: ErrorSlot::default(),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &BlockApConfig {
        &self.config
    }

    /// The error that stopped the last training this strategy was used for, if one did.
    pub fn take_error(&self) -> Option<TrainError> {
        self.error.take()
    }

    /// Epochs that the whole of a model takes: those of each of its blocks.
    pub fn num_epochs<M: Blockwise>(&self, model: &M) -> usize {
        model.num_blocks() * self.config.epochs
    }

    /// Quantizes a full-precision model: gives back the same with every selected weight packed. All
    /// of them have to be in its blocks.
    ///
    /// `tell` hears how it goes on and may stop it with an error.
    ///
    /// # Errors
    ///
    /// When nothing is selected or does not fit the scheme, there is no training batch, or a loss is
    /// not finite (the error names the block, the step and the learning rates).
    pub fn run<M: Blockwise>(
        &self,
        model: M,
        train: Vec<M::Batch>,
        valid: Vec<M::Batch>,
        tell: &mut dyn FnMut(BlockApEvent) -> Result<(), TrainError>,
    ) -> Result<M, TrainError> {
        if train.is_empty() {
            return Err(TrainError::NoData);
        }
        let mut model = model.valid();
        let weights = Selected::new(&model, &self.config)?;
        let models = Models {
            train: model.clone().train(),
            valid: model.clone(),
        };
        let mut train = embed(&model, train);
        let mut valid = embed(&model, valid);
        for index in 0..model.num_blocks() {
            let original = model.block(index);
            let run = |samples: &mut Vec<BlockSample<M>>, block: &M::Block, original: bool| {
                for sample in samples {
                    let hidden = match original {
                        true => &mut sample.target,
                        false => &mut sample.input,
                    };
                    *hidden = models
                        .valid
                        .run_block(index, block, hidden.clone(), &sample.context);
                }
            };
            run(&mut train, &original, true);
            run(&mut valid, &original, true);
            let selected = weights.of_block(&model, index, &original, &self.config)?;
            // A block may have nothing to quantize; it stays as it is then.
            let block = match selected.is_empty() {
                true => original,
                false => {
                    let trainer = BlockTrainer::<M>::with_selected(original, &selected)?;
                    let trained =
                        trainer.run(&models, index, &train, &valid, &self.config, tell)?;
                    BlockTrainer::<M>::pack(trained, &self.config)?
                }
            };
            run(&mut train, &block, false);
            run(&mut valid, &block, false);
            model.set_block(index, block);
            tell(BlockApEvent::BlockEnd { block: index })?;
        }
        Ok(model)
    }
}

/// The weights that are quantized.
enum Selected {
    /// By their ids, which stay the same when a block is taken out of its model.
    Ids(Vec<Weight>),
    /// By their paths, asked of each block.
    Paths,
}

impl Selected {
    fn new<M: Blockwise>(model: &M, config: &BlockApConfig) -> Result<Self, TrainError> {
        let schemes = config.schemes();
        let all = select_part(model, None, &config.weights, &schemes)?;
        let blocks = 0..model.num_blocks();
        let paths: Option<Vec<String>> = blocks.clone().map(|i| model.block_path(i)).collect();
        let mut selected = Vec::new();
        let mut in_blocks = Vec::new();
        for index in blocks {
            let block = model.block(index);
            if let Some(paths) = &paths {
                let at = Some(paths[index].as_str());
                selected.extend(select_part(&block, at, &config.weights, &schemes)?);
            }
            in_blocks.extend(list_param_ids(&block));
        }
        if paths.is_none() {
            selected = all.clone();
        }
        if selected.is_empty() {
            return Err(QuantizeError::NothingSelected {
                weights: config.weights.to_string(),
                matrices: "none".to_string(),
            }
            .into());
        }
        check_overrides(&selected, &schemes)?;
        let outside = all.iter().filter(|w| !in_blocks.contains(&w.id)).count();
        match (outside, paths) {
            (0, None) => Ok(Selected::Ids(all)),
            (0, Some(_)) => Ok(Selected::Paths),
            _ => Err(TrainError::OutsideBlocks { outside }),
        }
    }

    /// The selected weights of a block, with their paths in it.
    fn of_block<M: Blockwise>(
        &self,
        model: &M,
        index: usize,
        block: &M::Block,
        config: &BlockApConfig,
    ) -> Result<Vec<Weight>, TrainError> {
        match self {
            Selected::Ids(weights) => Ok(in_part(block, weights)),
            Selected::Paths => {
                let at = model.block_path(index);
                let schemes = config.schemes();
                let weights = select_part(block, at.as_deref(), &config.weights, &schemes)?;
                Ok(in_part(block, &weights))
            }
        }
    }
}

/// Batches at the door of the first block, where the original and the quantized input are the same.
fn embed<M: Blockwise>(model: &M, batches: Vec<M::Batch>) -> Vec<BlockSample<M>> {
    batches
        .into_iter()
        .map(|batch| {
            let (hidden, context) = model.embed(batch);
            BlockSample {
                input: hidden.clone(),
                target: hidden,
                context,
            }
        })
        .collect()
}
