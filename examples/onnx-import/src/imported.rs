//! What a Burn program has around a generated model: the steps of training, and measuring.

use crate::data::{Batch, Loader, Task};
use burn::data::dataset::DatasetError;
use burn::module::{Module, ModuleDisplay};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, Int, Tensor};
use burn::train::{ClassificationOutput, InferenceStep, TrainOutput, TrainStep};
use std::fmt::Debug;

/// A generated model. Each has a type `Model` of its own, without a trait.
pub trait Generated: Module + ModuleDisplay + Debug + 'static {
    /// What it was trained for.
    type Task: Task;
    /// Its name.
    const NAME: &'static str;

    /// The model with the weights of its ONNX file.
    fn load(device: &Device) -> Self;

    /// The model with weights to be loaded.
    fn new(device: &Device) -> Self;

    /// Inputs to logits `[batch, classes]`.
    fn logits(&self, inputs: Inputs<Self>) -> Tensor<2>;
}

/// The inputs of a generated model.
pub type Inputs<M> = <<M as Generated>::Task as Task>::Inputs;

/// A generated model in a module of ours, unchanged. It can be trained, and in the module of the generated code it gets
/// its blocks.
#[derive(Module, Debug)]
pub struct Imported<M: Module> {
    /// The generated model.
    pub model: M,
}

impl<M: Generated> Imported<M> {
    fn classified(&self, batch: Batch<Inputs<M>>) -> ClassificationOutput {
        let logits = self.model.logits(batch.inputs);
        let loss = CrossEntropyLossConfig::new()
            .init(&logits.device())
            .forward(logits.clone(), batch.classes.clone());
        ClassificationOutput::new(loss, logits, batch.classes)
    }

    /// The part of a set that the model classifies correctly.
    ///
    /// # Errors
    ///
    /// When the loader fails.
    pub fn accuracy(&self, data: &Loader<Inputs<M>>) -> Result<f64, DatasetError> {
        let (mut right, mut all) = (0, 0);
        for batch in data.iter() {
            let batch = batch?;
            let named: Tensor<1, Int> = self.model.logits(batch.inputs).argmax(1).squeeze_dim(1);
            all += named.dims()[0];
            right += named.equal(batch.classes).int().sum().into_scalar::<i64>();
        }
        Ok(right as f64 / all as f64)
    }
}

impl<M: Generated> TrainStep for Imported<M> {
    type Input = Batch<Inputs<M>>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Batch<Inputs<M>>) -> TrainOutput<ClassificationOutput> {
        let output = self.classified(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl<M: Generated> InferenceStep for Imported<M> {
    type Input = Batch<Inputs<M>>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Batch<Inputs<M>>) -> ClassificationOutput {
        self.classified(batch)
    }
}
