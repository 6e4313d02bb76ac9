use super::Stage;
use crate::train::{ModelError, ProgressLines, TrainError, TrainEvent};

/// Who gets each stage of the recipe, and hears how training goes on. An error ends the recipe.
///
/// A closure that takes a stage is one: `|stage: &Stage<'_, Model>| println!("{}", stage.name)`. It gives back nothing, or a
/// `Result<(), E>` with any error. So is [`ProgressLines`], which writes lines of text, a pair of observers, and `()`,
/// which does nothing.
pub trait Observer<M> {
    /// The model stands at a stage: the place to measure it, and to save it.
    ///
    /// # Errors
    ///
    /// Any error ends the recipe; one of the observer's own is [`TrainError::Callback`].
    fn stage(&mut self, _stage: &Stage<'_, M>) -> Result<(), TrainError> {
        Ok(())
    }

    /// Something happened in a training phase: the place to show progress, and to stop with [`TrainError::Interrupted`].
    ///
    /// # Errors
    ///
    /// As [`stage`](Self::stage).
    fn event(&mut self, _event: &TrainEvent) -> Result<(), TrainError> {
        Ok(())
    }
}

impl<M> Observer<M> for () {}

/// Writes a line for each epoch, and more in long ones.
impl<M> Observer<M> for ProgressLines {
    fn event(&mut self, event: &TrainEvent) -> Result<(), TrainError> {
        ProgressLines::event(self, event);
        Ok(())
    }
}

/// Two observers, one after the other.
impl<M, A: Observer<M>, B: Observer<M>> Observer<M> for (A, B) {
    fn stage(&mut self, stage: &Stage<'_, M>) -> Result<(), TrainError> {
        self.0.stage(stage)?;
        self.1.stage(stage)
    }

    fn event(&mut self, event: &TrainEvent) -> Result<(), TrainError> {
        self.0.event(event)?;
        self.1.event(event)
    }
}

impl<M, R, F> Observer<M> for F
where
    F: FnMut(&Stage<'_, M>) -> R + ?Sized,
    R: StageResult,
{
    fn stage(&mut self, stage: &Stage<'_, M>) -> Result<(), TrainError> {
        self(stage).into_result()
    }
}

/// What a closure that is an [`Observer`] gives back: `()`, or a `Result<(), E>` with any error.
pub trait StageResult {
    /// The error as one of training.
    ///
    /// # Errors
    ///
    /// When the closure failed.
    fn into_result(self) -> Result<(), TrainError>;
}

impl StageResult for () {
    fn into_result(self) -> Result<(), TrainError> {
        Ok(())
    }
}

impl<E: Into<ModelError>> StageResult for Result<(), E> {
    fn into_result(self) -> Result<(), TrainError> {
        // An error of training stays what it is.
        self.map_err(|error| match error.into().downcast::<TrainError>() {
            Ok(error) => *error,
            Err(error) => TrainError::Callback(error),
        })
    }
}
