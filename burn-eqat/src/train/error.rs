use super::{ModelError, Phase};
use crate::QuantizeError;
use crate::module::some_paths;
use burn_eqat_kernels::OpError;

/// Training that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A loss that is not finite.
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
        /// The learning rates of the step: of the quantizer and of the weights in Block-AP, of the step sizes in E2E-QP.
        rates: Vec<f64>,
    },
    /// Gradients that are not finite.
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
        rates: Vec<f64>,
    },
    /// The model cannot be quantized as asked.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// The model's own code failed: [`Blockwise`](super::Blockwise) says where that may be.
    #[error(transparent)]
    Model(ModelError),
    /// An op that the model runs was refused.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The model names no block.
    #[error("the model has no blocks: expected one path or more")]
    NoBlocks,
    /// A block that is named twice, or is a part of another.
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
    /// Selected weights that Block-AP would never come to.
    #[error("selected weights are in no block of the model: {}", some_paths(.paths))]
    OutsideBlocks {
        /// Their paths.
        paths: Vec<String>,
    },
    /// E2E-QP of a model without packed weights.
    #[error("the model has no packed weights: expected one that was quantized before")]
    NoPackedWeights,
    /// There is nothing to train on.
    #[error("the training data has no batch")]
    NoData,
    /// A data loader failed.
    #[error("data loader: {0}")]
    Data(String),
    /// A setting that makes no sense, or that the phase cannot follow.
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

fn place(phase: &Phase, block: &Option<usize>) -> String {
    match block {
        Some(block) => format!("{phase}, block {block}"),
        None => phase.to_string(),
    }
}

fn list_rates(rates: &[f64]) -> String {
    match rates {
        [quantizer, weights] => {
            format!("{quantizer:.2e} (quantizer) and {weights:.2e} (weights)")
        }
        rates => {
            let rates: Vec<String> = rates.iter().map(|rate| format!("{rate:.2e}")).collect();
            rates.join(" and ")
        }
    }
}

/// Runs a phase. An op that is refused in it ends it with an error, though the code between is a module's `forward`, which
/// cannot fail.
pub(crate) fn catch_ops<R>(body: impl FnOnce() -> Result<R, TrainError>) -> Result<R, TrainError> {
    OpError::catch(body)?
}
