//! From the width of a tower to that of the decoder.

use crate::encoder::Activation;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_eqat::{QuantLinear, QuantLinearConfig};

/// Configuration of a [`Projector`], initialised with the [init function](ProjectorConfig::init).
#[derive(Config, Debug)]
pub struct ProjectorConfig {
    /// Width of the tower.
    pub d_input: usize,
    /// Width of the decoder.
    pub d_output: usize,
    /// Whether the layers have biases.
    #[config(default = true)]
    pub bias: bool,
}

/// Two linear layers with an activation between them, as in LLaVA 1.5.
#[derive(Module, Debug)]
pub struct Projector {
    /// To the decoder's width.
    pub linear_1: QuantLinear,
    /// Within it.
    pub linear_2: QuantLinear,
    #[module(skip)]
    activation: Activation,
}

impl ProjectorConfig {
    /// A projector with random weights.
    pub fn init(&self, activation: Activation, device: &Device) -> Projector {
        let linear = |d_input| {
            QuantLinearConfig::new(d_input, self.d_output)
                .with_bias(self.bias)
                .init(device)
        };
        Projector {
            linear_1: linear(self.d_input),
            linear_2: linear(self.d_output),
            activation,
        }
    }
}

impl Projector {
    /// Projects features: `[media, features, d_input]` to `[media, features, d_output]`.
    pub fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let inner = self.activation.forward(self.linear_1.forward(features));
        self.linear_2.forward(inner)
    }
}
