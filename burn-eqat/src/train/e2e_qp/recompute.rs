use super::E2eQp;
use super::fit::BatchStep;
use crate::train::error::catch_ops;
use crate::train::{Blockwise, StepLoss, TrainError, TrainEvent, backward_by_blocks};
use burn::data::dataloader::DataLoader;
use burn::train::{InferenceStep, LearnerModel, TrainStep};
use std::sync::Arc;

impl E2eQp {
    /// As [`run`](Self::run), by [`backward_by_blocks`]: it ends with the same step sizes, to rounding. Activations of one block
    /// are in memory at a time, however many there are, and the blocks are run once more for that. It does so whether or not
    /// the configuration says `recompute`.
    ///
    /// It trains on the devices of [`with_devices`](Self::with_devices) as [`run_on_devices`](Self::run_on_devices) does.
    ///
    /// The loss is that of [`Blockwise::output_loss`]; the model's `TrainStep` is not run.
    ///
    /// # Errors
    ///
    /// As [`run_on_devices`](Self::run_on_devices); also when the model's own code fails, or has no `output_loss`.
    pub fn run_by_blocks<M>(
        &self,
        model: M,
        train: Arc<dyn DataLoader<<M as TrainStep>::Input>>,
        valid: Arc<dyn DataLoader<<M as InferenceStep>::Input>>,
        on_event: &mut dyn FnMut(TrainEvent) -> Result<(), TrainError>,
    ) -> Result<M, TrainError>
    where
        M: LearnerModel + Blockwise<Batch = <M as TrainStep>::Input>,
        <M as InferenceStep>::Output: StepLoss,
    {
        catch_ops(|| {
            self.fit_on_devices(model, train, valid, on_event, |model, batch| {
                let (loss, grads) = backward_by_blocks(model, batch)?;
                Ok(BatchStep {
                    loss,
                    output: (),
                    grads,
                })
            })
        })
    }
}
