use super::{ModelError, Phase, Rate};
use crate::files::FileError;
use crate::module::some_paths;
use crate::{QuantizeError, RunDirError};
use burn_eqat_kernels::OpError;
use std::path::PathBuf;

/// An error that stops training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A loss is not finite.
    #[error(
        "{}, step {step}: the loss is {loss}, with learning rate {}; expected a finite number (a lower rate may help)",
        place(.phase, .block), list_rates(.rates)
    )]
    Loss {
        /// The phase.
        phase: Phase,
        /// The block; `None` in E2E-QP.
        block: Option<usize>,
        /// The step, from 1: in Block-AP of the block. In validation the last step before it.
        step: usize,
        /// The loss.
        loss: f64,
        /// The learning rates of the step: of the quantizer and of the weights in Block-AP and E2E-AP, of the step sizes in E2E-QP.
        rates: Vec<Rate>,
    },
    /// Gradients are not finite.
    #[error(
        "{}, step {step}: the gradients have the norm {norm}, with learning rate {}; expected a finite number (a lower rate \
         may help)",
        place(.phase, .block), list_rates(.rates)
    )]
    Gradient {
        /// The phase.
        phase: Phase,
        /// The block; `None` in E2E-QP.
        block: Option<usize>,
        /// The step, from 1.
        step: usize,
        /// The norm.
        norm: f64,
        /// The learning rates, as in [`Loss`](Self::Loss).
        rates: Vec<Rate>,
    },
    /// The model cannot be quantized as requested.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// The model's own code in [`Blockwise`](super::Blockwise) failed.
    #[error(transparent)]
    Model(ModelError),
    /// An op that the model runs failed.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The run directory cannot be used, or is of another run.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The model names no block.
    #[error("the model has no blocks: expected one path or more")]
    NoBlocks,
    /// A block appears twice, or is a part of another.
    #[error("block {inner} is a part of block {outer}: expected blocks that share nothing")]
    OverlappingBlocks {
        /// A block.
        outer: String,
        /// A block at the same path, or below it.
        inner: String,
    },
    /// A block without parameters.
    #[error("block {path}: the model has no parameter at this path")]
    EmptyBlock {
        /// The path.
        path: String,
    },
    /// Selected weights are in no block, so Block-AP would never train them.
    #[error("selected weights are in no block of the model: {}", some_paths(.paths))]
    OutsideBlocks {
        /// Their paths.
        paths: Vec<String>,
    },
    /// E2E-AP needs fake-quantized weights.
    #[error(
        "the model has no fake-quantized weights: attach some (attach_fake_quant, fake_quantize_near)"
    )]
    NoFakeQuantizedWeights,
    /// E2E-QP of a model without packed weights.
    #[error("the model has no packed weights: expected one that was quantized before")]
    NoPackedWeights,
    /// There is no training data.
    #[error("the training data has no batch")]
    NoData,
    /// A data loader failed.
    #[error("data loader: {0}")]
    Data(String),
    /// Activations that cannot be kept on disk: the disk is full, or a record has changed since it was written.
    #[error("{path}: {message}")]
    Cache {
        /// The file, or the directory if there is no file yet.
        path: PathBuf,
        /// The record, counted from 0, and what is wrong with it.
        message: String,
    },
    /// A setting is invalid, or the phase does not support it.
    #[error("{0}")]
    Setting(String),
    /// Burn's training failed: a metric, a logger or a checkpoint.
    #[error("training: {0}")]
    Training(String),
    /// A callback failed.
    #[error(transparent)]
    Callback(ModelError),
    /// Stopped on request.
    #[error("training was interrupted")]
    Interrupted,
}

impl From<FileError> for TrainError {
    fn from(error: FileError) -> Self {
        RunDirError::from(error).into()
    }
}

fn place(phase: &Phase, block: &Option<usize>) -> String {
    match block {
        Some(block) => format!("{phase}, block {block}"),
        None => phase.to_string(),
    }
}

fn list_rates(rates: &[Rate]) -> String {
    match rates {
        [quantizer, weights] => {
            format!("{quantizer:.2} (quantizer) and {weights:.2} (weights)")
        }
        rates => {
            let rates: Vec<String> = rates.iter().map(|rate| format!("{rate:.2}")).collect();
            rates.join(" and ")
        }
    }
}

/// Runs a phase. The error of a failed op ends the phase, even through a module's `forward`, which returns no
/// error.
pub(crate) fn catch_ops<R>(body: impl FnOnce() -> Result<R, TrainError>) -> Result<R, TrainError> {
    OpError::catch(body)?
}
