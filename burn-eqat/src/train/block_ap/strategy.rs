//! Block-AP under Burn's `SupervisedTraining`.

use super::BlockAp;
use crate::train::error::catch_ops;
use crate::train::launch::{ErrorSlot, check_stop, launch};
use crate::train::{Blockwise, DataSplit, Phase, Reconstruction, TrainError, TrainEvent};
use burn::data::dataloader::Progress;
use burn::optim::AdamWConfig;
use burn::train::{
    EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent, LearnerModel,
    SupervisedLearningStrategy, SupervisedTraining, SupervisedTrainingEventProcessor, TrainLoader,
    TrainStep, TrainingComponents, TrainingItem, ValidLoader,
};

impl BlockAp {
    /// Quantizes a full-precision model under Burn's `SupervisedTraining`, with its loaders, metrics, renderer, loggers and
    /// interrupter. Returns the model with every selected weight packed. [`run`](Self::run) does the same without
    /// `SupervisedTraining`.
    ///
    /// Each epoch of each block is an epoch of the training, so the number of epochs is set here. A phase that goes
    /// block by block does not support the training's checkpointers, early stopping and gradient accumulation, so these
    /// are errors; set early stopping in [`BlockApConfig`](super::BlockApConfig). `gradient_checkpointing()` has no
    /// effect: Burn does not pass it to strategies, so it is not an error.
    ///
    /// ```no_run
    /// use burn::train::SupervisedTraining;
    /// use burn_eqat::train::metrics::ReconstructionLossMetric;
    /// use burn_eqat::train::{BlockApConfig, ProgressLines};
    /// # use burn::data::dataloader::DataLoader;
    /// # use burn::train::{InferenceStep, LearnerModel, TrainStep};
    /// # use burn_eqat::train::{Blockwise, QatOutput, TrainError};
    /// # use std::sync::Arc;
    ///
    /// # fn run<M, B>(config: BlockApConfig, model: M, train: Arc<dyn DataLoader<B>>, valid: Arc<dyn DataLoader<B>>)
    /// # -> Result<M, TrainError>
    /// # where
    /// #     B: Clone + Send + 'static,
    /// #     M: LearnerModel + Blockwise<Batch = B> + TrainStep<Input = B, Output = QatOutput> + InferenceStep<Input = B, Output = QatOutput>,
    /// # {
    /// let training = SupervisedTraining::new("artifacts", train, valid)
    ///     .metric_train_numeric(ReconstructionLossMetric::default())
    ///     .metric_valid_numeric(ReconstructionLossMetric::default())
    ///     .renderer(Box::new(ProgressLines::stderr()));
    /// // `config` is a `BlockApConfig`.
    /// let packed = config.init().launch(training, model)?;
    /// # Ok(packed)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run). Also for several devices, and when the training has an unsupported setting, was
    /// interrupted, or failed by itself.
    pub fn launch<M>(&self, training: SupervisedTraining<M>, model: M) -> Result<M, TrainError>
    where
        M: LearnerModel
            + Blockwise<Batch = <M as TrainStep>::Input>
            + InferenceStep<Input = <M as TrainStep>::Input>
            + 'static,
        <M as TrainStep>::Output: From<Reconstruction>,
        <M as InferenceStep>::Output: From<Reconstruction>,
    {
        if self.devices.are_several() {
            let message = "Block-AP trains on several devices in run only: launch is on one device";
            return Err(TrainError::Setting(message.to_string()));
        }
        let (epochs, error) = (self.num_epochs(&model), ErrorSlot::default());
        let strategy = Strategy {
            phase: self.clone(),
            error: error.clone(),
        };
        // Block-AP has an optimizer for each block: the learner's own is not used.
        let learner = Learner::new(model, AdamWConfig::new().init(), 0.0);
        launch(training, learner, strategy, Phase::BlockAp, epochs, error)
    }
}

struct Strategy {
    phase: BlockAp,
    error: ErrorSlot,
}

impl<M> SupervisedLearningStrategy<M> for Strategy
where
    M: LearnerModel
        + Blockwise<Batch = <M as TrainStep>::Input>
        + InferenceStep<Input = <M as TrainStep>::Input>,
    <M as TrainStep>::Output: From<Reconstruction>,
    <M as InferenceStep>::Output: From<Reconstruction>,
{
    fn fit(
        &self,
        components: TrainingComponents<M>,
        learner: Learner<M>,
        train: TrainLoader<M>,
        valid: ValidLoader<M>,
        _starting_epoch: usize,
    ) -> (M, SupervisedTrainingEventProcessor<M>) {
        let refused = refused(&components);
        let mut forward = Forward::<M> {
            processor: components.event_processor,
            interrupter: components.interrupter,
            iteration: 0,
        };
        let model = learner.model();
        if !self.error.is_empty() {
            return (model, forward.processor);
        }
        let result = refused.and_then(|()| {
            catch_ops(|| {
                (self.phase).fit(model.clone(), &*train, &*valid, &mut |event| {
                    forward.event(event)
                })
            })
        });
        let model = result.unwrap_or_else(|error| {
            self.error.put(error);
            model
        });
        (model, forward.processor)
    }
}

/// Fails if the training has a setting that Block-AP does not support.
fn refused<M: LearnerModel>(components: &TrainingComponents<M>) -> Result<(), TrainError> {
    let settings = [
        ("checkpointers", components.checkpointer.is_some()),
        ("checkpoint", components.checkpoint.is_some()),
        ("early_stopping", components.early_stopping.is_some()),
        ("grads_accumulation", components.grad_accumulation.is_some()),
    ];
    match settings.into_iter().find(|(_, set)| *set) {
        None => Ok(()),
        Some((name, _)) => {
            let advice = if name == "early_stopping" {
                "set it in BlockApConfig instead"
            } else {
                "leave it out"
            };
            Err(TrainError::Setting(format!(
                "Block-AP cannot follow {name} of the training: {advice}"
            )))
        }
    }
}

/// Passes events on to Burn's event processor.
struct Forward<M: LearnerModel> {
    processor: SupervisedTrainingEventProcessor<M>,
    interrupter: Interrupter,
    /// Batches of the split so far.
    iteration: usize,
}

impl<M> Forward<M>
where
    M: LearnerModel,
    <M as TrainStep>::Output: From<Reconstruction>,
    <M as InferenceStep>::Output: From<Reconstruction>,
{
    fn event(&mut self, event: TrainEvent) -> Result<(), TrainError> {
        let result = match event {
            TrainEvent::SplitStart {
                epoch,
                split,
                total,
            } => {
                self.iteration = 0;
                let (epoch_number, total_items) = (epoch.number, total);
                match split {
                    DataSplit::Train => self.processor.process_train(LearnerEvent::StartSplit {
                        epoch_number,
                        total_items,
                    }),
                    DataSplit::Valid => self.processor.process_valid(LearnerEvent::StartSplit {
                        epoch_number,
                        total_items,
                    }),
                }
            }
            TrainEvent::Batch {
                split,
                done,
                total,
                loss,
                rates,
                ..
            } => {
                self.iteration += 1;
                let progress = Progress::new(done, total, Some("batches".to_string()));
                let (step, iteration) = (Reconstruction { loss }, Some(self.iteration));
                let rates = rates.map(|rates| *rates);
                match split {
                    DataSplit::Train => {
                        let item = TrainingItem::new(step.into(), progress, iteration, rates);
                        self.processor
                            .process_train(LearnerEvent::ProcessedItem(item))
                    }
                    DataSplit::Valid => {
                        let item = TrainingItem::new(step.into(), progress, iteration, rates);
                        self.processor
                            .process_valid(LearnerEvent::ProcessedItem(item))
                    }
                }
            }
            TrainEvent::SplitEnd { epoch, split, .. } => match split {
                DataSplit::Train => self
                    .processor
                    .process_train(LearnerEvent::EndSplit(epoch.number)),
                DataSplit::Valid => self
                    .processor
                    .process_valid(LearnerEvent::EndSplit(epoch.number)),
            },
            TrainEvent::EpochEnd { epoch } => self
                .processor
                .process_train(LearnerEvent::EndEpoch(epoch.number)),
            TrainEvent::PhaseStart { .. }
            | TrainEvent::Resumed { .. }
            | TrainEvent::Rates { .. }
            | TrainEvent::Skipped { .. }
            | TrainEvent::Pass { .. }
            | TrainEvent::BlockEnd { .. }
            | TrainEvent::Comparison { .. } => Ok(()),
        };
        self.interrupter.fail_on_error(result);
        check_stop(&self.interrupter)
    }
}
