use super::BlockAp;
use crate::{Bits, Scheme, SchemeOverride, Schemes, Weights};
use burn::config::Config;

/// Configuration of Block-AP, initialised with the [init function](BlockApConfig::init). The defaults
/// are the paper's.
#[derive(Config, Debug)]
pub struct BlockApConfig {
    /// Bits, group size and symmetry.
    pub scheme: Scheme,
    /// The weights to quantize, by their paths in the whole model.
    pub weights: Weights,
    /// Other schemes for the weights whose paths match.
    #[config(default = "Vec::new()")]
    pub overrides: Vec<SchemeOverride>,
    /// Learning rate of step sizes and zero points at the start.
    #[config(default = 1e-4)]
    pub quant_learning_rate: f64,
    /// Learning rate of weights and norms at the start; 2e-5 for 2 bits and 1e-5 for more where it is
    /// absent.
    #[config(default = "None")]
    pub weight_learning_rate: Option<f64>,
    /// What is left of both rates at the end of the cosine.
    #[config(default = 0.05)]
    pub final_rate: f64,
    /// Passes over the training data for each block.
    #[config(default = 2)]
    pub epochs: usize,
    /// Stop a block after that many epochs without a better validation loss, and give it its best
    /// parameters back. Needs validation data.
    #[config(default = "None")]
    pub early_stopping: Option<usize>,
    /// Round step sizes to 16-bit floats when a block is packed, as files hold them.
    #[config(default = true)]
    pub round_scales: bool,
}

impl BlockApConfig {
    /// The phase.
    pub fn init(&self) -> BlockAp {
        BlockAp::new(self.clone())
    }

    /// The scheme of each weight.
    pub fn schemes(&self) -> Schemes {
        Schemes::new(self.scheme).with_overrides(self.overrides.iter().cloned())
    }

    /// Learning rate of weights and norms at the start.
    pub fn weight_rate(&self) -> f64 {
        self.weight_learning_rate.unwrap_or(match self.scheme.bits {
            Bits::Two => 2e-5,
            _ => 1e-5,
        })
    }
}
