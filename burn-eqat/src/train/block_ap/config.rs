use super::BlockAp;
use crate::train::{CacheConfig, DeviceList, LearningRates, Rate};
use crate::{Scheme, SchemeOverride, Schemes, StartValues, Weights};
use burn::config::Config;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// What Block-AP makes small.
///
/// ```
/// use burn_eqat::train::ReconstructionLoss;
///
/// let loss: ReconstructionLoss = "relative".parse().unwrap();
/// assert_eq!(loss, ReconstructionLoss::Relative);
/// assert_eq!(loss.to_string(), "relative");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReconstructionLoss {
    /// The error that the model says ([`Blockwise::reconstruction_error`](crate::train::Blockwise::reconstruction_error)); by default
    /// the mean squared error, as in the paper.
    #[default]
    Squared,
    /// The same error once output and target are divided by the root mean square of the target at each position, along the last
    /// dimension of each tensor, and each position counts the less the further off it is (Cauchy's loss). It is for models that have
    /// massive activations: a few positions whose hidden values are hundreds of times those of the others, and which the squared error is
    /// all about.
    Relative,
    /// By the targets of each block: the relative error if one of the positions of its first 16 batches is more than 20 times as large as
    /// half of them, else the squared error. [`BlockAp`] finds it out; a [`BlockTrainer`](super::BlockTrainer) of its own takes it for the
    /// squared error.
    Auto,
}

impl ReconstructionLoss {
    /// All of them.
    pub const ALL: [ReconstructionLoss; 3] = [Self::Squared, Self::Relative, Self::Auto];

    /// The written name: `squared`, `relative` or `auto`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Squared => "squared",
            Self::Relative => "relative",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for ReconstructionLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text is not the name of a [`ReconstructionLoss`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown loss {0:?}: expected squared, relative or auto")]
pub struct ReconstructionLossError(String);

impl FromStr for ReconstructionLoss {
    type Err = ReconstructionLossError;

    fn from_str(text: &str) -> Result<Self, ReconstructionLossError> {
        let loss = Self::ALL.into_iter().find(|loss| loss.name() == text);
        loss.ok_or_else(|| ReconstructionLossError(text.to_string()))
    }
}

/// Configuration of Block-AP, initialised with the [init function](BlockApConfig::init). The defaults are the paper's,
/// except for the learning rates.
///
/// ```
/// use burn_eqat::Weights;
/// use burn_eqat::train::{BlockApConfig, CacheConfig, Rate};
///
/// let config = BlockApConfig::new("w3g64".parse()?, Weights::linears())
///     .with_epochs(4)
///     .with_quant_learning_rate(Some(Rate::InSteps(0.02)))
///     // 8 GB of activations in memory, the others on disk.
///     .with_cache(CacheConfig::new().with_memory(Some(8_000_000_000)));
/// // A rate that is not set is that of small or of large models.
/// assert_eq!(config.rates(7_000_000_000).weights, Rate::Absolute(1e-5));
/// let block_ap = config.init();
/// assert_eq!(block_ap.config().epochs, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Config, Debug)]
pub struct BlockApConfig {
    /// Bits, group size and symmetry.
    pub scheme: Scheme,
    /// The weights to quantize, by their paths in the whole model. All of them must be in its blocks.
    pub weights: Weights,
    /// Other schemes for the weights whose paths match.
    #[config(default = "Vec::new()")]
    pub overrides: Vec<SchemeOverride>,
    /// Learning rate of step sizes and zero points at the start. If not set, it depends on the size of the model
    /// ([`LearningRates::for_model`]).
    #[config(default = "None")]
    pub quant_learning_rate: Option<Rate>,
    /// Learning rate of weights and norms at the start. If not set, it is chosen in the same way.
    #[config(default = "None")]
    pub weight_learning_rate: Option<Rate>,
    /// Find out what to multiply both rates by: the first block that trains is trained shortly (128 steps at most) with half, all and
    /// twice the rates, and further on in the direction that is best, up to a factor of eight. The validation loss decides, and has to
    /// be a tenth better than with the rates as they are; so it needs validation data. It is against rates that are far off.
    #[config(default = false)]
    pub probe_rates: bool,
    /// Both rates at the end of the cosine, as a part of the initial ones.
    #[config(default = 0.05)]
    pub final_rate: f64,
    /// Which step sizes and zero points each block starts with.
    #[config(default = "StartValues::MinMax")]
    pub start: StartValues,
    /// What is made small.
    #[config(default = "ReconstructionLoss::Squared")]
    pub loss: ReconstructionLoss,
    /// How many blocks of the original the output of a block goes through before it is compared. With 0 the block itself is
    /// compared, as in the paper. More make the block good for what comes behind it, for the time and the memory of that many more
    /// blocks: with 1 Block-AP takes about one and a half times as long.
    #[config(default = 0)]
    pub lookahead: usize,
    /// Passes over the training data for each block.
    #[config(default = 2)]
    pub epochs: usize,
    /// Stop a block after that many epochs without a better validation loss, and restore its best parameters. Needs
    /// validation data.
    #[config(default = "None")]
    pub early_stopping: Option<usize>,
    /// Steps in a row that may be left out because a loss or a gradient is not finite. One more ends the phase with an error.
    #[config(default = 3)]
    pub max_skipped: usize,
    /// Round step sizes to 16-bit floats when a block is packed, which halves their size in files. Otherwise files store
    /// them in 32 bits.
    #[config(default = true)]
    pub round_scales: bool,
    /// Where activations are kept: in memory, or on disk beyond a budget.
    #[config(default = "CacheConfig::new()")]
    pub cache: CacheConfig,
}

impl BlockApConfig {
    /// The phase.
    pub fn init(&self) -> BlockAp {
        BlockAp {
            config: self.clone(),
            run_dir: None,
            devices: DeviceList::default(),
        }
    }

    /// The scheme of each weight.
    pub fn schemes(&self) -> Schemes {
        Schemes::new(self.scheme).with_overrides(self.overrides.iter().cloned())
    }

    /// The learning rates for a model of that many parameters.
    pub fn rates(&self, params: usize) -> LearningRates {
        let preset = LearningRates::for_model(params, self.scheme.bits);
        LearningRates {
            quantizer: self.quant_learning_rate.unwrap_or(preset.quantizer),
            weights: self.weight_learning_rate.unwrap_or(preset.weights),
            ..preset
        }
    }
}
