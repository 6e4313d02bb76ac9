use super::E2eQpConfig;
use super::fit::{Fit, Listener, check_finite, end_to_end, start};
use crate::Quantize;
use crate::train::error::catch_ops;
use crate::train::event::OnEvent;
use crate::train::{DataSplit, Epoch, StepLoss, TrainError, TrainEvent};
use burn::data::dataloader::{DataLoader, Progress};
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::tensor::Tensor;
use burn::train::{InferenceStep, LearnerModel, TrainStep};
use std::sync::Arc;

/// E2E-QP: trains the step sizes of a packed model, end to end, on the loss of its own `TrainStep` (the paper's section 3.3).
///
/// Everything else is frozen: codes and zero points are integers, and the phase freezes the rest. Made by
/// [`E2eQpConfig::init`].
///
/// There are two ways to run it, which do the same: [`launch`](Self::launch) under Burn's `SupervisedTraining` (metrics,
/// dashboard, checkpoints, interruption), and [`run`](Self::run) with nothing but data and a callback. Where activations are
/// too large for memory, [`run_by_blocks`](Self::run_by_blocks) keeps those of one block.
#[derive(Clone, Debug)]
pub struct E2eQp {
    pub(super) config: E2eQpConfig,
}

impl E2eQp {
    /// The configuration.
    pub fn config(&self) -> &E2eQpConfig {
        &self.config
    }

    /// Trains the step sizes of a packed model; returns it. The training data is read once more than there are epochs, to count
    /// its batches.
    ///
    /// `on_event` hears of each batch and epoch, and may stop the phase with an error.
    ///
    /// [`BlockAp::run`](crate::train::BlockAp::run) is the same for the other phase, with an example, and
    /// [`launch`](Self::launch) runs under Burn's `SupervisedTraining`.
    ///
    /// # Errors
    ///
    /// When the model has no packed weights, there is no training batch, or a loss or a gradient is not finite (the error names
    /// the step and the learning rate).
    pub fn run<M>(
        &self,
        model: M,
        train: Arc<dyn DataLoader<<M as TrainStep>::Input>>,
        valid: Arc<dyn DataLoader<<M as InferenceStep>::Input>>,
        on_event: &mut dyn FnMut(TrainEvent) -> Result<(), TrainError>,
    ) -> Result<M, TrainError>
    where
        M: LearnerModel,
        <M as TrainStep>::Output: StepLoss,
        <M as InferenceStep>::Output: StepLoss,
    {
        catch_ops(|| {
            self.check_whole("run")?;
            let (mut learner, schedule) = start(&self.config, model)?;
            let accumulation = self.config.grad_accumulation;
            let mut fit = Fit::new(schedule, accumulation, Callback(on_event));
            let model = fit.run(&mut learner, train, valid, 1, &end_to_end)?;
            self.finish(model)
        })
    }

    /// Refuses to go by blocks where the model is taken as a whole.
    pub(super) fn check_whole(&self, called: &str) -> Result<(), TrainError> {
        if self.config.recompute {
            let message = format!(
                "recompute of E2E-QP needs E2eQp::run_by_blocks: E2eQp::{called} knows no blocks"
            );
            return Err(TrainError::Setting(message));
        }
        Ok(())
    }

    /// The model as it leaves the phase.
    pub(super) fn finish<M: LearnerModel>(&self, model: M) -> Result<M, TrainError> {
        let model = model.valid();
        check_finite(&model)?;
        Ok(if self.config.round_scales {
            model.round_scales()
        } else {
            model
        })
    }
}

/// A callback that hears of events.
pub(super) struct Callback<'a>(pub OnEvent<'a>);

impl<M: LearnerModel, O> Listener<M, O> for Callback<'_> {
    fn event(&mut self, event: TrainEvent) -> Result<(), TrainError> {
        (self.0)(event)
    }

    fn trained(
        &mut self,
        epoch: Epoch,
        progress: Progress,
        _iteration: usize,
        rates: Option<ModuleLearningRate>,
        loss: Tensor<1>,
        _output: O,
    ) -> Result<(), TrainError> {
        (self.0)(TrainEvent::Batch {
            epoch,
            split: DataSplit::Train,
            done: progress.items_processed,
            total: progress.items_total,
            loss,
            rates: rates.map(Box::new),
        })
    }

    fn validated(
        &mut self,
        epoch: Epoch,
        progress: Progress,
        _iteration: usize,
        loss: Tensor<1>,
        _output: <M as InferenceStep>::Output,
    ) -> Result<(), TrainError> {
        (self.0)(TrainEvent::Batch {
            epoch,
            split: DataSplit::Valid,
            done: progress.items_processed,
            total: progress.items_total,
            loss,
            rates: None,
        })
    }
}
