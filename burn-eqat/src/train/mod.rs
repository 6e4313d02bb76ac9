//! The training phases. Block-AP and E2E-QP run alone or under Burn's `SupervisedTraining`, E2E-AP alone.

mod best;
mod bits_budget;
mod block_ap;
mod blockwise;
mod by_blocks;
mod cache;
mod clip;
mod devices;
mod distillation;
mod e2e_ap;
mod e2e_qp;
mod error;
mod event;
mod flow_tensors;
mod hidden;
mod kept_tensors;
mod launch;
mod matrix_grads;
mod mean_step;
pub mod metrics;
mod optimizer;
mod output;
mod param_rates;
mod phase_progress;
mod pieces;
mod progress_lines;
mod random_rounding;
mod rate;
mod rates;
mod schedule;
mod selection;
mod skips;
mod time_left;
mod trained;
mod validation;

pub use bits_budget::BitsBudgetConfig;
pub use block_ap::{
    BlockAp, BlockApConfig, BlockRates, BlockSample, BlockStep, BlockTrainer, ReconstructionLoss,
    ReconstructionLossError,
};
pub use blockwise::{Blockwise, ModelError};
pub use by_blocks::backward_by_blocks;
pub use cache::{CacheConfig, CacheDType, CacheDTypeError, FlowError, FlowParts};
pub use clip::clip_grad_norm;
pub use distillation::{DistillationConfig, Lesson, Student, Teacher, distillation_loss};
pub use e2e_ap::{E2eAp, E2eApConfig};
pub use e2e_qp::{E2eQp, E2eQpConfig};
pub use error::TrainError;
pub use event::{DataSplit, Epoch, Pass, Phase, TrainEvent};
pub use flow_tensors::{FlowMapper, FlowTensors};
pub use hidden::{Flow, Hidden};
pub use output::{QatOutput, Reconstruction, StepLoss};
pub use phase_progress::PhaseProgress;
pub use pieces::{
    for_each_piece, layer_sizes_by_block, load_blocks, schemes_by_block, size_by_block,
};
pub use progress_lines::ProgressLines;
pub use rate::{Rate, RateError};
pub use rates::LearningRates;
pub use schedule::CosineSchedule;
pub use time_left::TimeLeft;

#[cfg(feature = "lm")]
pub(crate) use cache::StateCache;
pub(crate) use devices::DeviceList;
pub(crate) use error::catch_ops;
pub(crate) use pieces::{is_loaded, is_packed, no_store, with_block};
pub(crate) use selection::{known_selection, nothing_selected};
pub(crate) use validation::validation_loss;
