use crate::config::AudioConfig;
use crate::encoder::{Activation, Attention, AttentionConfig};
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};
use burn_eqat::{QuantLinear, QuantLinearConfig};

/// A block of a Whisper encoder: attention and feed-forward, each with a norm before it and a residual connection.
#[derive(Module, Debug)]
pub struct AudioBlock {
    /// Norm before the attention.
    pub self_attn_layer_norm: LayerNorm,
    /// Attention.
    pub self_attn: Attention,
    /// Norm before the feed-forward.
    pub final_layer_norm: LayerNorm,
    /// To the inner width.
    pub fc1: QuantLinear,
    /// Back to the hidden width.
    pub fc2: QuantLinear,
    #[module(skip)]
    activation: Activation,
}

impl AudioBlock {
    /// A block with random weights.
    pub(super) fn new(config: &AudioConfig, activation: Activation, device: &Device) -> Self {
        let (width, inner) = (config.d_model, config.encoder_ffn_dim);
        Self {
            self_attn_layer_norm: LayerNormConfig::new(width).init(device),
            self_attn: AttentionConfig::new(width, config.encoder_attention_heads)
                .with_key_bias(false)
                .init(device),
            final_layer_norm: LayerNormConfig::new(width).init(device),
            fc1: QuantLinearConfig::new(width, inner).init(device),
            fc2: QuantLinearConfig::new(inner, width).init(device),
            activation,
        }
    }

    /// Runs the block; input and output are `[batch, positions, width]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.self_attn.forward(self.self_attn_layer_norm.forward(x));
        let inner = self.fc1.forward(self.final_layer_norm.forward(x.clone()));
        x + self.fc2.forward(self.activation.forward(inner))
    }
}
