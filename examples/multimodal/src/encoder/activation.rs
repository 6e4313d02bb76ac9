use crate::config::ConfigError;
use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, gelu_approximate, sigmoid};

/// The activation between two linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x / 2 (1 + erf(x / sqrt 2))`.
    Gelu,
    /// GELU by a hyperbolic tangent.
    GeluTanh,
    /// `x sigmoid(1.702 x)`, as in CLIP.
    QuickGelu,
}

impl Activation {
    /// The activation of a name in `config.json`.
    pub(crate) fn named(field: &str, name: &str) -> Result<Self, ConfigError> {
        match name {
            "gelu" => Ok(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Self::GeluTanh),
            "quick_gelu" => Ok(Self::QuickGelu),
            _ => {
                let expected = "gelu, gelu_new, gelu_pytorch_tanh or quick_gelu";
                Err(ConfigError::new(field, name, expected))
            }
        }
    }

    /// Applies it to each number.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => gelu(x),
            Self::GeluTanh => gelu_approximate(x),
            Self::QuickGelu => x.clone() * sigmoid(x * 1.702),
        }
    }
}
