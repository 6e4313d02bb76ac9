//! The epochs of one block.

use super::copies::Copies;
use super::{BlockApConfig, BlockRates, BlockStep, BlockTrainer};
use crate::train::best::BestSoFar;
use crate::train::cache::Shards;
use crate::train::event::OnEvent;
use crate::train::skips::Skips;
use crate::train::{
    Blockwise, CosineSchedule, DataSplit, Epoch, LearningRates, Phase, TrainError, TrainEvent,
};
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::tensor::{Device, Tensor};

/// The training of one block.
pub(super) struct BlockRun<'a, M: Blockwise> {
    pub config: &'a BlockApConfig,
    pub rates: LearningRates,
    pub index: usize,
    pub blocks: usize,
    /// Where it trains, in the order of the shards.
    pub devices: &'a [Device],
    pub train: &'a Shards<M>,
    pub valid: &'a Shards<M>,
}

impl<M: Blockwise> BlockRun<'_, M> {
    /// The steps of all epochs.
    pub fn steps(&self) -> usize {
        self.config.epochs * self.train.steps()
    }

    /// What part of the rates so many steps have.
    pub fn schedule(&self, steps: usize) -> CosineSchedule {
        CosineSchedule::new(1.0, self.config.final_rate, 0, steps)
    }

    /// The rates of a step, from 0.
    pub fn rates_at(&self, schedule: &CosineSchedule, step: usize) -> BlockRates {
        let rates = BlockRates {
            quantizer: self.rates.quantizer,
            weights: self.rates.weights,
        };
        rates.times(schedule.at(step))
    }

    /// Trains on all samples for the configured epochs, validating after each; returns the model with the trained block.
    pub fn run(
        &self,
        mut trainer: BlockTrainer<M>,
        on_event: OnEvent<'_>,
    ) -> Result<M, TrainError> {
        let (config, index) = (self.config, self.index);
        let schedule = self.schedule(self.steps());
        let at = |step| self.rates_at(&schedule, step);
        let mut skips = Skips::new(config.max_skipped);
        let mut best = config.early_stopping.map(BestSoFar::new);
        let mut copies = Copies::of(trainer.model(), self.devices);
        for number in 0..config.epochs {
            let epoch = Epoch {
                phase: Phase::BlockAp,
                block: Some(index),
                number: index * config.epochs + number + 1,
                epochs: self.blocks * config.epochs,
            };
            let mut split = Pass::start(epoch, DataSplit::Train, self.train.len(), on_event)?;
            let mut step = number * self.train.steps();
            for samples in self.train.samples()? {
                let (rates, mut samples) = (at(step), samples?);
                let count = samples.len();
                let done = match samples.pop() {
                    Some(sample) if self.devices.len() == 1 => trainer.step(sample, rates)?,
                    last => {
                        samples.extend(last);
                        trainer.step_on(&mut copies, samples, rates)?
                    }
                };
                step += 1;
                let error = match done {
                    BlockStep::Taken {
                        loss,
                        rates: by_param,
                    } => {
                        skips.taken();
                        let by_param = Some(by_param);
                        split.batches(count, loss, by_param, step, rates, on_event)?;
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
                split.skipped += count;
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
            let rates = at(step.saturating_sub(1));
            for samples in self.valid.samples()? {
                for sample in samples? {
                    let loss = trainer.validate(&snapshot, sample)?;
                    split.batches(1, loss, None, step, rates, on_event)?;
                }
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

    /// That many batches are done, with this mean loss.
    fn batches(
        &mut self,
        count: usize,
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
        self.sum += value * count as f64;
        self.done += count;
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
