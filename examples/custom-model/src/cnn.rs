//! A convolutional network with a head of linear layers.

use crate::images::{CLASSES, ImageBatch, SIZE};
use crate::train::{Classifier, classified};
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn::train::{ClassificationOutput, InferenceStep, TrainOutput, TrainStep};

/// Two convolutions, each with a pooling, and three linear layers.
///
/// Only the linear layers are quantized: only matrices are, so the kernels of convolutions stay dense. Most
/// of the parameters are in the head.
#[derive(Module, Debug)]
pub struct Cnn {
    convolutions: Vec<Conv2d>,
    pool: MaxPool2d,
    /// The head, in its order.
    pub head: Vec<Linear>,
}

impl Cnn {
    /// A model with random weights and that many channels after the last convolution.
    pub fn new(channels: usize, width: usize, device: &Device) -> Self {
        let convolution = |from, to| {
            Conv2dConfig::new([from, to], [3, 3])
                .with_padding(PaddingConfig2d::Same)
                .init(device)
        };
        let linear = |d_input, d_output| LinearConfig::new(d_input, d_output).init(device);
        let features = channels * (SIZE / 4) * (SIZE / 4);
        Self {
            convolutions: vec![
                convolution(3, channels / 2),
                convolution(channels / 2, channels),
            ],
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            head: vec![
                linear(features, width),
                linear(width, width),
                linear(width, CLASSES),
            ],
        }
    }

    /// Images `[batch, 3, SIZE, SIZE]` to the input of the head, `[batch, features]`.
    pub fn features(&self, images: Tensor<4>) -> Tensor<2> {
        self.convolutions
            .iter()
            .fold(images, |x, convolution| {
                self.pool.forward(relu(convolution.forward(x)))
            })
            .flatten(1, 3)
    }

    /// Layer `index` of the head, `[batch, d_input]` to `[batch, d_output]`.
    pub fn head_layer(&self, index: usize, x: Tensor<2>) -> Tensor<2> {
        let y = self.head[index].forward(x);
        if index + 1 < self.head.len() {
            relu(y)
        } else {
            y
        }
    }

    /// Images `[batch, 3, SIZE, SIZE]` to logits `[batch, CLASSES]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        (0..self.head.len()).fold(self.features(images), |x, layer| self.head_layer(layer, x))
    }
}

impl TrainStep for Cnn {
    type Input = ImageBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: ImageBatch) -> TrainOutput<ClassificationOutput> {
        let output = classified(self.forward(batch.images), batch.classes);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Cnn {
    type Input = ImageBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: ImageBatch) -> ClassificationOutput {
        classified(self.forward(batch.images), batch.classes)
    }
}

impl Classifier for Cnn {
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward(images)
    }
}
