use crate::config::VisionConfig;
use crate::encoder::{Activation, Attention, AttentionConfig};
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};
use burn_eqat::{QuantLinear, QuantLinearConfig};

/// A block of a CLIP: attention and feed-forward, each with a norm before it and a residual connection.
#[derive(Module, Debug)]
pub struct ClipBlock {
    /// Norm before the attention.
    pub layer_norm1: LayerNorm,
    /// Attention.
    pub self_attn: Attention,
    /// Norm before the feed-forward.
    pub layer_norm2: LayerNorm,
    /// Feed-forward.
    pub mlp: ClipMlp,
}

/// The feed-forward of a CLIP's block.
#[derive(Module, Debug)]
pub struct ClipMlp {
    /// To the inner width.
    pub fc1: QuantLinear,
    /// Back to the hidden width.
    pub fc2: QuantLinear,
    #[module(skip)]
    activation: Activation,
}

impl ClipBlock {
    /// A block with random weights.
    pub(super) fn new(config: &VisionConfig, activation: Activation, device: &Device) -> Self {
        let width = config.hidden_size;
        let norm = || {
            LayerNormConfig::new(width)
                .with_epsilon(config.layer_norm_eps)
                .init(device)
        };
        let inner = config.intermediate_size;
        Self {
            layer_norm1: norm(),
            self_attn: AttentionConfig::new(width, config.num_attention_heads).init(device),
            layer_norm2: norm(),
            mlp: ClipMlp {
                fc1: QuantLinearConfig::new(width, inner).init(device),
                fc2: QuantLinearConfig::new(inner, width).init(device),
                activation,
            },
        }
    }

    /// Runs the block; input and output are `[batch, positions, width]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.self_attn.forward(self.layer_norm1.forward(x));
        x.clone() + self.mlp.forward(self.layer_norm2.forward(x))
    }
}

impl ClipMlp {
    /// Applies the layer; input and output are `[batch, positions, width]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.fc2
            .forward(self.activation.forward(self.fc1.forward(x)))
    }
}
