//! Shared code of both phases under Burn's `SupervisedTraining`.

use super::{Phase, TrainError};
use burn::data::dataloader::DataLoader;
use burn::train::{
    Interrupter, Learner, LearnerModel, LearningResult, SupervisedLearningStrategy,
    SupervisedTraining, SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents,
    TrainingStrategy, ValidLoader,
};
use std::sync::{Arc, Mutex, PoisonError};

/// A slot for the error of a strategy, which Burn's interface cannot return.
#[derive(Clone, Debug, Default)]
pub(super) struct ErrorSlot(Arc<Mutex<Option<TrainError>>>);

impl ErrorSlot {
    pub fn put(&self, error: TrainError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub fn take(&self) -> Option<TrainError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn is_empty(&self) -> bool {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.is_none()
    }
}

/// A phase as a strategy: the number of epochs is the phase's own.
struct Counted<S> {
    strategy: S,
    phase: Phase,
    epochs: usize,
    error: ErrorSlot,
}

impl<M: LearnerModel, S: SupervisedLearningStrategy<M>> SupervisedLearningStrategy<M>
    for Counted<S>
{
    fn train(
        &self,
        learner: Learner<M>,
        train: TrainLoader<M>,
        valid: ValidLoader<M>,
        mut components: TrainingComponents<M>,
    ) -> LearningResult<M> {
        let (asked, epochs) = (components.num_epochs, self.epochs);
        // Burn's default is 1, so 1 may as well mean that nothing was set.
        if asked != 1 && asked != epochs {
            self.error.put(TrainError::Setting(format!(
                "num_epochs of the training is {asked}, but {} as configured has {epochs}: leave it out",
                self.phase
            )));
        }
        components.num_epochs = epochs;
        self.strategy.train(learner, train, valid, components)
    }

    fn fit(
        &self,
        components: TrainingComponents<M>,
        learner: Learner<M>,
        train: TrainLoader<M>,
        valid: ValidLoader<M>,
        starting_epoch: usize,
    ) -> (M, SupervisedTrainingEventProcessor<M>) {
        (self.strategy).fit(components, learner, train, valid, starting_epoch)
    }
}

/// Launches a training with a strategy that leaves its error in a slot.
pub(super) fn launch<M: LearnerModel + 'static, S: SupervisedLearningStrategy<M> + 'static>(
    training: SupervisedTraining<M>,
    learner: Learner<M>,
    strategy: S,
    phase: Phase,
    epochs: usize,
    error: ErrorSlot,
) -> Result<M, TrainError> {
    let strategy = Counted {
        strategy,
        phase,
        epochs,
        error: error.clone(),
    };
    let result = training
        .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy)))
        .launch(learner);
    match (error.take(), result.error) {
        // A failure of Burn's own stops the phase through the interrupter.
        (Some(TrainError::Interrupted) | None, Some(error)) => {
            Err(TrainError::Training(error.to_string()))
        }
        (Some(error), _) => Err(error),
        (None, None) if result.interrupted.is_some() => Err(TrainError::Interrupted),
        (None, None) => Ok(result.model),
    }
}

/// Fails if the training was told to stop.
pub(super) fn check_stop(interrupter: &Interrupter) -> Result<(), TrainError> {
    if interrupter.should_stop() {
        Err(TrainError::Interrupted)
    } else {
        Ok(())
    }
}

/// Calls `each` with every batch of a loader.
pub(super) fn for_each_batch<T>(
    loader: &dyn DataLoader<T>,
    mut each: impl FnMut(T),
) -> Result<(), TrainError> {
    for batch in loader.iter() {
        each(batch.map_err(data_error)?);
    }
    Ok(())
}

/// The error of a data loader.
pub(super) fn data_error(error: impl std::fmt::Display) -> TrainError {
    TrainError::Data(error.to_string())
}
