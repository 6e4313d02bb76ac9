use super::preset::{Preset, RatesFrom};
use super::size::Size;
use crate::cli::compute::ComputeArg;
use crate::cli::device::DevicesArg;
use crate::error::Error;
use burn_eqat::StartValues;
use burn_eqat::train::{CacheDType, Rate, ReconstructionLoss};
use burn_eqat::{Method, Scheme, SchemeOverride};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Take a Llama to 2, 3 or 4 bits per weight
///
/// Prints perplexity and size after each stage (full precision, round to nearest, Block-AP, E2E-AP or E2E-QP)
/// and saves the packed model; one that the last made worse on the validation windows is not saved, but the
/// one before it. Without arguments it quantizes the small model that comes with this
/// program, in a few minutes on two cores.
#[derive(clap::Args, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) struct Args {
    /// Hugging Face directory of a full-precision model, or of a packed one to train further with E2E-QP
    /// [default: the bundled model]
    #[arg(long, value_name = "DIR")]
    pub(super) model: Option<PathBuf>,
    /// Bits and group size: w2g64, w3g128, w4g-1 (one group per column), w4g64-sym (symmetric)
    /// [default: w2g64, or that of a packed model]
    #[arg(long, value_name = "SCHEME")]
    pub(super) scheme: Option<Scheme>,
    /// Another scheme for the weights whose path matches a regular expression, such as
    /// down_proj=w4g64; may be repeated, the last match wins
    #[arg(long = "override", value_name = "REGEX=SCHEME")]
    #[serde(rename = "override")]
    pub(super) overrides: Vec<SchemeOverride>,
    /// Bits per weight of all weights together, with their step sizes and zero points, such as 2.6: those that the model depends on most get 3, 4
    /// or 8 bits, the others those of the scheme
    #[arg(
        long,
        value_name = "BITS",
        conflicts_with = "overrides",
        allow_negative_numbers = true
    )]
    pub(super) bits_budget: Option<f64>,
    /// How far to go [default: efficientqat]
    #[arg(long, value_parser = method_parser())]
    pub(super) method: Option<Method>,
    /// Where to save the packed model [default: not saved]
    #[arg(long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
    /// Where to keep what is finished, so that a run that is stopped can be resumed [default: the output
    /// with .run behind its name, which is removed when the model is saved]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub(super) run: Option<PathBuf>,
    /// Go on with a run that was stopped, with its settings
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    #[serde(skip)]
    pub(super) resume: Option<PathBuf>,
    /// Calibration text: a .txt or .jsonl file, or `self` to have the model write it [default: self]
    #[arg(long, value_name = "FILE|self")]
    pub(super) calibration: Option<PathBuf>,
    /// Calibration tokens instead: tensors calib, val, e2e, eval, each i32 [samples, seq_len]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["calibration", "eval_text", "seq_len"])]
    pub(super) calibration_tokens: Option<PathBuf>,
    /// Text to measure perplexity on [default: the bundled text for the bundled model, else a held-out
    /// part of the calibration]
    #[arg(long, value_name = "FILE")]
    pub(super) eval_text: Option<PathBuf>,
    /// Sizes and learning rates that go together; other flags win over them [default by the size of the
    /// model: small below a billion parameters, else paper]
    #[arg(long, value_enum, value_name = "NAME")]
    pub(super) preset: Option<Preset>,
    /// Training windows of Block-AP [default by preset: small 256, paper 4096]
    #[arg(long, value_name = "N")]
    pub(super) train_size: Option<usize>,
    /// Validation windows of both phases [default by preset: small 32, paper 64]
    #[arg(long, value_name = "N")]
    pub(super) val_size: Option<usize>,
    /// Tokens of a window [default by preset: small 256, paper 2048, and no more than the model takes]
    #[arg(long, value_name = "N")]
    pub(super) seq_len: Option<usize>,
    /// Windows per step of Block-AP [default: 2]
    #[arg(long, value_name = "N")]
    pub(super) batch_size: Option<usize>,
    /// Epochs per block in Block-AP [default: 2]
    #[arg(long, value_name = "N")]
    pub(super) epochs: Option<usize>,
    /// Step sizes and zero points that Block-AP starts each block with: those that span the range of a group, or those that make the
    /// error small, found by a search [default by preset: small searched, paper min-max]
    #[arg(long, value_name = "min-max|searched")]
    pub(super) start: Option<StartValues>,
    /// What Block-AP makes small: the squared error of a block's output, or that error relative to the size of each position, for
    /// models with massive activations; auto takes that for the blocks that have them [default by preset: small auto, paper squared]
    #[arg(long, value_name = "squared|relative|auto")]
    pub(super) block_loss: Option<ReconstructionLoss>,
    /// Blocks of the original that the output of a block goes through before Block-AP compares it; each makes the phase half as
    /// long again [default by preset: small 1, paper 0]
    #[arg(long, value_name = "N")]
    pub(super) lookahead: Option<usize>,
    /// Learning rates of Block-AP: the preset's, or these times what short runs on the first block find to be best; the validation windows
    /// decide [default: preset]
    #[arg(long, value_enum, value_name = "NAME", conflicts_with_all = ["quant_lr", "weight_lr"])]
    pub(super) rates: Option<RatesFrom>,
    /// Learning rate of step sizes and zero points in Block-AP: a number, or with an s behind it, as in 0.02s, in mean step sizes of each
    /// weight [default by preset: small 0.024s at 2 bits, 0.016s at 3, 0.012s at 4 and 8; paper 1e-4]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub(super) quant_lr: Option<Rate>,
    /// Learning rate of weights and norms in Block-AP [default by preset: small 0.012s at 2 bits, 0.011s at 3, 0.007s at 4 and 8; paper
    /// 2e-5 at 2 bits, 1e-5 at others]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub(super) weight_lr: Option<Rate>,
    /// Memory for the activations of Block-AP, such as 8GB or 512MB; if they do not fit, they are kept on
    /// disk [default by preset: small as much as they need, paper 2GB]
    #[arg(long, value_name = "SIZE")]
    pub(super) cache_memory: Option<Size>,
    /// Type of activations on disk, bf16 or f32; in memory they are not rounded [default: bf16]
    #[arg(long, value_name = "TYPE")]
    pub(super) cache_dtype: Option<CacheDType>,
    /// Directory of activations on disk, those of Block-AP and of a model that is measured block by block [default: in the run directory if there is
    /// one, else the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub(super) cache_dir: Option<PathBuf>,
    /// Epochs of E2E-AP, which trains all parameters of the blocks end to end in the place of E2E-QP, on the same windows; 16 bytes a
    /// weight of memory, of one block at a time with --offload [default by preset: small 1 where it learns from the original, paper 0]
    #[arg(long, value_name = "N")]
    pub(super) e2e_ap_epochs: Option<usize>,
    /// Highest learning rate of weights and norms in E2E-AP [default by preset: small 0.0048s at 2 bits, 0.0044s at 3, 0.006s at 4 and 8;
    /// paper 2e-5 at 2 bits, 1e-5 at others]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub(super) e2e_ap_lr: Option<Rate>,
    /// Highest learning rate of step sizes and zero points in E2E-AP [default by preset: small 0.0024s at 2 bits, 0.0011s at 3, 0.0005s at
    /// 4 and 8; paper as of weights]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub(super) e2e_ap_quant_lr: Option<Rate>,
    /// Training windows of E2E-AP and E2E-QP [default by preset: small 512, paper 4096]
    #[arg(long, value_name = "N")]
    pub(super) e2e_size: Option<usize>,
    /// Windows per step of E2E-AP and E2E-QP [default by preset: small 4, paper 2]
    #[arg(long, value_name = "N")]
    pub(super) e2e_batch: Option<usize>,
    /// Epochs of E2E-QP, behind E2E-AP if that runs [default: 1, or 0 where E2E-AP runs]
    #[arg(long, value_name = "N")]
    pub(super) e2e_epochs: Option<usize>,
    /// Learning rate of step sizes in E2E-QP; with an s, in mean step sizes of the model [default by preset: small 0.0045s at 2 bits,
    /// 0.005s at 3, 0.0017s at 4 and 8; paper 2e-5 at 2 bits, 1e-5 at others]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub(super) e2e_lr: Option<Rate>,
    /// Batches whose gradients are averaged for an E2E-QP step [default by preset: small 1,
    /// paper 16]
    #[arg(long, value_name = "N")]
    pub(super) grad_accum: Option<usize>,
    /// How much E2E-QP learns from the original's predictions, from 0 (nothing, only from what comes in the text) to 1 (all)
    /// [default by preset: small 1, paper 0; a model that is packed has no original]
    #[arg(long, value_name = "WEIGHT")]
    pub(super) distillation: Option<f64>,
    /// What the logits of both models are divided by for it; more than 1 gives more weight to unlikely tokens
    /// [default: 1]
    #[arg(long, value_name = "X")]
    pub(super) distillation_temperature: Option<f64>,
    /// Keep the activations of one block at a time in E2E-QP: less memory, one more forward pass; or not, with
    /// =false [default by preset: small not, paper yes]
    #[arg(long, value_name = "YES", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) recompute: Option<bool>,
    /// Keep one block at a time in memory in E2E-AP and E2E-QP, and the rest on disk (of E2E-AP 16 bytes a weight); includes --recompute, needs a run directory (--run or --output) and a single device
    #[arg(long)]
    pub(super) offload: bool,
    /// Seed of everything random [default: 42]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(in crate::cli) compute: ComputeArg,
    #[command(flatten)]
    #[serde(flatten)]
    pub(in crate::cli) device: DevicesArg,
    /// Replace the output directory if there is one, and a run that was stopped
    #[arg(long)]
    #[serde(skip)]
    pub(super) force: bool,
    /// Memory that there is, such as 24GB: of a device that has its own, which the plan of the run is compared with, else of the
    /// host [default: of the host what is free; of a device nothing is known]
    #[arg(long, value_name = "SIZE")]
    #[serde(skip)]
    pub(super) memory: Option<Size>,
    /// Begin even if the run does not fit on the machine by its plan
    #[arg(long)]
    #[serde(skip)]
    pub(super) ignore_plan: bool,
    /// Show the training phases on Burn's dashboard, where the output is a terminal: press q, then s, to stop as Ctrl-C does
    /// elsewhere (needs the cargo feature tui)
    #[arg(long)]
    #[serde(skip)]
    pub(super) tui: bool,
    /// Also write the results as JSON
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(super) report: Option<PathBuf>,
    /// Write the run as a page of HTML, with its settings, losses, sizes and times in tables and plots
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(super) html: Option<PathBuf>,
}

impl Args {
    /// Fails for flags that have no effect with `llama plan`.
    pub(in crate::cli) fn check_plan(&self) -> Result<(), Error> {
        let of_a_run = [
            ("--force", self.force),
            ("--ignore-plan", self.ignore_plan),
            ("--tui", self.tui),
            ("--report", self.report.is_some()),
            ("--html", self.html.is_some()),
        ];
        match of_a_run.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Error::Setting(format!(
                "{flag} has no effect with llama plan: nothing is quantized"
            ))),
            None => Ok(()),
        }
    }

    /// How far to go.
    pub(super) fn method(&self) -> Method {
        self.method.unwrap_or(Method::EfficientQat)
    }

    /// Seed of everything random.
    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or(42)
    }

    /// Whether each block is needed once: nothing is trained, and the model writes no text.
    pub(in crate::cli) fn goes_through_once(&self) -> bool {
        self.method() == Method::Rtn && !self.writes_calibration()
    }

    /// Whether one block at a time is in memory.
    pub(in crate::cli) fn offloads(&self) -> bool {
        self.offload
    }

    /// Whether perplexity is measured on a separate text, not on calibration text.
    pub(super) fn has_eval_text(&self) -> bool {
        self.eval_text.is_some() || self.model.is_none()
    }

    /// Whether calibration text is needed: to train on, or to measure perplexity on.
    pub(super) fn needs_calibration(&self) -> bool {
        self.method() > Method::Rtn || !self.has_eval_text()
    }

    /// The file with calibration text; `None` if the model writes the text.
    pub(super) fn calibration_file(&self) -> Option<&Path> {
        let file = self.calibration.as_deref();
        file.filter(|file| file.as_os_str() != "self")
    }

    /// Whether the model writes its calibration text.
    pub(super) fn writes_calibration(&self) -> bool {
        self.calibration_tokens.is_none()
            && self.calibration_file().is_none()
            && self.needs_calibration()
    }
}

fn method_parser() -> impl TypedValueParser<Value = Method> {
    let values = Method::ALL.map(|method| {
        PossibleValue::new(method.name()).help(match method {
            Method::Rtn => "Round to nearest: no training",
            Method::BlockAp => "Block-AP: each block in turn, all of its parameters",
            Method::EfficientQat => {
                "Block-AP, then end to end: E2E-AP, all parameters, or E2E-QP, the step sizes"
            }
        })
    });
    PossibleValuesParser::new(values).try_map(|name| name.parse::<Method>())
}
