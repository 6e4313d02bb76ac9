use super::preset::Preset;
use crate::cli::device::DeviceArg;
use burn_eqat::{Method, Scheme, SchemeOverride};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use std::path::{Path, PathBuf};

/// Take a Llama to 2, 3 or 4 bits per weight
///
/// Prints perplexity and size after each stage (full precision, round to nearest, Block-AP, E2E-QP)
/// and saves the packed model; one that E2E-QP made worse on the validation windows is not saved, but the
/// one before it. Without arguments it quantizes the small model that comes with this
/// program, in a few minutes on two cores.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// Hugging Face directory of a full-precision model, or of a packed one to train on by E2E-QP
    /// [default: the bundled model]
    #[arg(long, value_name = "DIR")]
    pub(super) model: Option<PathBuf>,
    /// Bits and group size: w2g64, w3g128, w4g-1 (one group per column), w4g64-sym (symmetric)
    /// [default: w2g64, or that of a packed model]
    #[arg(long, value_name = "SCHEME")]
    pub(super) scheme: Option<Scheme>,
    /// Another scheme for the weights whose path matches a regular expression, as in
    /// down_proj=w4g64; may be repeated, the last match counts
    #[arg(long = "override", value_name = "REGEX=SCHEME")]
    pub(super) overrides: Vec<SchemeOverride>,
    /// How far to go
    #[arg(long, value_parser = method_parser(), default_value = "efficientqat")]
    pub(super) method: Method,
    /// Where to save the packed model; with E2E-QP to come, what Block-AP made is saved there first
    /// [default: not saved]
    #[arg(long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
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
    /// Sizes and learning rates that go together; what is given besides wins over them [default by the size
    /// of the model: small below a billion parameters, else paper]
    #[arg(long, value_enum, value_name = "NAME")]
    pub(super) preset: Option<Preset>,
    /// Windows that Block-AP trains on [default by preset: small 256, paper 4096]
    #[arg(long, value_name = "N")]
    pub(super) train_size: Option<usize>,
    /// Windows that the phases are validated on [default by preset: small 32, paper 64]
    #[arg(long, value_name = "N")]
    pub(super) val_size: Option<usize>,
    /// Tokens of a window [default by preset: small 256, paper 2048, and no more than the model takes]
    #[arg(long, value_name = "N")]
    pub(super) seq_len: Option<usize>,
    /// Windows of a Block-AP step [default by preset: small 4, paper 2]
    #[arg(long, value_name = "N")]
    pub(super) batch_size: Option<usize>,
    /// Epochs of each block in Block-AP [default: 2]
    #[arg(long, value_name = "N")]
    pub(super) epochs: Option<usize>,
    /// Learning rate of step sizes and zero points in Block-AP [default by preset: small
    /// 1e-3 at 2 and 3 bits, 5e-4 at 4, 1e-4 at 8; paper 1e-4]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(super) quant_lr: Option<f64>,
    /// Learning rate of weights and norms in Block-AP [default by preset: small 5e-4 at 2
    /// and 3 bits, 1e-4 at 4, 1e-5 at 8; paper 2e-5 at 2 bits, 1e-5 at others]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(super) weight_lr: Option<f64>,
    /// Windows that E2E-QP trains on [default by preset: small 512, paper 4096]
    #[arg(long, value_name = "N")]
    pub(super) e2e_size: Option<usize>,
    /// Windows of an E2E-QP step [default by preset: small 16, paper 32]
    #[arg(long, value_name = "N")]
    pub(super) e2e_batch: Option<usize>,
    /// Epochs of E2E-QP [default: 1]
    #[arg(long, value_name = "N")]
    pub(super) e2e_epochs: Option<usize>,
    /// Learning rate of step sizes in E2E-QP [default by preset: small 2e-4 at 2 bits, 1e-4 at
    /// 3, 1.5e-5 at 4, 1e-6 at 8; paper 2e-5 at 2 bits, 1e-5 at others]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(super) e2e_lr: Option<f64>,
    /// Seed of everything random
    #[arg(long, default_value_t = 42, value_name = "N")]
    pub(super) seed: u64,
    #[command(flatten)]
    pub(super) device: DeviceArg,
    /// Replace the output directory if there is one
    #[arg(long)]
    pub(super) force: bool,
    /// Write what is printed as JSON, too
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Write the run as a page of HTML, with its settings, losses, sizes and times in tables and plots
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}

impl Args {
    /// Whether each block is needed once: nothing is trained, and the model writes no text.
    pub(in crate::cli) fn goes_through_once(&self) -> bool {
        self.method == Method::Rtn && !self.writes_calibration()
    }

    /// Whether there is a text to measure perplexity on that is not calibration text.
    pub(super) fn has_eval_text(&self) -> bool {
        self.eval_text.is_some() || self.model.is_none()
    }

    /// Whether calibration text is needed: to train on, or to measure perplexity on.
    pub(super) fn needs_calibration(&self) -> bool {
        self.method > Method::Rtn || !self.has_eval_text()
    }

    /// The file with calibration text; `None` where the model writes it.
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
            Method::EfficientQat => "Block-AP, then E2E-QP: the step sizes, end to end",
        })
    });
    PossibleValuesParser::new(values).try_map(|name| name.parse::<Method>())
}
