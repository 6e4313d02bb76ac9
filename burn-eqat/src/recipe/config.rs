use super::EfficientQat;
use crate::train::{
    BlockApConfig, CacheConfig, DistillationConfig, E2eApConfig, E2eQpConfig, Rate,
    ReconstructionLoss,
};
use crate::{Scheme, SchemeOverride, Schemes, StartValues, Weights};
use burn::config::Config;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// How far to go. Each method includes those before it.
///
/// ```
/// use burn_eqat::Method;
///
/// let method: Method = "block-ap".parse().unwrap();
/// assert_eq!(method, Method::BlockAp);
/// assert!(Method::Rtn < method && method < Method::EfficientQat);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Round to nearest: no training.
    Rtn,
    /// Block-AP: each block in turn, all of its parameters.
    BlockAp,
    /// Block-AP, then E2E-QP: the step sizes, end to end.
    #[serde(rename = "efficientqat")]
    EfficientQat,
}

impl Method {
    /// All methods, shortest first.
    pub const ALL: [Method; 3] = [Method::Rtn, Method::BlockAp, Method::EfficientQat];

    /// The written name: `rtn`, `block-ap` or `efficientqat`.
    pub fn name(self) -> &'static str {
        match self {
            Method::Rtn => "rtn",
            Method::BlockAp => "block-ap",
            Method::EfficientQat => "efficientqat",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text is not the name of a method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown method {0:?}: expected rtn, block-ap or efficientqat")]
pub struct MethodError(String);

impl FromStr for Method {
    type Err = MethodError;

    fn from_str(text: &str) -> Result<Self, MethodError> {
        let method = Method::ALL.into_iter().find(|method| method.name() == text);
        method.ok_or_else(|| MethodError(text.to_string()))
    }
}

/// Configuration of EfficientQAT as a whole, initialised with the [init function](EfficientQatConfig::init).
///
/// Learning rates that are not set depend on the size of the model
/// ([`LearningRates::for_model`](crate::train::LearningRates::for_model)), and a probe may change those of Block-AP (`probe_rates`); each [`Stage`](super::Stage) says which were
/// used. The other defaults are the paper's. [`BlockApConfig`] and [`E2eQpConfig`] have further settings; to use them,
/// run the phases one by one.
///
/// ```
/// use burn_eqat::{EfficientQatConfig, Method, Weights};
///
/// let weights = Weights::linears().except("^head")?;
/// let config = EfficientQatConfig::new("w2g64".parse()?, weights)
///     .with_overrides(vec!["down_proj=w4g64".parse()?])
///     .with_method(Method::EfficientQat)
///     .with_epochs(4)
///     .with_early_stopping(Some(1));
/// let schemes = config.schemes();
/// assert_eq!(schemes.of("layers.0.down_proj.weight").to_string(), "w4g64");
/// // ... let packed = config.init().run(model, (train, valid), &mut observer)?; ...
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Config, Debug)]
pub struct EfficientQatConfig {
    /// Bits, group size and symmetry.
    pub scheme: Scheme,
    /// The weights to quantize, by their paths in the whole model. All of them must be in its blocks, unless the method
    /// is [`Method::Rtn`].
    pub weights: Weights,
    /// Other schemes for the weights whose paths match.
    #[config(default = "Vec::new()")]
    pub overrides: Vec<SchemeOverride>,
    /// How far to go.
    #[config(default = "Method::EfficientQat")]
    pub method: Method,
    /// Learning rate of step sizes and zero points at the start of each block in Block-AP.
    #[config(default = "None")]
    pub quant_learning_rate: Option<Rate>,
    /// Learning rate of weights and norms at the start of each block in Block-AP.
    #[config(default = "None")]
    pub weight_learning_rate: Option<Rate>,
    /// Whether a probe finds out what to multiply these two rates by ([`BlockApConfig::probe_rates`](BlockApConfig)). If not set, it does
    /// where none of the two is set. It needs validation data for Block-AP, and is left out without.
    #[config(default = "None")]
    pub probe_rates: Option<bool>,
    /// Passes over the training data for each block in Block-AP.
    #[config(default = 2)]
    pub epochs: usize,
    /// Which step sizes and zero points each block starts with in Block-AP.
    #[config(default = "StartValues::MinMax")]
    pub start: StartValues,
    /// What Block-AP makes small.
    #[config(default = "ReconstructionLoss::Squared")]
    pub loss: ReconstructionLoss,
    /// How many blocks of the original the output of a block goes through before Block-AP compares it.
    #[config(default = 0)]
    pub lookahead: usize,
    /// Highest learning rate of the step sizes in E2E-QP.
    #[config(default = "None")]
    pub e2e_learning_rate: Option<Rate>,
    /// Training steps in a row that may be left out because a loss or a gradient is not finite.
    #[config(default = 3)]
    pub max_skipped: usize,
    /// Passes over the training data in E2E-QP. With 0, E2E-AP takes its place.
    #[config(default = 1)]
    pub e2e_epochs: usize,
    /// Batches whose gradients are averaged for a step of E2E-QP; on several devices, as many on each.
    #[config(default = 1)]
    pub grad_accumulation: usize,
    /// E2E-AP behind Block-AP, where the original is there; `None` for none. `epochs` and `grad_accumulation` are its own; it runs by
    /// blocks where E2E-QP does. It has the weights of all blocks in memory, with gradients and moments; with `offload` those of one.
    #[config(default = "None")]
    pub e2e_ap: Option<E2eApConfig>,
    /// In E2E-QP (and E2E-AP) the model learns to predict what its original does, if the original is there (not where the model comes packed) and
    /// the model [says how](crate::train::Blockwise::distills). The original is in memory for it, with
    /// `offload` one block at a time. With `offload`, or more than one pass over the data, what it makes of the data is
    /// [kept](crate::train::Teacher::keep) in a file, in the directory and the type of `cache`, if
    /// [samples are rows](crate::train::Blockwise::rows_are_samples). `None` for the model's own loss alone.
    #[config(default = "Some(DistillationConfig::new())")]
    pub distillation: Option<DistillationConfig>,
    /// Run E2E-QP by blocks, so that activations of one are in memory at a time, at the cost of another forward pass. The model
    /// needs [`Blockwise::output_loss`](crate::train::Blockwise::output_loss) for it.
    #[config(default = false)]
    pub recompute: bool,
    /// Keep the packed weights of one block at a time in memory in E2E-QP, and step sizes with their moments on the host; in E2E-AP the
    /// weights, gradients and moments of one block, and the rest in files. Includes `recompute`. It needs a run directory and a model that implements
    /// [`Blockwise::store_block`](crate::train::Blockwise::store_block).
    #[config(default = false)]
    pub offload: bool,
    /// Stop a block, and E2E-QP, after that many epochs without a better validation loss, and go back to the best. Needs
    /// validation data.
    #[config(default = "None")]
    pub early_stopping: Option<usize>,
    /// Where Block-AP keeps its activations: in memory, or on disk beyond a budget.
    #[config(default = "CacheConfig::new()")]
    pub cache: CacheConfig,
}

impl EfficientQatConfig {
    /// What runs it.
    pub fn init(&self) -> EfficientQat {
        EfficientQat {
            config: self.clone(),
            run_dir: None,
            devices: Vec::new(),
        }
    }

    /// The scheme of each weight.
    pub fn schemes(&self) -> Schemes {
        Schemes::new(self.scheme).with_overrides(self.overrides.iter().cloned())
    }

    /// The configuration of the first phase.
    pub fn block_ap(&self) -> BlockApConfig {
        BlockApConfig::new(self.scheme, self.weights.clone())
            .with_overrides(self.overrides.clone())
            .with_quant_learning_rate(self.quant_learning_rate)
            .with_weight_learning_rate(self.weight_learning_rate)
            .with_probe_rates(self.probes())
            .with_epochs(self.epochs)
            .with_start(self.start)
            .with_loss(self.loss)
            .with_lookahead(self.lookahead)
            .with_early_stopping(self.early_stopping)
            .with_max_skipped(self.max_skipped)
            .with_cache(self.cache.clone())
    }

    fn probes(&self) -> bool {
        let set = self.quant_learning_rate.or(self.weight_learning_rate);
        self.probe_rates.unwrap_or(set.is_none())
    }

    /// The configuration of the second phase.
    pub fn e2e_qp(&self) -> E2eQpConfig {
        E2eQpConfig::new()
            .with_learning_rate(self.e2e_learning_rate)
            .with_epochs(self.e2e_epochs)
            .with_grad_accumulation(self.grad_accumulation)
            .with_recompute(self.recompute || self.offload)
            .with_early_stopping(self.early_stopping)
            .with_max_skipped(self.max_skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_read_as_they_are_written() {
        for method in Method::ALL {
            assert_eq!(method.to_string().parse(), Ok(method));
            let json = serde_json::to_string(&method).unwrap();
            assert_eq!(json, format!("\"{method}\""));
        }
        let error = "qat".parse::<Method>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown method \"qat\": expected rtn, block-ap or efficientqat"
        );
    }
}
