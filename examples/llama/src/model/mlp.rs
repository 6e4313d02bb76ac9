use crate::LlamaConfig;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_eqat::kernels::transformer::swiglu;
use burn_eqat::{QuantLinear, QuantLinearConfig};

/// SwiGLU feed-forward: `down(silu(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// The gate, to the inner width.
    pub gate_proj: QuantLinear,
    /// The values, to the inner width.
    pub up_proj: QuantLinear,
    /// Back to the hidden width.
    pub down_proj: QuantLinear,
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
        }
    }

    /// Applies the layer; input and output are `[batch, seq, hidden]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gate = self.gate_proj.forward(x.clone());
        let up = self.up_proj.forward(x);
        let hidden = swiglu(gate, up).unwrap_or_else(|error| error.raise());
        self.down_proj.forward(hidden)
    }
}
