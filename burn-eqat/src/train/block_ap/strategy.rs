use super::{BlockAp, BlockApEvent};
use crate::train::output::Reconstruction;
use crate::train::{Blockwise, TrainError};
use burn::data::dataloader::{DataLoader, Progress};
use burn::optim::AdamWConfig;
use burn::train::{
    EventProcessorTraining, InferenceStep, Learner, LearnerEvent, LearnerModel,
    SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader, TrainStep,
    TrainingComponents, TrainingItem, ValidLoader,
};

impl BlockAp {
    /// A learner for a model, as `SupervisedTraining::launch` takes one. Block-AP has an optimizer for
    /// each block, so the learner's own is not used.
    pub fn learner<M: LearnerModel>(&self, model: M) -> Learner<M> {
        let rate = self.config.quant_learning_rate;
        Learner::new(model, AdamWConfig::new().init(), rate)
    }
}

/// Each epoch of each block is an epoch of the training; the loaders are read once. A failure stops
/// the training, with the error in [`BlockAp::take_error`] and the model as it was. Checkpoints, early
/// stopping and accumulation set on the training itself mean nothing to a phase that goes block by
/// block, and are refused; early stopping is in [`BlockApConfig`](super::BlockApConfig).
impl<M> SupervisedLearningStrategy<M> for BlockAp
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
        dataloader_train: TrainLoader<M>,
        dataloader_valid: ValidLoader<M>,
        _starting_epoch: usize,
    ) -> (M, SupervisedTrainingEventProcessor<M>) {
        let model = learner.model();
        let mut processor = components.event_processor;
        let interrupter = components.interrupter;
        let device = model.devices()[0].clone().inner();
        let mut iteration = 0;

        let foreign = components.checkpointer.is_some()
            || components.checkpoint.is_some()
            || components.early_stopping.is_some()
            || components.grad_accumulation.is_some();
        let allowed = match foreign {
            true => Err(TrainError::Setting(
                "Block-AP takes no checkpointer, early stopping or gradient accumulation of the \
                 training: set early stopping in its configuration"
                    .to_string(),
            )),
            false => Ok(()),
        };
        let result = allowed
            .and_then(|()| read_all(&*dataloader_train.to_device(&device)))
            .and_then(|train| Ok((train, read_all(&*dataloader_valid.to_device(&device))?)))
            .and_then(|(train, valid)| {
                self.run(model.clone(), train, valid, &mut |event| {
                    self.forward::<M>(event, &mut iteration, &mut processor, &interrupter);
                    match interrupter.should_stop() {
                        true => Err(TrainError::Interrupted),
                        false => Ok(()),
                    }
                })
            });
        match result {
            Ok(packed) => (packed, processor),
            Err(error) => {
                interrupter.stop(Some(&error.to_string()));
                self.error.put(error);
                (model, processor)
            }
        }
    }
}

impl BlockAp {
    /// Tells Burn's event processor what happened.
    fn forward<M>(
        &self,
        event: BlockApEvent,
        iteration: &mut usize,
        processor: &mut SupervisedTrainingEventProcessor<M>,
        interrupter: &burn::train::Interrupter,
    ) where
        M: LearnerModel,
        <M as TrainStep>::Output: From<Reconstruction>,
        <M as InferenceStep>::Output: From<Reconstruction>,
    {
        let epoch_number = |block: usize, epoch: usize| block * self.config.epochs + epoch + 1;
        let result = match event {
            BlockApEvent::SplitStart {
                block,
                epoch,
                batches,
                validation,
            } => {
                *iteration = 0;
                let epoch_number = epoch_number(block, epoch);
                let total_items = batches;
                match validation {
                    false => processor.process_train(LearnerEvent::StartSplit {
                        epoch_number,
                        total_items,
                    }),
                    true => processor.process_valid(LearnerEvent::StartSplit {
                        epoch_number,
                        total_items,
                    }),
                }
            }
            BlockApEvent::Batch {
                done,
                batches,
                loss,
                rates,
                ..
            } => {
                *iteration += 1;
                let progress = Progress::new(done, batches, Some("batches".to_string()));
                let step = Reconstruction { loss };
                match rates {
                    Some(_) => {
                        let item =
                            TrainingItem::new(step.into(), progress, Some(*iteration), rates);
                        processor.process_train(LearnerEvent::ProcessedItem(item))
                    }
                    None => {
                        let item = TrainingItem::new(step.into(), progress, Some(*iteration), None);
                        processor.process_valid(LearnerEvent::ProcessedItem(item))
                    }
                }
            }
            BlockApEvent::SplitEnd {
                block,
                epoch,
                validation,
                ..
            } => {
                let epoch = epoch_number(block, epoch);
                match validation {
                    false => processor.process_train(LearnerEvent::EndSplit(epoch)),
                    true => processor.process_valid(LearnerEvent::EndSplit(epoch)),
                }
            }
            BlockApEvent::EpochEnd { block, epoch } => {
                processor.process_train(LearnerEvent::EndEpoch(epoch_number(block, epoch)))
            }
            BlockApEvent::BlockEnd { .. } => Ok(()),
        };
        interrupter.fail_on_error(result);
    }
}

/// Every batch of a loader.
fn read_all<T>(loader: &dyn DataLoader<T>) -> Result<Vec<T>, TrainError> {
    loader
        .iter()
        .map(|batch| batch.map_err(|error| TrainError::Data(error.to_string())))
        .collect()
}
