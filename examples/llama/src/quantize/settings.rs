use burn_eqat::lm::CalibrationSizes;
use burn_eqat::train::{CacheConfig, DistillationConfig, E2eApConfig, Rate, ReconstructionLoss};
use burn_eqat::{
    ComputeType, EfficientQatConfig, Method, Scheme, SchemeOverride, StartValues, Weights,
};
use serde::{Deserialize, Serialize};

/// The learning rates. If a rate is not set and its phase runs, it depends on the size of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Step sizes and zero points in Block-AP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quant: Option<Rate>,
    /// Weights and norms in Block-AP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Rate>,
    /// Step sizes in E2E-QP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e: Option<Rate>,
    /// Step sizes and zero points in E2E-AP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e_ap_quant: Option<Rate>,
    /// Weights and norms in E2E-AP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e_ap_weight: Option<Rate>,
}

/// Settings of Block-AP.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockApSettings {
    /// Windows that it trains on.
    pub train_size: usize,
    /// Windows of a step.
    pub batch_size: usize,
    /// Epochs of each block.
    pub epochs: usize,
    /// Step sizes and zero points that each block starts with.
    #[serde(default)]
    pub start: StartValues,
    /// What is made small.
    #[serde(default)]
    pub loss: ReconstructionLoss,
    /// Blocks of the original that the output of a block goes through before it is compared.
    #[serde(default)]
    pub lookahead: usize,
    /// Whether a probe finds the learning rates.
    #[serde(default)]
    pub probe_rates: bool,
}

/// Settings of E2E-QP.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct E2eQpSettings {
    /// Windows that it trains on.
    pub e2e_size: usize,
    /// Windows of a step.
    pub e2e_batch: usize,
    /// Epochs; 0 if E2E-AP takes its place.
    pub e2e_epochs: usize,
    /// Batches whose gradients are averaged for a step.
    #[serde(default = "one")]
    pub grad_accum: usize,
    /// Whether activations are recomputed block by block.
    #[serde(default)]
    pub recompute: bool,
    /// Whether packed weights of one block are in memory at a time.
    #[serde(default)]
    pub offload: bool,
    /// How much is learned from the original; `None` for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<DistillationConfig>,
    /// E2E-AP before it, on the same windows; `None` if it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e_ap: Option<E2eApSettings>,
}

/// Settings of E2E-AP.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct E2eApSettings {
    /// Epochs.
    pub epochs: usize,
}

fn one() -> usize {
    1
}

/// Settings of [`quantize`](super::quantize).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizeSettings {
    /// Bits, group size and symmetry.
    pub scheme: Scheme,
    /// Other schemes for the weights whose paths match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<SchemeOverride>,
    /// How far to go.
    pub method: Method,
    /// `None` if Block-AP does not run.
    #[serde(flatten)]
    pub block_ap: Option<BlockApSettings>,
    /// Where Block-AP keeps its activations.
    #[serde(default, skip_serializing_if = "in_memory")]
    pub cache: CacheConfig,
    /// Tokens of a window.
    pub seq_len: usize,
    /// Windows that the phases are validated on.
    pub val_size: usize,
    /// `None` if E2E-QP does not run.
    #[serde(flatten)]
    pub e2e_qp: Option<E2eQpSettings>,
    /// Learning rates.
    pub rates: Rates,
    /// Seed of everything random.
    pub seed: u64,
    /// Type of activations and products.
    #[serde(default)]
    pub dtype: ComputeType,
}

/// Whether all activations are in memory, and nothing is to be said of it.
fn in_memory(cache: &CacheConfig) -> bool {
    cache.memory.is_none()
}

impl QuantizeSettings {
    /// The requested number of windows of each kind.
    pub fn sizes(&self) -> CalibrationSizes {
        CalibrationSizes {
            train: self.block_ap.map_or(0, |phase| phase.train_size),
            valid: self.val_size,
            e2e: self.e2e_qp.map_or(0, |phase| phase.e2e_size),
        }
    }

    /// The same settings with the given numbers of windows.
    pub fn with_sizes(mut self, sizes: CalibrationSizes) -> Self {
        if let Some(phase) = &mut self.block_ap {
            phase.train_size = sizes.train;
        }
        if let Some(phase) = &mut self.e2e_qp {
            phase.e2e_size = sizes.e2e;
        }
        self.val_size = sizes.valid;
        self
    }

    fn e2e_ap(&self, phase: E2eApSettings, grad_accum: usize) -> E2eApConfig {
        E2eApConfig::new()
            .with_epochs(phase.epochs)
            .with_weight_learning_rate(self.rates.e2e_ap_weight)
            .with_quant_learning_rate(self.rates.e2e_ap_quant)
            .with_grad_accumulation(grad_accum)
    }

    /// These settings for burn-eqat's recipe.
    pub(super) fn recipe(&self, weights: Weights) -> EfficientQatConfig {
        let mut config = EfficientQatConfig::new(self.scheme, weights)
            .with_overrides(self.overrides.clone())
            .with_method(self.method)
            .with_quant_learning_rate(self.rates.quant)
            .with_weight_learning_rate(self.rates.weight)
            .with_e2e_learning_rate(self.rates.e2e)
            .with_cache(self.cache.clone());
        if let Some(phase) = self.block_ap {
            config = config
                .with_epochs(phase.epochs)
                .with_start(phase.start)
                .with_loss(phase.loss)
                .with_lookahead(phase.lookahead)
                .with_probe_rates(Some(phase.probe_rates));
        }
        if let Some(phase) = self.e2e_qp {
            config = config
                .with_e2e_epochs(phase.e2e_epochs)
                .with_grad_accumulation(phase.grad_accum)
                .with_recompute(phase.recompute)
                .with_offload(phase.offload)
                .with_distillation(phase.distillation)
                .with_e2e_ap(phase.e2e_ap.map(|ap| self.e2e_ap(ap, phase.grad_accum)));
        }
        config
    }
}
