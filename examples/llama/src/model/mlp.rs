use super::merged::merged;
use crate::LlamaConfig;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_eqat::kernels::transformer::swiglu;
use burn_eqat::{MergedLinears, QuantLinear, QuantLinearConfig};

/// SwiGLU feed-forward: `down(silu(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// The gate, to the inner width.
    pub gate_proj: QuantLinear,
    /// The values, to the inner width.
    pub up_proj: QuantLinear,
    /// Back to the hidden width.
    pub down_proj: QuantLinear,
    /// The gate and the values, in place of the two.
    #[module(skip)]
    gate_up: Option<MergedLinears<2>>,
}

impl Mlp {
    /// A layer with random weights.
    pub fn new(config: &LlamaConfig, device: &Device) -> Self {
        let linear = |d_input, d_output| {
            QuantLinearConfig::new(d_input, d_output)
                .with_bias(config.mlp_bias)
                .init(device)
        };
        Self {
            gate_proj: linear(config.hidden_size, config.intermediate_size),
            up_proj: linear(config.hidden_size, config.intermediate_size),
            down_proj: linear(config.intermediate_size, config.hidden_size),
            gate_up: None,
        }
    }

    /// Runs the gate and the values as one layer from here on, if they are packed alike; zeros are in their place.
    pub(super) fn merge(&mut self) {
        self.gate_up = merged([&mut self.gate_proj, &mut self.up_proj]);
    }

    /// Applies the layer; input and output are `[batch, seq, hidden]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [gate, up] = match &self.gate_up {
            Some(layers) => layers.forward(x),
            None => [&self.gate_proj, &self.up_proj].map(|layer| layer.forward(x.clone())),
        };
        let hidden = swiglu(gate, up).unwrap_or_else(|error| error.raise());
        self.down_proj.forward(hidden)
    }
}
