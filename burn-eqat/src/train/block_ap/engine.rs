//! One block: fake quantization attached, trained against the original, packed.

use super::BlockApConfig;
use crate::module::{Selected, attach_fake_quant, select_part};
use crate::train::best::BestSoFar;
use crate::train::error::check_loss;
use crate::train::optimizer::adamw;
use crate::train::{Blockwise, CosineSchedule, Flow, Hidden, TrainError};
use crate::{FakeQuant, Quantize, Weights};
use burn::lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler};
use burn::module::{Module, ParamGroup, Reparameterization};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;

/// What Block-AP tells while it goes on.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, handed over and gone"
)]
pub enum BlockApEvent {
    /// An epoch of a block begins, to train (or to validate) on that many batches.
    SplitStart {
        /// The block.
        block: usize,
        /// The epoch of the block, from 0.
        epoch: usize,
        /// Batches to come.
        batches: usize,
        /// Whether they are validation batches.
        validation: bool,
    },
    /// A batch was trained on, or validated.
    Batch {
        /// The block.
        block: usize,
        /// Batches of this split done.
        done: usize,
        /// Batches of this split in all.
        batches: usize,
        /// The reconstruction error, `[1]`.
        loss: Tensor<1>,
        /// The learning rates of the step; `None` in validation.
        rates: Option<ModuleLearningRate>,
    },
    /// An epoch of a block, or its validation, is over.
    SplitEnd {
        /// The block.
        block: usize,
        /// The epoch of the block, from 0.
        epoch: usize,
        /// Mean reconstruction error.
        loss: f64,
        /// Whether it was the validation.
        validation: bool,
    },
    /// An epoch of a block is over, its validation too where there is one.
    EpochEnd {
        /// The block.
        block: usize,
        /// The epoch of the block, from 0.
        epoch: usize,
    },
    /// A block is trained and packed.
    BlockEnd {
        /// The block.
        block: usize,
    },
}

/// Trains one block at a time; the parts that [`BlockAp`](super::BlockAp) puts together, for those who
/// drive them themselves.
pub struct BlockTrainer<M: Blockwise> {
    block: M::Block,
    optim: ModuleOptimizer,
    quantizer: ParamGroup,
}

/// A batch on its way through the model: what goes into the block that is trained, what the original
/// makes of its own input, and what every block needs besides.
#[derive(Clone)]
pub struct BlockSample<M: Blockwise> {
    /// Output of the quantized blocks before.
    pub input: M::Hidden,
    /// Output of the original block on original inputs.
    pub target: M::Hidden,
    /// What the block needs besides.
    pub context: M::Context,
}

impl<M: Blockwise> BlockTrainer<M> {
    /// Attaches fake quantization to `weights` of a full-precision block, and has them train with
    /// their step sizes and zero points, and with whatever else in the block is called `weight` or
    /// `gamma` (norms, above all). Biases stay as they are.
    ///
    /// # Errors
    ///
    /// When a weight does not fit the scheme.
    pub fn new(
        block: M::Block,
        weights: &Weights,
        config: &BlockApConfig,
    ) -> Result<Self, TrainError> {
        let selected = select_part(&block, None, weights, &config.schemes())?;
        Self::with_selected(block, &selected)
    }

    /// The same, of weights that are selected already.
    pub(super) fn with_selected(
        block: M::Block,
        selected: &[Selected],
    ) -> Result<Self, TrainError> {
        let ids = selected.iter().map(|weight| weight.id).collect();
        let quantizer = ParamGroup::from_predicate(FakeQuant::NAME);
        let matrices_and_norms =
            ParamGroup::from_regex(r"(^|\.)(weight|gamma)$").expect("a valid pattern");
        let block = attach_fake_quant(block, selected)
            .train()
            .no_grad()
            .set_require_grad_group(ParamGroup::from_ids(ids), true)
            .set_require_grad_group(quantizer.clone(), true)
            .set_require_grad_group(matrices_and_norms, true);
        Ok(Self {
            block,
            optim: adamw(),
            quantizer,
        })
    }

    /// The block as it is now, where gradients are recorded.
    pub fn block(&self) -> &M::Block {
        &self.block
    }

    /// One step on a batch; gives back its reconstruction error.
    ///
    /// `model` is the whole model where gradients are recorded, `rates` the learning rates of the
    /// quantizer and of the weights.
    pub fn step(
        &mut self,
        model: &M,
        index: usize,
        sample: BlockSample<M>,
        rates: (f64, f64),
    ) -> (Tensor<1>, ModuleLearningRate) {
        let context = sample.context.train();
        let output = model.run_block(index, &self.block, sample.input.train(), &context);
        let loss = output.mse(sample.target.train());
        let grads = GradientsParams::from_grads(loss.backward(), &self.block);
        let rates = ModuleLrScheduler::new(rates.1)
            .with_group(self.quantizer.clone(), rates.0)
            .step();
        self.block = self.optim.step(rates.clone(), self.block.clone(), grads);
        (loss.inner(), rates)
    }

    /// The reconstruction error of a batch, without training; `model` is the whole model where
    /// gradients are not recorded.
    pub fn validate(
        block: &M::Block,
        model: &M,
        index: usize,
        sample: BlockSample<M>,
    ) -> Tensor<1> {
        model
            .run_block(index, block, sample.input, &sample.context)
            .mse(sample.target)
    }

    /// The block, packed.
    ///
    /// # Errors
    ///
    /// When a parameter is not finite.
    pub fn pack(block: M::Block, config: &BlockApConfig) -> Result<M::Block, TrainError> {
        let packed = block.valid().pack()?;
        Ok(match config.round_scales {
            true => packed.round_scales(),
            false => packed,
        })
    }

    /// Trains on all samples for the configured epochs, validating after each.
    ///
    /// # Errors
    ///
    /// When a loss is not finite, or `tell` says to stop.
    pub(super) fn run(
        mut self,
        models: &Models<M>,
        index: usize,
        train: &[BlockSample<M>],
        valid: &[BlockSample<M>],
        config: &BlockApConfig,
        tell: &mut dyn FnMut(BlockApEvent) -> Result<(), TrainError>,
    ) -> Result<M::Block, TrainError> {
        let steps = config.epochs * train.len();
        let schedule = |rate| CosineSchedule::new(rate, config.final_rate, 0, steps);
        let quant_rate = schedule(config.quant_learning_rate);
        let weight_rate = schedule(config.weight_rate());
        let mut best = config.early_stopping.map(BestSoFar::new);
        for epoch in 0..config.epochs {
            let mut split = Split::start(index, epoch, train.len(), false, tell)?;
            for (i, sample) in train.iter().enumerate() {
                let step = epoch * train.len() + i;
                let rates = (quant_rate.at(step), weight_rate.at(step));
                let (loss, lr) = self.step(&models.train, index, sample.clone(), rates);
                split.batch(loss, Some(lr), step + 1, rates, tell)?;
            }
            split.end(tell)?;
            let block = index;
            if valid.is_empty() {
                tell(BlockApEvent::EpochEnd { block, epoch })?;
                continue;
            }
            let snapshot = self.block.valid();
            let mut split = Split::start(index, epoch, valid.len(), true, tell)?;
            for sample in valid {
                let loss = Self::validate(&snapshot, &models.valid, index, sample.clone());
                split.batch(loss, None, steps, (0.0, 0.0), tell)?;
            }
            let loss = split.end(tell)?;
            tell(BlockApEvent::EpochEnd { block, epoch })?;
            if let Some(best) = &mut best
                && best.offer(loss, snapshot)
            {
                break;
            }
        }
        let best = best.and_then(BestSoFar::into_best);
        Ok(best.unwrap_or_else(|| self.block.valid()))
    }
}

/// The whole model with and without gradients recorded: what blocks share (positions, say) has to be
/// where the block is.
pub(super) struct Models<M> {
    pub train: M,
    pub valid: M,
}

/// One pass over samples: counts them and sums their losses.
struct Split {
    block: usize,
    epoch: usize,
    batches: usize,
    done: usize,
    sum: f64,
    validation: bool,
}

impl Split {
    fn start(
        block: usize,
        epoch: usize,
        batches: usize,
        validation: bool,
        tell: &mut dyn FnMut(BlockApEvent) -> Result<(), TrainError>,
    ) -> Result<Self, TrainError> {
        tell(BlockApEvent::SplitStart {
            block,
            epoch,
            batches,
            validation,
        })?;
        Ok(Self {
            block,
            epoch,
            batches,
            done: 0,
            sum: 0.0,
            validation,
        })
    }

    fn batch(
        &mut self,
        loss: Tensor<1>,
        rates: Option<ModuleLearningRate>,
        step: usize,
        (quant, weight): (f64, f64),
        tell: &mut dyn FnMut(BlockApEvent) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let value: f64 = loss.clone().into_scalar();
        check_loss(
            value,
            || format!("block {}", self.block),
            step,
            || format!("{quant:.2e} (quantizer) and {weight:.2e} (weights)"),
        )?;
        self.sum += value;
        self.done += 1;
        tell(BlockApEvent::Batch {
            block: self.block,
            done: self.done,
            batches: self.batches,
            loss,
            rates,
        })
    }

    fn end(
        self,
        tell: &mut dyn FnMut(BlockApEvent) -> Result<(), TrainError>,
    ) -> Result<f64, TrainError> {
        let loss = self.sum / self.done.max(1) as f64;
        tell(BlockApEvent::SplitEnd {
            block: self.block,
            epoch: self.epoch,
            loss,
            validation: self.validation,
        })?;
        Ok(loss)
    }
}
