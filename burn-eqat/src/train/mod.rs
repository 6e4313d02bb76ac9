//! The two training phases, as strategies of Burn's `SupervisedTraining`.

mod best;
mod block_ap;
mod blockwise;
mod clip;
mod e2e_qp;
mod error;
mod hidden;
pub mod metrics;
mod optimizer;
mod output;
mod schedule;

pub use block_ap::{BlockAp, BlockApConfig, BlockApEvent, BlockSample, BlockTrainer};
pub use blockwise::Blockwise;
pub use clip::clip_grad_norm;
pub use e2e_qp::{E2eQp, E2eQpConfig};
pub use error::TrainError;
pub use hidden::{Flow, Hidden};
pub use output::{QatOutput, Reconstruction, StepLoss};
pub use schedule::CosineSchedule;
