use super::Rate;
use crate::{Bits, Quantize};
use burn::module::Module;
use serde::{Deserialize, Serialize};

/// The highest learning rates of the phases.
///
/// They are the defaults of a configuration without rates, by the size of the model ([`for_model`](Self::for_model)).
/// [`TrainEvent::PhaseStart`](super::TrainEvent::PhaseStart) has the rates of a phase, and
/// [`TrainEvent::Rates`](super::TrainEvent::Rates) those that a probe found.
///
/// ```
/// use burn_eqat::Bits;
/// use burn_eqat::train::LearningRates;
///
/// let rates = LearningRates::for_model(7_000_000_000, Bits::Two);
/// assert_eq!(rates, LearningRates::paper(Bits::Two));
/// let rates = LearningRates::for_model(15_000_000, Bits::Two);
/// assert_eq!(rates, LearningRates::small(Bits::Two));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearningRates {
    /// Step sizes and zero points in Block-AP.
    #[serde(rename = "quant")]
    pub quantizer: Rate,
    /// Weights and norms in Block-AP.
    #[serde(rename = "weight")]
    pub weights: Rate,
    /// Step sizes in E2E-QP.
    pub e2e: Rate,
    /// Step sizes and zero points in E2E-AP.
    #[serde(rename = "e2e_ap_quant")]
    pub e2e_ap_quantizer: Rate,
    /// Weights and norms in E2E-AP.
    #[serde(rename = "e2e_ap_weight")]
    pub e2e_ap_weights: Rate,
}

impl LearningRates {
    /// Models with at least this many parameters are large, and get the [`paper`](Self::paper)'s rates.
    pub const LARGE: usize = 1_000_000_000;

    /// The paper's rates (its section 4.1), and for E2E-AP, which it has not, those of its other phases. They suit models of billions
    /// of parameters and thousands of samples.
    pub fn paper(bits: Bits) -> Self {
        let weights = match bits {
            Bits::Two => 2e-5,
            _ => 1e-5,
        };
        Self {
            quantizer: Rate::Absolute(1e-4),
            weights: Rate::Absolute(weights),
            e2e: Rate::Absolute(weights),
            e2e_ap_quantizer: Rate::Absolute(weights),
            e2e_ap_weights: Rate::Absolute(weights),
        }
    }

    /// Rates for small models and little data, found by measurement on models of some million parameters. They are in step sizes, so that they
    /// suit models whose weights are of another size.
    pub fn small(bits: Bits) -> Self {
        let (quantizer, weights, e2e) = match bits {
            Bits::Two => (0.024, 0.012, 0.0045),
            Bits::Three => (0.016, 0.011, 0.005),
            Bits::Four => (0.012, 0.007, 0.0017),
            Bits::Eight => (0.012, 0.007, 0.0017),
        };
        let (e2e_ap_quantizer, e2e_ap_weights) = match bits {
            Bits::Two => (0.0024, 0.0048),
            Bits::Three => (0.0011, 0.0044),
            Bits::Four => (0.0005, 0.006),
            Bits::Eight => (0.0005, 0.006),
        };
        Self {
            quantizer: Rate::InSteps(quantizer),
            weights: Rate::InSteps(weights),
            e2e: Rate::InSteps(e2e),
            e2e_ap_quantizer: Rate::InSteps(e2e_ap_quantizer),
            e2e_ap_weights: Rate::InSteps(e2e_ap_weights),
        }
    }

    /// The same with those of Block-AP times a factor.
    pub(super) fn of_block_ap_times(self, factor: f64) -> Self {
        Self {
            quantizer: self.quantizer.times(factor),
            weights: self.weights.times(factor),
            ..self
        }
    }

    /// The rates for a model of that many parameters: [`paper`](Self::paper) from
    /// [a billion](Self::LARGE) on, [`small`](Self::small) below.
    pub fn for_model(params: usize, bits: Bits) -> Self {
        if params >= Self::LARGE {
            Self::paper(bits)
        } else {
            Self::small(bits)
        }
    }
}

/// The number of parameters of a module. Packed weights count with their dense size.
pub(super) fn params<M: Module>(module: &M) -> usize {
    let size = module.size_report();
    size.packed_weights + size.dense_params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_chooses() {
        for bits in [Bits::Two, Bits::Three, Bits::Four, Bits::Eight] {
            let at = |params| LearningRates::for_model(params, bits);
            assert_eq!(at(999_999_999), LearningRates::small(bits));
            assert_eq!(at(1_000_000_000), LearningRates::paper(bits));
        }
    }
}
