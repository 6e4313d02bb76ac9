//! E2E-QP under Burn's `SupervisedTraining`.

use super::E2eQp;
use super::fit::{Fit, Listener, OneByOne, Schedule, end_to_end, start};
use crate::train::error::catch_ops;
use crate::train::launch::{ErrorSlot, check_stop, launch};
use crate::train::optimizer::adamw;
use crate::train::{DataSplit, Epoch, Phase, StepLoss, TrainError, TrainEvent};
use burn::data::dataloader::Progress;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::tensor::Tensor;
use burn::train::metric::store::EventStoreClient;
use burn::train::{
    CloneEarlyStoppingStrategy, EventProcessorTraining, InferenceStep, Interrupter, Learner,
    LearnerEvent, LearnerModel, LearningCheckpointer, SupervisedLearningStrategy,
    SupervisedTraining, SupervisedTrainingEventProcessor, TrainLoader, TrainStep,
    TrainingComponents, TrainingItem, ValidLoader,
};
use std::sync::Arc;

impl E2eQp {
    /// Trains the step sizes of a packed model under Burn's `SupervisedTraining`, with its loaders, metrics, renderer, loggers,
    /// checkpointers, early stopping and interrupter; returns the model. [`run`](Self::run) does the same without
    /// `SupervisedTraining`.
    ///
    /// The number of epochs comes from the configuration and is set here. Gradient accumulation may be set on the
    /// training or in the configuration. `gradient_checkpointing()` has no effect: Burn does not pass it to strategies,
    /// so it is not an error.
    ///
    /// ```no_run
    /// use burn::train::SupervisedTraining;
    /// use burn_eqat::train::metrics::TokenPerplexityMetric;
    /// use burn_eqat::train::{E2eQpConfig, ProgressLines};
    /// # use burn::data::dataloader::DataLoader;
    /// # use burn::train::{InferenceStep, LearnerModel, TrainStep};
    /// # use burn_eqat::train::{QatOutput, TrainError};
    /// # use std::sync::Arc;
    ///
    /// # fn run<M, B>(config: E2eQpConfig, packed: M, train: Arc<dyn DataLoader<B>>, valid: Arc<dyn DataLoader<B>>)
    /// # -> Result<M, TrainError>
    /// # where
    /// #     B: Send + 'static,
    /// #     M: LearnerModel + TrainStep<Input = B, Output = QatOutput> + InferenceStep<Input = B, Output = QatOutput>,
    /// # {
    /// let training = SupervisedTraining::new("artifacts", train, valid)
    ///     .metric_train_numeric(TokenPerplexityMetric::default())
    ///     .metric_valid_numeric(TokenPerplexityMetric::default())
    ///     .renderer(Box::new(ProgressLines::stderr()));
    /// // `config` is an `E2eQpConfig`.
    /// let tuned = config.init().launch(training, packed)?;
    /// # Ok(tuned)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run); also for several devices, and when the training has a setting that contradicts the
    /// configuration, was interrupted, or failed by itself.
    pub fn launch<M>(&self, training: SupervisedTraining<M>, model: M) -> Result<M, TrainError>
    where
        M: LearnerModel + 'static,
        <M as TrainStep>::Output: StepLoss,
        <M as InferenceStep>::Output: StepLoss,
    {
        self.check_whole("launch")?;
        if self.devices.are_several() {
            let message = "E2E-QP trains on several devices in run_on_devices and run_by_blocks only: launch is on one device";
            return Err(TrainError::Setting(message.to_string()));
        }
        if self.run_dir.is_some() {
            let message =
                "E2E-QP keeps a run directory in run only: take checkpoints of the training here";
            return Err(TrainError::Setting(message.to_string()));
        }
        let (model, schedule) = start(&self.config, model)?;
        let learner = Learner::new(model, adamw(), schedule.clone());
        let error = ErrorSlot::default();
        let strategy = Strategy {
            phase: self.clone(),
            schedule,
            error: error.clone(),
        };
        let epochs = self.config.epochs;
        let model = launch(training, learner, strategy, Phase::E2eQp, epochs, error)?;
        self.finish(model)
    }
}

struct Strategy {
    phase: E2eQp,
    schedule: Schedule,
    error: ErrorSlot,
}

impl Strategy {
    /// Batches of a step, once the settings of the training agree with those of the phase.
    fn accumulation<M: LearnerModel>(
        &self,
        components: &TrainingComponents<M>,
        valid: &ValidLoader<M>,
    ) -> Result<usize, TrainError> {
        if components.early_stopping.is_some() && valid.num_items() == 0 {
            return Err(TrainError::Setting(
                "early_stopping of the training needs validation data, and there is none"
                    .to_string(),
            ));
        }
        if components.checkpoint.is_some() && components.checkpointer.is_none() {
            return Err(TrainError::Setting(
                "checkpoint of the training needs checkpointers, and there are none".to_string(),
            ));
        }
        let configured = self.phase.config.grad_accumulation;
        match components.grad_accumulation {
            Some(set) if configured != 1 && set != configured => Err(TrainError::Setting(format!(
                "grads_accumulation of the training is {set}, but grad_accumulation of E2E-QP is {configured}: set one of \
                 them"
            ))),
            Some(set) => Ok(set),
            None => Ok(configured),
        }
    }
}

impl<M> SupervisedLearningStrategy<M> for Strategy
where
    M: LearnerModel,
    <M as TrainStep>::Output: StepLoss,
    <M as InferenceStep>::Output: StepLoss,
{
    fn fit(
        &self,
        components: TrainingComponents<M>,
        mut learner: Learner<M>,
        train: TrainLoader<M>,
        valid: ValidLoader<M>,
        starting_epoch: usize,
    ) -> (M, SupervisedTrainingEventProcessor<M>) {
        let accumulation = self.accumulation(&components, &valid);
        let forward = Forward {
            processor: components.event_processor,
            interrupter: components.interrupter,
            checkpointer: components.checkpointer,
            early_stopping: components.early_stopping,
            event_store: components.event_store,
        };
        if !self.error.is_empty() {
            return (learner.model(), forward.processor);
        }
        let batches = *accumulation.as_ref().unwrap_or(&1);
        let mut fit = Fit::new(self.schedule.clone(), batches, forward);
        let result = accumulation.and_then(|_| {
            let steps = OneByOne(end_to_end);
            catch_ops(|| fit.run(&mut learner, train, valid, starting_epoch, &steps))
        });
        let model = result.unwrap_or_else(|error| {
            self.error.put(error);
            learner.model()
        });
        (model, fit.listener.processor)
    }
}

/// Passes everything on to Burn: events, checkpoints, early stopping.
struct Forward<M: LearnerModel> {
    processor: SupervisedTrainingEventProcessor<M>,
    interrupter: Interrupter,
    checkpointer: Option<LearningCheckpointer<M>>,
    early_stopping: Option<Box<dyn CloneEarlyStoppingStrategy>>,
    event_store: Arc<EventStoreClient>,
}

impl<M: LearnerModel> Forward<M> {
    fn train(&mut self, event: LearnerEvent<<M as TrainStep>::Output>) -> Result<(), TrainError> {
        let result = self.processor.process_train(event);
        self.interrupter.fail_on_error(result);
        check_stop(&self.interrupter)
    }

    fn valid(
        &mut self,
        event: LearnerEvent<<M as InferenceStep>::Output>,
    ) -> Result<(), TrainError> {
        let result = self.processor.process_valid(event);
        self.interrupter.fail_on_error(result);
        check_stop(&self.interrupter)
    }
}

impl<M: LearnerModel> Listener<M, Learner<M>> for Forward<M> {
    fn event(&mut self, event: TrainEvent) -> Result<(), TrainError> {
        match event {
            TrainEvent::SplitStart {
                epoch,
                split,
                total,
            } => {
                let (epoch_number, total_items) = (epoch.number, total);
                match split {
                    DataSplit::Train => self.train(LearnerEvent::StartSplit {
                        epoch_number,
                        total_items,
                    }),
                    DataSplit::Valid => self.valid(LearnerEvent::StartSplit {
                        epoch_number,
                        total_items,
                    }),
                }
            }
            TrainEvent::SplitEnd { epoch, split, .. } => match split {
                DataSplit::Train => self.train(LearnerEvent::EndSplit(epoch.number)),
                DataSplit::Valid => self.valid(LearnerEvent::EndSplit(epoch.number)),
            },
            TrainEvent::EpochEnd { epoch } => self.train(LearnerEvent::EndEpoch(epoch.number)),
            TrainEvent::PhaseStart { .. }
            | TrainEvent::Resumed { .. }
            | TrainEvent::Rates { .. }
            | TrainEvent::Skipped { .. }
            | TrainEvent::Batch { .. }
            | TrainEvent::Pass { .. }
            | TrainEvent::BlockEnd { .. }
            | TrainEvent::Comparison { .. } => check_stop(&self.interrupter),
        }
    }

    fn trained(
        &mut self,
        _epoch: Epoch,
        progress: Progress,
        iteration: usize,
        rates: Option<ModuleLearningRate>,
        _loss: Tensor<1>,
        output: <M as TrainStep>::Output,
    ) -> Result<(), TrainError> {
        let item = TrainingItem::new(output, progress, Some(iteration), rates);
        self.train(LearnerEvent::ProcessedItem(item))
    }

    fn validated(
        &mut self,
        _epoch: Epoch,
        progress: Progress,
        iteration: usize,
        _loss: Tensor<1>,
        output: <M as InferenceStep>::Output,
    ) -> Result<(), TrainError> {
        let item = TrainingItem::new(output, progress, Some(iteration), None);
        self.valid(LearnerEvent::ProcessedItem(item))
    }

    fn is_enough(&mut self, learner: &Learner<M>, epoch: usize) -> bool {
        if self.checkpointer.is_some() || self.early_stopping.is_some() {
            let flushed = self.processor.flush();
            self.interrupter.fail_on_error(flushed);
        }
        if let Some(checkpointer) = &mut self.checkpointer {
            checkpointer.checkpoint(learner, epoch, &self.event_store);
        }
        let early_stopping = self.early_stopping.as_mut();
        early_stopping.is_some_and(|strategy| strategy.should_stop(epoch, &self.event_store))
    }
}
