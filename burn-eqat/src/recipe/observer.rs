use super::Stage;
use crate::train::{ModelError, ProgressLines, TrainError, TrainEvent};

/// A callback that gets each stage of the recipe and each training event. An error ends the recipe.
///
/// These are observers: a closure that takes a stage, `|stage: &Stage<'_, Model>| println!("{}", stage.name)`, and
/// returns nothing or a `Result<(), E>` with any error; [`ProgressLines`], which writes a line for each epoch; a pair
/// of observers; and `()`, which does nothing.
///
/// ```
/// use burn_eqat::train::{ProgressLines, TrainError};
/// use burn_eqat::{Observer, Stage, StageName};
///
/// /// Keeps the model that was rounded to nearest.
/// #[derive(Default)]
/// struct KeepRtn<M>(Option<M>);
///
/// impl<M: Clone> Observer<M> for KeepRtn<M> {
///     fn stage(&mut self, stage: &Stage<'_, M>) -> Result<(), TrainError> {
///         if stage.name == StageName::Rtn {
///             self.0 = Some(stage.model.clone());
///         }
///         Ok(())
///     }
/// }
///
/// // Two observers, of which the second shows progress.
/// let mut observer = (KeepRtn(None), ProgressLines::stderr());
/// # let size_report = Default::default();
/// # let stage = Stage { name: StageName::Rtn, model: &"a model", size_report, seconds: 0.0, rates: None, comparison: None };
/// # observer.stage(&stage)?;
/// # assert_eq!(observer.0.0, Some("a model"));
/// # Ok::<(), TrainError>(())
/// ```
pub trait Observer<M> {
    /// The model has reached a stage. Measure or save it here.
    ///
    /// # Errors
    ///
    /// Any error ends the recipe. Use [`TrainError::Callback`] for your own errors.
    fn stage(&mut self, _stage: &Stage<'_, M>) -> Result<(), TrainError> {
        Ok(())
    }

    /// An event of a training phase. Show progress here, or stop with [`TrainError::Interrupted`].
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

/// The return type of a closure that is an [`Observer`]: `()`, or a `Result<(), E>` with any error.
pub trait StageResult {
    /// Converts the error to a [`TrainError`].
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
        // A training error is kept.
        self.map_err(|error| match error.into().downcast::<TrainError>() {
            Ok(error) => *error,
            Err(error) => TrainError::Callback(error),
        })
    }
}
