use super::Args;
use burn_eqat::train::{LearningRates, ReconstructionLoss};
use burn_eqat::{Bits, StartValues};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Sizes and learning rates that go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Preset {
    /// The paper's: for models of billions of parameters
    Paper,
    /// For models of millions of parameters, and little data
    Small,
}

/// Where the learning rates of Block-AP are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RatesFrom {
    /// The preset's
    Preset,
    /// Found by short runs on the first block
    Auto,
}

/// The sizes of a preset.
pub(super) struct PresetSizes {
    pub train_size: usize,
    pub val_size: usize,
    pub seq_len: usize,
    pub batch_size: usize,
    pub epochs: usize,
    pub start: StartValues,
    /// What Block-AP makes small.
    pub loss: ReconstructionLoss,
    /// Original blocks that Block-AP looks ahead.
    pub lookahead: usize,
    pub e2e_size: usize,
    pub e2e_batch: usize,
    pub e2e_epochs: usize,
    /// Of E2E-AP, which takes the place of E2E-QP then.
    pub e2e_ap_epochs: usize,
    pub grad_accum: usize,
    pub recompute: bool,
    /// Weight of the original's predictions in E2E-QP.
    pub distillation: f64,
    /// Bytes of Block-AP's activations that stay in memory; `None` for all of them.
    pub cache_memory: Option<u64>,
}

impl Preset {
    /// The preset for a model of that many parameters, where the library changes its learning rates, too.
    pub fn for_model(params: usize) -> Self {
        if params >= LearningRates::LARGE {
            Preset::Paper
        } else {
            Preset::Small
        }
    }

    pub fn sizes(self) -> PresetSizes {
        match self {
            Preset::Paper => PresetSizes {
                train_size: 4096,
                val_size: 64,
                seq_len: 2048,
                batch_size: 2,
                epochs: 2,
                start: StartValues::MinMax,
                loss: ReconstructionLoss::Squared,
                lookahead: 0,
                e2e_size: 4096,
                // Together the paper's 32 windows; the activations of as many at a time would be in no GPU.
                e2e_batch: 2,
                e2e_epochs: 1,
                // Sixteen bytes a weight in memory.
                e2e_ap_epochs: 0,
                grad_accum: 16,
                // The activations of all blocks would be tens of gigabytes a window.
                recompute: true,
                // The original would be in memory, too.
                distillation: 0.0,
                // All of them would be a hundred gigabytes and more.
                cache_memory: Some(2_000_000_000),
            },
            Preset::Small => PresetSizes {
                train_size: 256,
                val_size: 32,
                seq_len: 256,
                batch_size: 2,
                epochs: 2,
                start: StartValues::Searched,
                loss: ReconstructionLoss::Auto,
                lookahead: 1,
                e2e_size: 512,
                e2e_batch: 4,
                e2e_epochs: 1,
                e2e_ap_epochs: 1,
                grad_accum: 1,
                recompute: false,
                distillation: 1.0,
                cache_memory: None,
            },
        }
    }

    pub fn rates(self, bits: Bits) -> LearningRates {
        match self {
            Preset::Paper => LearningRates::paper(bits),
            Preset::Small => LearningRates::small(bits),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Preset::Paper => "paper",
            Preset::Small => "small",
        })
    }
}

/// The preset of a run, and what it was chosen by.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChosenPreset {
    pub preset: Preset,
    /// Parameters of the model.
    pub params: usize,
    /// The longest window that the model takes.
    positions: usize,
    /// Whether `--preset` named it.
    given: bool,
}

impl ChosenPreset {
    /// The one that is given, or that of the model's size.
    pub fn new(args: &Args, params: usize, positions: usize) -> Self {
        Self {
            preset: args.preset.unwrap_or(Preset::for_model(params)),
            params,
            positions,
            given: args.preset.is_some(),
        }
    }

    /// Tokens of a window: the preset's are no more than the model takes.
    pub fn seq_len(&self, args: &Args) -> usize {
        let preset = self.preset.sizes().seq_len.min(self.positions);
        args.seq_len.unwrap_or(preset)
    }

    /// Learning rates that the library would not choose by itself.
    pub fn rates(&self, bits: Bits) -> Option<LearningRates> {
        let other = self.preset != Preset::for_model(self.params);
        other.then(|| self.preset.rates(bits))
    }
}

impl fmt::Display for ChosenPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params = self.params as f64;
        let size = match params {
            p if p >= 1e9 => format!("{:.2} billion", p / 1e9),
            p if p >= 1e6 => format!("{:.2} million", p / 1e6),
            p => format!("{p:.0}"),
        };
        let by = if self.given { "as given" } else { "by size" };
        write!(f, "preset {} {by}, {size} parameters", self.preset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_chooses_where_the_library_does() {
        for params in [999_999_999, 1_000_000_000] {
            let preset = Preset::for_model(params);
            for bits in [Bits::Two, Bits::Three, Bits::Four, Bits::Eight] {
                assert_eq!(preset.rates(bits), LearningRates::for_model(params, bits));
            }
        }
        assert_eq!(Preset::for_model(1_000_000_000), Preset::Paper);
        let chosen = ChosenPreset {
            preset: Preset::Small,
            params: 1_300_000_000,
            positions: 512,
            given: true,
        };
        assert_eq!(
            chosen.to_string(),
            "preset small as given, 1.30 billion parameters"
        );
        assert_eq!(
            chosen.rates(Bits::Two),
            Some(LearningRates::small(Bits::Two))
        );
    }
}
