use super::LearningRates;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::tensor::Tensor;
use core::fmt;
use serde::{Deserialize, Serialize};

/// One of the training phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Each block in turn, all of its parameters.
    BlockAp,
    /// All parameters of the blocks, end to end.
    E2eAp,
    /// The step sizes of the packed model, end to end.
    E2eQp,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::BlockAp => "Block-AP",
            Phase::E2eAp => "E2E-AP",
            Phase::E2eQp => "E2E-QP",
        })
    }
}

/// Training or validation data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataSplit {
    /// What is trained on.
    Train,
    /// What is validated on.
    Valid,
}

/// A pass of a phase, or of what comes before it, in which nothing is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Gradients of the loss say how much it depends on each weight.
    Sensitivity,
    /// Blocks are rounded to nearest, for comparison.
    RoundToNearest,
    /// Batches are brought to the door of the first block.
    Embed,
    /// The original block makes its targets.
    Targets,
    /// The quantized block makes the inputs of the next.
    Inputs,
    /// Block-AP's learning rates are tried on a block.
    Rates,
    /// The original makes what a model learns from end to end, once for all.
    Lessons,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pass::Sensitivity => "sensitivity",
            Pass::RoundToNearest => "round to nearest",
            Pass::Embed => "embed",
            Pass::Targets => "targets",
            Pass::Inputs => "inputs",
            Pass::Rates => "rates",
            Pass::Lessons => "lessons",
        })
    }
}

/// An epoch of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The phase.
    pub phase: Phase,
    /// The block that is trained; `None` in E2E-QP.
    pub block: Option<usize>,
    /// The number of the epoch in its phase, from 1. Block-AP counts those of all blocks.
    pub number: usize,
    /// Epochs of the phase in all.
    pub epochs: usize,
}

/// An event of a training phase. The variants are in the order in which they happen.
///
/// ```
/// use burn_eqat::train::{TrainError, TrainEvent};
///
/// /// Shows the loss of each epoch, and stops after the second block.
/// fn on_event(event: TrainEvent) -> Result<(), TrainError> {
///     match event {
///         TrainEvent::SplitEnd { epoch, split, loss } => {
///             println!("{} epoch {} {split:?}: {loss:.3e}", epoch.phase, epoch.number);
///         }
///         TrainEvent::BlockEnd { block: 1 } => return Err(TrainError::Interrupted),
///         _ => {}
///     }
///     Ok(())
/// }
/// assert!(on_event(TrainEvent::BlockEnd { block: 0 }).is_ok());
/// assert!(on_event(TrainEvent::BlockEnd { block: 1 }).is_err());
/// ```
#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, handed over and gone"
)]
pub enum TrainEvent {
    /// A phase begins.
    PhaseStart {
        /// The phase.
        phase: Phase,
        /// The number of blocks to train; 0 in E2E-QP.
        blocks: usize,
        /// Epochs of the phase in all.
        epochs: usize,
        /// The initial learning rates, as configured or chosen by the size of the model.
        rates: LearningRates,
    },
    /// What a run directory has finished of a phase is not done again.
    Resumed {
        /// The phase.
        phase: Phase,
        /// Blocks (Block-AP) or optimizer steps (E2E-QP) that were done before.
        done: usize,
        /// The validation loss of the best epoch so far, where the phase stops early.
        best: Option<f64>,
    },
    /// Block-AP has tried learning rates on a block ([`probe_rates`](super::BlockApConfig)).
    Rates {
        /// The rates from here on.
        rates: LearningRates,
        /// What the rates before were multiplied by, and the validation loss with each. A loss that is not finite is infinite.
        tried: Vec<(f64, f64)>,
    },
    /// An epoch begins to train, or to validate.
    SplitStart {
        /// The epoch.
        epoch: Epoch,
        /// Training or validation.
        split: DataSplit,
        /// Batches (Block-AP) or items (E2E-QP) to come.
        total: usize,
    },
    /// A batch was trained on, or validated.
    Batch {
        /// The epoch.
        epoch: Epoch,
        /// Training or validation.
        split: DataSplit,
        /// Batches (Block-AP) or items (E2E-QP) of this split done.
        done: usize,
        /// Batches or items of this split in all.
        total: usize,
        /// The loss, `[1]`.
        loss: Tensor<1>,
        /// The learning rates of the last step; `None` in validation and before the first step.
        rates: Option<Box<ModuleLearningRate>>,
    },
    /// A training step was left out, since a loss or a gradient was not finite.
    Skipped {
        /// The epoch.
        epoch: Epoch,
        /// What was wrong, with the step and the learning rates.
        message: String,
    },
    /// All batches of an epoch are trained on, or validated.
    SplitEnd {
        /// The epoch.
        epoch: Epoch,
        /// Training or validation.
        split: DataSplit,
        /// The mean loss.
        loss: f64,
    },
    /// An epoch is over, including any validation.
    EpochEnd {
        /// The epoch.
        epoch: Epoch,
    },
    /// A pass that trains nothing goes on: over the batches of a split, or over blocks.
    Pass {
        /// What is done in it.
        pass: Pass,
        /// The block; `None` in front of the first, and where blocks are counted.
        block: Option<usize>,
        /// Batches or blocks done.
        done: usize,
        /// Batches or blocks in all; 0 where that is not known.
        total: usize,
    },
    /// Block-AP has trained and packed a block.
    BlockEnd {
        /// The block.
        block: usize,
    },
    /// The recipe measures a model on the validation data of E2E-QP, before that phase and after it.
    Comparison {
        /// Items done.
        done: usize,
        /// Items in all.
        total: usize,
    },
}

/// A callback that gets events. An error ends the phase.
pub(super) type OnEvent<'a> = &'a mut dyn FnMut(TrainEvent) -> Result<(), super::TrainError>;
