//! The epochs of one block.

use super::{BlockApConfig, BlockRates, BlockStep, BlockTrainer};
use crate::train::best::BestSoFar;
use crate::train::cache::SampleCache;
use crate::train::event::OnEvent;
use crate::train::skips::Skips;
use crate::train::{
    Blockwise, CosineSchedule, DataSplit, Epoch, LearningRates, Phase, TrainError, TrainEvent,
};
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::tensor::Tensor;

/// The training of one block.
pub(super) struct BlockRun<'a, M: Blockwise> {
    pub config: &'a BlockApConfig,
    pub rates: LearningRates,
    pub index: usize,
    pub blocks: usize,
    pub train: &'a SampleCache<M>,
    pub valid: &'a SampleCache<M>,
}

impl<M: Blockwise> BlockRun<'_, M> {
    /// Trains on all samples for the configured epochs, validating after each; returns the model with the trained block.
    pub fn run(
        &self,
        mut trainer: BlockTrainer<M>,
        on_event: OnEvent<'_>,
    ) -> Result<M, TrainError> {
        let (config, index) = (self.config, self.index);
        let steps = config.epochs * self.train.len();
        let schedule = |rate| CosineSchedule::new(rate, config.final_rate, 0, steps);
        let quant_rate = schedule(self.rates.quantizer);
        let weight_rate = schedule(self.rates.weights);
        let at = |step| BlockRates {
            quantizer: quant_rate.at(step),
            weights: weight_rate.at(step),
        };
        let mut skips = Skips::new(config.max_skipped);
        let mut best = config.early_stopping.map(BestSoFar::new);
        for number in 0..config.epochs {
            let epoch = Epoch {
                phase: Phase::BlockAp,
                block: Some(index),
                number: index * config.epochs + number + 1,
                epochs: self.blocks * config.epochs,
            };
            let mut split = Pass::start(epoch, DataSplit::Train, self.train.len(), on_event)?;
            let mut step = number * self.train.len();
            for sample in self.train.samples()? {
                let rates = at(step);
                let done = trainer.step(sample?, rates)?;
                step += 1;
                let error = match done {
                    BlockStep::Taken {
                        loss,
                        rates: by_param,
                    } => {
                        skips.taken();
                        split.batch(loss, Some(by_param), step, rates, on_event)?;
                        continue;
                    }
                    BlockStep::Loss(loss) => split.loss_error(loss, step, rates),
                    BlockStep::Gradient(norm) => TrainError::Gradient {
                        phase: Phase::BlockAp,
                        block: Some(index),
                        step,
                        norm,
                        rates: vec![rates.quantizer, rates.weights],
                    },
                };
                split.skipped += 1;
                let message = skips.skip(error)?;
                on_event(TrainEvent::Skipped { epoch, message })?;
            }
            split.end(on_event)?;
            if self.valid.is_empty() {
                on_event(TrainEvent::EpochEnd { epoch })?;
                continue;
            }
            let snapshot = trainer.model().valid();
            let mut split = Pass::start(epoch, DataSplit::Valid, self.valid.len(), on_event)?;
            for sample in self.valid.samples()? {
                let loss = BlockTrainer::validate(&snapshot, index, sample?)?;
                split.batch(loss, None, step, at(step.saturating_sub(1)), on_event)?;
            }
            let loss = split.end(on_event)?;
            on_event(TrainEvent::EpochEnd { epoch })?;
            if let Some(best) = &mut best
                && best.offer(loss, snapshot)
            {
                break;
            }
        }
        let best = best.and_then(BestSoFar::into_best);
        Ok(best.unwrap_or_else(|| trainer.model().valid()))
    }
}

/// One pass over samples: counts them and sums their losses.
struct Pass {
    epoch: Epoch,
    split: DataSplit,
    total: usize,
    done: usize,
    /// Batches whose step was left out.
    skipped: usize,
    sum: f64,
}

impl Pass {
    fn start(
        epoch: Epoch,
        split: DataSplit,
        total: usize,
        on_event: OnEvent<'_>,
    ) -> Result<Self, TrainError> {
        on_event(TrainEvent::SplitStart {
            epoch,
            split,
            total,
        })?;
        Ok(Self {
            epoch,
            split,
            total,
            done: 0,
            skipped: 0,
            sum: 0.0,
        })
    }

    fn batch(
        &mut self,
        loss: Tensor<1>,
        by_param: Option<Box<ModuleLearningRate>>,
        step: usize,
        rates: BlockRates,
        on_event: OnEvent<'_>,
    ) -> Result<(), TrainError> {
        let value: f64 = loss.clone().into_scalar();
        if !value.is_finite() {
            return Err(self.loss_error(value, step, rates));
        }
        self.sum += value;
        self.done += 1;
        on_event(TrainEvent::Batch {
            epoch: self.epoch,
            split: self.split,
            done: self.done + self.skipped,
            total: self.total,
            loss,
            rates: by_param,
        })
    }

    fn loss_error(&self, loss: f64, step: usize, rates: BlockRates) -> TrainError {
        TrainError::Loss {
            phase: Phase::BlockAp,
            block: self.epoch.block,
            step,
            loss,
            rates: vec![rates.quantizer, rates.weights],
        }
    }

    fn end(self, on_event: OnEvent<'_>) -> Result<f64, TrainError> {
        let loss = self.sum / self.done.max(1) as f64;
        on_event(TrainEvent::SplitEnd {
            epoch: self.epoch,
            split: self.split,
            loss,
        })?;
        Ok(loss)
    }
}
