use super::launch::data_error;
use super::{StepLoss, TrainError};
use burn::data::dataloader::DataLoader;
use burn::train::{InferenceStep, LearnerModel};

/// The mean loss of a model's validation batches, as E2E-QP reckons it; `None` where there are none. `on_batch` gets how many
/// items are done, of how many, and may stop with an error. A loss that is not finite is no error: no model is worse.
pub(crate) fn validation_loss<M>(
    model: &M,
    valid: &dyn DataLoader<<M as InferenceStep>::Input>,
    on_batch: &mut dyn FnMut(usize, usize) -> Result<(), TrainError>,
) -> Result<Option<f64>, TrainError>
where
    M: LearnerModel,
    <M as InferenceStep>::Output: StepLoss,
{
    let Some(device) = model.devices().into_iter().next() else {
        return Ok(None);
    };
    let valid = valid.to_device(&device.inner());
    let (mut sum, mut count) = (0.0, 0usize);
    let mut batches = valid.iter();
    while let Some(batch) = batches.next() {
        let batch = batch.map_err(data_error)?;
        let loss: f64 = InferenceStep::step(model, batch).loss().into_scalar();
        sum += loss;
        count += 1;
        let progress = batches.progress();
        on_batch(progress.items_processed, progress.items_total)?;
    }
    Ok((count > 0).then(|| sum / count as f64))
}
