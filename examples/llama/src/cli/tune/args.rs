use crate::cli::compute::ComputeArg;
use crate::cli::device::DeviceArg;
use crate::cli::numbers::{check_counts, check_rates, check_seq_len};
use crate::error::Error;
use crate::tune::TuneConfig;
use burn_eqat::files::{StagedDir, StagedFile};
use burn_eqat::train::Rate;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Tune a packed Llama to instructions
///
/// Trains the step sizes (E2E-QP) on conversations, with the loss on the answers only, in the model's own chat template or else in the
/// Alpaca prompt. Saves the step sizes alone (--adapter), which generate, chat, eval and export put into the same packed model, or
/// the whole model (--output).
#[derive(clap::Args, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) struct Args {
    /// Hugging Face directory of a packed model
    #[arg(long, value_name = "DIR", required_unless_present = "resume")]
    pub(super) model: Option<PathBuf>,
    /// Conversations: Alpaca records (instruction, input, output) or chats ({"messages": [{"role": .., "content": ..}, ..]}), in a
    /// JSON array or one a line
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    pub(super) data: Option<PathBuf>,
    /// Where to save the step sizes, as a safetensors file
    #[arg(long, value_name = "FILE", required_unless_present_any = ["output", "resume"])]
    pub(super) adapter: Option<PathBuf>,
    /// Where to save the whole packed model
    #[arg(long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
    /// Where to keep what is done, so that a run that is stopped can be resumed [default: the adapter, or else the output, with .run
    /// behind its name, which is removed when all is saved]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub(super) run: Option<PathBuf>,
    /// Go on with a run that was stopped, with its settings
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    #[serde(skip)]
    pub(super) resume: Option<PathBuf>,
    /// Conversations to train on, drawn at random [default: all but those for validation]
    #[arg(long, value_name = "N")]
    pub(super) train_size: Option<usize>,
    /// Conversations to validate on, which are not trained on [default: a tenth, and at most 64]
    #[arg(long, value_name = "N")]
    pub(super) val_size: Option<usize>,
    /// Longest conversation in tokens; longer ones lose their end [default: 512, and no more than the model takes]
    #[arg(long, value_name = "N")]
    pub(super) seq_len: Option<usize>,
    /// Join several conversations to windows of --seq-len tokens, where each sees those before it; without, each is padded to the
    /// length of the longest in its batch, which has conversations of about one length
    #[arg(long)]
    pub(super) packing: bool,
    /// Passes over the conversations [default: 1]
    #[arg(long, value_name = "N")]
    pub(super) epochs: Option<usize>,
    /// Conversations of a batch [default: 16]
    #[arg(long, value_name = "N")]
    pub(super) batch_size: Option<usize>,
    /// Batches whose gradients are averaged for a step [default: 1]
    #[arg(long, value_name = "N")]
    pub(super) grad_accum: Option<usize>,
    /// Learning rate of the step sizes: a number, or with an s behind it, as in 0.004s, in mean step sizes of the model [default: that of
    /// E2E-QP: below a billion parameters 0.0045s at 2 bits, 0.005s at 3, 0.0017s at 4 and 8; from there on 2e-5 at 2 bits, 1e-5 at others]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub(super) lr: Option<Rate>,
    /// Stop after that many epochs without a better validation loss, and save the best
    #[arg(long, value_name = "N")]
    pub(super) early_stopping: Option<usize>,
    /// Keep the activations of one block at a time: less memory, one more forward pass
    #[arg(long)]
    pub(super) recompute: bool,
    /// Seed of everything random [default: 42]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) compute: ComputeArg,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) device: DeviceArg,
    /// Replace an existing adapter or output directory, and a run that was stopped
    #[arg(long)]
    #[serde(skip)]
    pub(super) force: bool,
    /// Show the training on Burn's dashboard, where the output is a terminal (needs the cargo feature tui)
    #[arg(long)]
    #[serde(skip)]
    pub(super) tui: bool,
    /// Also write the results as JSON
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(super) report: Option<PathBuf>,
}

impl Args {
    /// Fails for numbers that make no sense.
    pub(super) fn check_numbers(&self) -> Result<(), Error> {
        check_counts(&[
            ("--train-size", self.train_size),
            ("--epochs", self.epochs),
            ("--batch-size", self.batch_size),
            ("--grad-accum", self.grad_accum),
            ("--early-stopping", self.early_stopping),
        ])?;
        check_rates(&[("--lr", self.lr)])?;
        check_seq_len(self.seq_len)?;
        if self.early_stopping.is_some() && self.val_size == Some(0) {
            let message = "--early-stopping needs conversations to validate on: --val-size is 0, expected 1 or more";
            return Err(Error::Setting(message.to_string()));
        }
        Ok(())
    }

    /// Fails early where the results could not be saved.
    pub(super) fn check_targets(&self) -> Result<(), Error> {
        if let Some(output) = &self.output {
            StagedDir::check(output, self.force)?;
        }
        match &self.adapter {
            Some(adapter) => self.check_adapter(adapter),
            None => Ok(()),
        }
    }

    fn check_adapter(&self, path: &Path) -> Result<(), Error> {
        if path.is_dir() {
            return Err(Error::input(path, "is a directory, expected a file's name"));
        }
        if path.exists() && !self.force {
            return Err(Error::input(path, "exists (replace it with --force)"));
        }
        // Gone again at once.
        drop(StagedFile::begin(path)?);
        Ok(())
    }

    /// The settings of the training.
    pub(super) fn config(&self) -> TuneConfig {
        let mut config = TuneConfig::new()
            .with_learning_rate(self.lr)
            .with_early_stopping(self.early_stopping)
            .with_recompute(self.recompute)
            .with_seed(self.seed());
        let given = [
            (&mut config.epochs, self.epochs),
            (&mut config.batch_size, self.batch_size),
            (&mut config.grad_accumulation, self.grad_accum),
        ];
        for (setting, given) in given {
            *setting = given.unwrap_or(*setting);
        }
        config
    }

    /// Seed of everything random.
    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or(42)
    }
}
