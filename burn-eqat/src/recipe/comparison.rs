use crate::train::{StepLoss, TrainError, TrainEvent, catch_ops, validation_loss};
use burn::data::dataloader::DataLoader;
use burn::train::{InferenceStep, LearnerModel};
use serde::{Deserialize, Serialize};

/// The mean loss of E2E-QP's validation batches, of the model that the phase got and of what it made of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Before the phase.
    pub before: f64,
    /// After it.
    pub after: f64,
}

impl Comparison {
    /// Whether the phase made the model worse.
    pub fn is_worse(&self) -> bool {
        // What is not a number is worse than any number.
        self.after.is_nan() || self.after > self.before
    }

    /// Measures a model; tells the observer's events of it.
    pub(super) fn measure<M>(
        model: &M,
        valid: &dyn DataLoader<<M as InferenceStep>::Input>,
        on_event: &mut dyn FnMut(&TrainEvent) -> Result<(), TrainError>,
    ) -> Result<Option<f64>, TrainError>
    where
        M: LearnerModel,
        <M as InferenceStep>::Output: StepLoss,
    {
        catch_ops(|| {
            validation_loss(model, valid, &mut |done, total| {
                on_event(&TrainEvent::Comparison { done, total })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_is_worse() {
        let worse = |before, after| Comparison { before, after }.is_worse();
        assert!(!worse(2.0, 1.9) && !worse(2.0, 2.0));
        assert!(worse(2.0, 2.1) && worse(2.0, f64::INFINITY) && worse(2.0, f64::NAN));
    }
}
