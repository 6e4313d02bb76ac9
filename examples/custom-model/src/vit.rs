//! A vision transformer, made of Burn's own layers.

use crate::images::{CLASSES, ImageBatch, SIZE};
use crate::train::{Classifier, classified};
use burn::module::{Initializer, Module, Param};
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Tensor};
use burn::train::{ClassificationOutput, InferenceStep, TrainOutput, TrainStep};
use burn_eqat::{QuantLinear, QuantLinearConfig};

/// Pixels of a patch's side.
const PATCH: usize = 4;
/// Patches of an image.
const TOKENS: usize = (SIZE / PATCH) * (SIZE / PATCH);

/// A block: attention, then a feed-forward, each on a normalized input.
///
/// The attention is Burn's, with plain `Linear`s inside. The feed-forward is made of [`QuantLinear`], which runs
/// from packed weights and keeps no dense ones. While its weight is dense, it works like a `Linear`.
#[derive(Module, Debug)]
pub struct VitBlock {
    norm_attention: LayerNorm,
    attention: MultiHeadAttention,
    norm_feed: LayerNorm,
    up: QuantLinear,
    down: QuantLinear,
}

impl VitBlock {
    fn new(width: usize, device: &Device) -> Self {
        Self {
            norm_attention: LayerNormConfig::new(width).init(device),
            attention: MultiHeadAttentionConfig::new(width, 4)
                .with_dropout(0.0)
                .init(device),
            norm_feed: LayerNormConfig::new(width).init(device),
            up: QuantLinearConfig::new(width, 2 * width).init(device),
            down: QuantLinearConfig::new(2 * width, width).init(device),
        }
    }

    /// `[batch, tokens, width]` to the same.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let h = self.norm_attention.forward(x.clone());
        let x = x + self.attention.forward(MhaInput::self_attn(h)).context;
        let h = self.norm_feed.forward(x.clone());
        x + self.down.forward(gelu(self.up.forward(h)))
    }
}

/// The vision transformer.
#[derive(Module, Debug)]
pub struct Vit {
    patches: Conv2d,
    positions: Param<Tensor<3>>,
    /// The blocks, in their order.
    pub blocks: Vec<VitBlock>,
    norm: LayerNorm,
    head: Linear,
}

impl Vit {
    /// A model with random weights.
    pub fn new(width: usize, blocks: usize, device: &Device) -> Self {
        Self {
            patches: Conv2dConfig::new([3, width], [PATCH, PATCH])
                .with_stride([PATCH, PATCH])
                .init(device),
            positions: Initializer::Normal {
                mean: 0.0,
                std: 0.02,
            }
            .init([1, TOKENS, width], device),
            blocks: (0..blocks).map(|_| VitBlock::new(width, device)).collect(),
            norm: LayerNormConfig::new(width).init(device),
            head: LinearConfig::new(width, CLASSES).init(device),
        }
    }

    /// Images `[batch, 3, SIZE, SIZE]` to the input of the first block, `[batch, tokens, width]`.
    pub fn tokens(&self, images: Tensor<4>) -> Tensor<3> {
        let patches: Tensor<3> = self.patches.forward(images).flatten(2, 3);
        patches.swap_dims(1, 2) + self.positions.val()
    }

    /// Images `[batch, 3, SIZE, SIZE]` to logits `[batch, CLASSES]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self
            .blocks
            .iter()
            .fold(self.tokens(images), |x, block| block.forward(x));
        let pooled: Tensor<2> = self.norm.forward(x).mean_dim(1).squeeze_dim(1);
        self.head.forward(pooled)
    }
}

impl TrainStep for Vit {
    type Input = ImageBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: ImageBatch) -> TrainOutput<ClassificationOutput> {
        let output = classified(self.forward(batch.images), batch.classes);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Vit {
    type Input = ImageBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: ImageBatch) -> ClassificationOutput {
        classified(self.forward(batch.images), batch.classes)
    }
}

impl Classifier for Vit {
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward(images)
    }
}
