use burn_eqat::lm::CalibrationSizes;
use burn_eqat::{Bits, Scheme};
use serde::{Deserialize, Serialize};

/// How far to go.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Round to nearest: no training
    Rtn,
    /// Block-AP: each block in turn, all of its parameters
    BlockAp,
    /// Block-AP, then E2E-QP: the step sizes, end to end
    #[value(name = "efficientqat")]
    #[serde(rename = "efficientqat")]
    EfficientQat,
}

/// The three learning rates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Step sizes and zero points in Block-AP.
    pub quant: f64,
    /// Weights and norms in Block-AP.
    pub weight: f64,
    /// Step sizes in E2E-QP.
    pub e2e: f64,
}

impl Rates {
    /// What works best for models of this size. The paper's rates, which suit large models and much
    /// data, are the defaults of the library; small models with little data want higher ones. E2E-QP's
    /// is absolute, so it falls with the size of the step sizes.
    pub fn for_bits(bits: Bits) -> Self {
        let (quant, weight, e2e) = match bits {
            Bits::Two => (1e-3, 5e-4, 2e-4),
            Bits::Three => (1e-3, 5e-4, 1e-4),
            Bits::Four => (5e-4, 1e-4, 1.5e-5),
            Bits::Eight => (1e-4, 1e-5, 1e-6),
        };
        Self { quant, weight, e2e }
    }
}

/// Everything that [`quantize`](super::quantize) is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizeSettings {
    /// Bits, group size and symmetry.
    pub scheme: Scheme,
    /// How far to go.
    pub method: Method,
    /// Windows for Block-AP.
    pub train_size: usize,
    /// Windows for its validation.
    pub val_size: usize,
    /// Windows of a Block-AP step.
    pub batch_size: usize,
    /// Epochs of each block.
    pub epochs: usize,
    /// Windows for E2E-QP.
    pub e2e_size: usize,
    /// Windows of an E2E-QP step.
    pub e2e_batch: usize,
    /// Epochs of E2E-QP.
    pub e2e_epochs: usize,
    /// Learning rates.
    pub rates: Rates,
    /// Seed of everything random.
    pub seed: u64,
}

impl QuantizeSettings {
    /// How many windows of each kind the method needs.
    pub fn sizes(&self) -> CalibrationSizes {
        let needed = |from: Method, size: usize| if self.method >= from { size } else { 0 };
        CalibrationSizes {
            train: needed(Method::BlockAp, self.train_size),
            valid: needed(Method::BlockAp, self.val_size),
            e2e: needed(Method::EfficientQat, self.e2e_size),
        }
    }
}
