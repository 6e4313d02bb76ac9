use super::{Attention, Mlp, Rope};
use crate::LlamaConfig;
use burn::module::Module;
use burn::nn::{RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor};
use burn_eqat::Weights;
use burn_eqat::kernels::transformer::rms_norm;
use burn_eqat::lm::KvCache;

/// A decoder block: attention and feed-forward, each with a norm before it and a residual connection.
#[derive(Module, Debug)]
pub struct DecoderBlock {
    /// Norm before the attention.
    pub input_layernorm: RmsNorm,
    /// Attention.
    pub self_attn: Attention,
    /// Norm before the feed-forward.
    pub post_attention_layernorm: RmsNorm,
    /// Feed-forward.
    pub mlp: Mlp,
}

impl DecoderBlock {
    /// Block `index`, with random weights.
    pub fn new(config: &LlamaConfig, index: usize, device: &Device) -> Self {
        let norm = || norm(config, device);
        Self {
            input_layernorm: norm(),
            self_attn: Attention::new(config, index, device),
            post_attention_layernorm: norm(),
            mlp: Mlp::new(config, device),
        }
    }

    /// The weights to quantize: every linear layer.
    pub fn quantized_weights() -> Weights {
        Weights::matching(r"_proj\.weight$").expect("a valid pattern")
    }

    /// Has layers that read the same input run as one.
    pub(super) fn merge(&mut self) {
        self.self_attn.merge();
        self.mlp.merge();
    }

    /// Runs the block; input and output are `[batch, seq, hidden]`.
    pub fn forward(&self, x: Tensor<3>, rope: &Rope, cache: Option<&mut KvCache>) -> Tensor<3> {
        let attended = (self.self_attn).forward(&self.input_layernorm, x.clone(), rope, cache);
        let x = x + attended;
        let fed = (self.mlp).forward(normed(&self.post_attention_layernorm, x.clone()));
        x + fed
    }
}

/// A norm of the model's width and epsilon.
pub(super) fn norm(config: &LlamaConfig, device: &Device) -> RmsNorm {
    RmsNormConfig::new(config.hidden_size)
        .with_epsilon(config.rms_norm_eps)
        .init(device)
}

/// Applies a norm, in one pass if the device supports it.
pub(super) fn normed<const D: usize>(norm: &RmsNorm, x: Tensor<D>) -> Tensor<D> {
    rms_norm(x, norm.gamma.val(), norm.epsilon).unwrap_or_else(|error| error.raise())
}
