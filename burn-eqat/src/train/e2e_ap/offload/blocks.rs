//! The blocks of a model in their files, and the step that each takes in the backward pass.

use super::block_file::BlockFile;
use crate::RunDir;
use crate::train::by_blocks::Blocks;
use crate::train::clip::{grad_norm, scale_grads};
use crate::train::e2e_ap::trainee::rates_of;
use crate::train::e2e_qp::Schedule;
use crate::train::param_rates::ParamRates;
use crate::train::trained::train_block;
use crate::train::{Blockwise, CacheDType, LearningRates, TrainError};
use burn::lr_scheduler::LrScheduler;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// A model in training whose blocks are in files.
pub(in crate::train::e2e_ap) struct InFiles<M> {
    pub(super) run: RunDir,
    /// For each block the model with that one alone, fake-quantized and without its numbers, where no gradients are recorded.
    pub(super) skeletons: Vec<M>,
    /// The file of each block as it is now.
    pub(super) files: Vec<BlockFile>,
    /// The names of those that the run can go back to.
    pub(super) kept: Vec<String>,
    /// The paths of the weights that are fake-quantized.
    pub(super) weights: Vec<String>,
    pub(super) schedule: Schedule,
    pub(super) highest: LearningRates,
    /// What rates in step sizes are multiples of, block by block.
    pub(super) params: Vec<ParamRates>,
    pub(super) max_norm: f64,
    /// The type of moments in the files.
    pub(super) moments: CacheDType,
    /// The norm of all gradients of the step before.
    pub(super) norm_before: Option<f64>,
    /// The norm of the last gradients, if they are not finite.
    pub(super) wrong: Option<f64>,
    /// Steps taken, also those that were left out.
    pub(super) steps: usize,
    /// The rates of the last step.
    pub(super) rates: ModuleLearningRate,
}

impl<M: Blockwise> InFiles<M> {
    /// The rates of the next step, with these sizes.
    fn next_rates(&self, params: &ParamRates) -> ModuleLearningRate {
        rates_of(params, self.schedule.clone().step(), self.highest)
    }

    /// One step further, with these rates.
    pub(super) fn advance(&mut self) {
        self.rates = self.next_rates(&ParamRates::default());
        self.schedule.step();
        self.steps += 1;
    }

    /// The model with the numbers of block `index`.
    pub(super) fn block(&self, index: usize) -> Result<M, TrainError> {
        self.files[index].read(&self.run, self.skeletons[index].clone())
    }
}

/// A step on one batch.
pub(super) struct Step<'a, M> {
    files: &'a mut InFiles<M>,
    /// The sum of the squares of all gradients so far.
    squares: f64,
}

impl<'a, M: Blockwise> Step<'a, M> {
    pub fn new(files: &'a mut InFiles<M>) -> Self {
        files.wrong = None;
        Self {
            files,
            squares: 0.0,
        }
    }

    /// Keeps the norm of all gradients for the next step.
    pub fn end(self) {
        if self.squares > 0.0 {
            self.files.norm_before = Some(self.squares.sqrt());
        }
    }
}

impl<M: Blockwise> Blocks<M> for Step<'_, M> {
    fn plain(&mut self, index: usize) -> Result<M, TrainError> {
        self.files.block(index)
    }

    fn training(&mut self, index: usize) -> Result<M, TrainError> {
        let block = self.files.block(index)?.train();
        let (path, weights) = (&self.files.files[index].path, &self.files.weights);
        Ok(train_block(block, path, &|param| {
            weights.iter().any(|weight| weight == param)
        }))
    }

    fn begins(&mut self, loss: &Tensor<1>) -> bool {
        loss.clone().into_scalar::<f64>().is_finite()
    }

    fn take(
        &mut self,
        index: Option<usize>,
        model: M,
        grads: GradientsParams,
    ) -> Result<bool, TrainError> {
        let Some(index) = index else {
            // Nothing outside of the blocks trains.
            return Ok(true);
        };
        let norm = grad_norm(&model, &grads);
        if !norm.is_finite() {
            // The blocks behind this one have had their step.
            self.files.wrong = Some(norm);
            return Ok(false);
        }
        self.squares += norm * norm;
        // The norm of all is known at the end only: that of the step before stands for it, and that of the blocks so far.
        let all = self.files.norm_before.unwrap_or(0.0);
        let all = all.max(self.squares.sqrt());
        let grads = match all > self.files.max_norm {
            true => scale_grads(&model, grads, self.files.max_norm / (all + 1e-6)),
            false => grads,
        };
        let files = &mut *self.files;
        let before = &files.files[index];
        let rates = files.next_rates(&files.params[index]);
        let mut optim = before.optimizer(&files.run, &model)?;
        let model = optim.step(rates, model, grads);
        let (step, trained) = (files.steps + 1, model.valid());
        let after = before.after(&files.run, step, &trained, &optim, files.moments)?;
        if !files.kept.contains(&before.name) {
            before.remove(&files.run);
        }
        files.files[index] = after;
        Ok(true)
    }
}
