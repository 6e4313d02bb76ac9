//! Block-AP: each block in turn, all of its parameters (the paper's section 3.2).

mod blocks;
mod config;
mod copies;
mod finished;
mod importance;
mod loss;
mod massive;
mod phase;
mod probe;
mod relative;
mod slope;
mod strategy;
mod train;
mod trainer;

pub use config::{BlockApConfig, ReconstructionLoss, ReconstructionLossError};
pub use phase::BlockAp;
pub use trainer::{BlockRates, BlockSample, BlockStep, BlockTrainer};
