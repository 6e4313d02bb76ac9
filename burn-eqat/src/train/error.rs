use crate::QuantizeError;
use std::sync::{Arc, Mutex};

/// Training that could not go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TrainError {
    /// A loss that is not finite.
    #[error(
        "the loss of {place}, step {step} is {loss}, with learning rate {rates}: \
         expected a finite number (a lower rate may help)"
    )]
    Loss {
        /// The block, or the phase where there are no blocks.
        place: String,
        /// The step, from 1.
        step: usize,
        /// The loss.
        loss: f64,
        /// The learning rate, or rates, of the step.
        rates: String,
    },
    /// The model cannot be quantized as asked.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// Selected weights that Block-AP would never come to.
    #[error("{outside} of the selected weights are in no block of the model")]
    OutsideBlocks {
        /// How many.
        outside: usize,
    },
    /// Gradients that are not finite.
    #[error("the gradients of step {step} have the norm {norm}, expected a finite number")]
    Gradient {
        /// The step, from 1.
        step: usize,
        /// The norm.
        norm: f64,
    },
    /// There is nothing to train on.
    #[error("the training data has no batch")]
    NoData,
    /// A data loader failed.
    #[error("data loader: {0}")]
    Data(String),
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// Stopped on request.
    #[error("training was interrupted")]
    Interrupted,
}

/// Fails when a loss is not finite.
pub(super) fn check_loss(
    loss: f64,
    place: impl FnOnce() -> String,
    step: usize,
    rates: impl FnOnce() -> String,
) -> Result<(), TrainError> {
    match loss.is_finite() {
        true => Ok(()),
        false => Err(TrainError::Loss {
            place: place(),
            step,
            loss,
            rates: rates(),
        }),
    }
}

/// Where a strategy leaves the error that its interface has no way to give back.
#[derive(Clone, Debug, Default)]
pub(super) struct ErrorSlot(Arc<Mutex<Option<TrainError>>>);

impl ErrorSlot {
    pub fn put(&self, error: TrainError) {
        *self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
    }

    pub fn take(&self) -> Option<TrainError> {
        let mut slot = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        slot.take()
    }
}
