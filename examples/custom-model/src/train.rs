//! Training in full precision, and measuring, in plain Burn without quantization.

use crate::images::ImageBatch;
use burn::data::dataloader::DataLoader;
use burn::data::dataset::DatasetError;
use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::AdamWConfig;
use burn::tensor::{Int, Tensor};
use burn::train::{ClassificationOutput, InferenceStep, LearnerModel, TrainStep};
use std::sync::Arc;

/// Batches of images.
pub type Loader = Arc<dyn DataLoader<ImageBatch>>;

/// A model that learns to classify images.
pub trait Classifier:
    LearnerModel
    + TrainStep<Input = ImageBatch, Output = ClassificationOutput>
    + InferenceStep<Input = ImageBatch, Output = ClassificationOutput>
{
    /// Images `[batch, 3, SIZE, SIZE]` to logits `[batch, CLASSES]`.
    fn logits(&self, images: Tensor<4>) -> Tensor<2>;
}

/// The output of a step: the cross-entropy of logits `[batch, classes]`, with the logits and classes.
pub fn classified(logits: Tensor<2>, classes: Tensor<1, Int>) -> ClassificationOutput {
    let loss = CrossEntropyLossConfig::new()
        .init(&logits.device())
        .forward(logits.clone(), classes.clone());
    ClassificationOutput::new(loss, logits, classes)
}

/// Trains a model with AdamW along a cosine.
///
/// # Errors
///
/// When the loader fails.
pub fn train<M: Classifier>(
    model: M,
    images: &Loader,
    epochs: usize,
    rate: f64,
) -> Result<M, DatasetError> {
    let mut model = model.train();
    let images = images.to_device(&model.devices()[0]);
    let steps = epochs * images.iter().count();
    let mut rates = CosineAnnealingLrSchedulerConfig::new(rate, steps.max(1))
        .init()
        .expect("a rate in (0, 1] and a step");
    let mut optimizer = AdamWConfig::new().init();
    for _ in 0..epochs {
        for batch in images.iter() {
            let output = TrainStep::step(&model, batch?);
            model = optimizer.step(rates.step(), model, output.grads);
        }
    }
    Ok(model.valid())
}

/// The part of the images that a model classifies correctly.
///
/// # Errors
///
/// When the loader fails.
pub fn accuracy<M: Classifier>(model: &M, images: &Loader) -> Result<f64, DatasetError> {
    let (mut right, mut all) = (0, 0);
    for batch in images.iter() {
        let output = InferenceStep::step(model, batch?);
        let named: Tensor<1, Int> = output.output.argmax(1).squeeze_dim(1);
        all += named.dims()[0];
        right += named.equal(output.targets).int().sum().into_scalar::<i64>();
    }
    Ok(right as f64 / all as f64)
}
